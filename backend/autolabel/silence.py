"""Texts in which components were looked at and found silent: what detection shows as negatives."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch

from backend.autolabel.facts import Window
from backend.autolabel.material import SilentPool
from compute.address import Address, parse_key
from compute.decomposition.model import Decomposition
from storage.corpus import TokenCorpus
from storage.harvest import HarvestSettings

#: Texts in the pool: enough that a component that fires in most texts still has silent ones.
POOL = 400
#: Texts cut out of one window of the model.
CUTS = 4

#: Token ids [T] of one piece of text → whether each component fires at each token, [T, keys].
Look = Callable[[np.ndarray], np.ndarray]


@torch.no_grad()
def fires(model: Decomposition, keys: Sequence[str], ids: np.ndarray) -> np.ndarray:
    """Whether the causal importance of each component is above 0 at each token; ids [T] → [T, keys]."""
    columns: dict[Address, tuple[list[int], list[int]]] = {}
    for column, text in enumerate(keys):
        key = parse_key(text)
        assert isinstance(key.index, int)
        places, indices = columns.setdefault(key.address, ([], []))
        places.append(column)
        indices.append(key.index)
    device = model.target.token_embedding.weight.device
    tokens = torch.from_numpy(ids.astype(np.int64))[None].to(device)
    _, inputs = model.clean_pass(tokens)
    found = np.zeros((len(ids), len(keys)), bool)
    importance_at = model.importance_at(inputs)
    for address, (places, indices) in columns.items():
        ci = importance_at(address, None)[0]
        found[:, places] = (ci[:, indices] > 0).cpu().numpy()
    return found


def silent_pool(
    look: Look,
    corpus: TokenCorpus,
    settings: HarvestSettings,
    keys: Sequence[str],
    texts: Sequence[str],
    seed: int,
    *,
    size: int = POOL,
) -> SilentPool:
    """Look at ``size`` random texts to see which components fire where.

    ``texts`` are the tokens' texts. The model sees as many tokens at once as in the harvest, of one
    document; the texts are as long as examples are. The same for the same seed. ``look`` is called once
    for each piece, so that others may have the model in between.
    """
    rng = random.Random(f"{seed}/pool")
    windows: list[Window] = []
    rows: list[np.ndarray] = []
    for start, end in _contexts(corpus, settings, rng, size):
        if len(windows) >= size:
            break
        firing = look(corpus.tokens[start:end])
        for first in _cuts(end - start, settings.length, rng):
            cut = slice(first, first + settings.length)
            ids: list[int] = corpus.tokens[start:end][cut].tolist()
            centre = min(settings.left, len(ids) - 1)
            nothing = (0.0,) * len(ids)
            windows.append(
                Window(start + first + centre, tuple([texts[i] for i in ids]), nothing, nothing, centre)
            )
            rows.append(np.any(firing[cut], axis=0))
    fired = np.stack(rows) if rows else np.zeros((0, len(keys)), bool)
    return SilentPool(windows[:size], keys, fired[:size])


def _contexts(
    corpus: TokenCorpus, settings: HarvestSettings, rng: random.Random, size: int
) -> list[tuple[int, int]]:
    """Pieces of documents that do not overlap, in random order, of at most a window of the model."""
    pieces: list[tuple[int, int]] = []
    for document in range(corpus.n_documents):
        first, end = int(corpus.offsets[document]), int(corpus.offsets[document + 1])
        pieces += [(at, min(at + settings.window, end)) for at in range(first, end, settings.window)]
    # The end of a document may leave less than one text.
    pieces = [piece for piece in pieces if piece[1] - piece[0] >= settings.length] or pieces
    rng.shuffle(pieces)
    return pieces[:size]


def _cuts(length: int, cut: int, rng: random.Random) -> list[int]:
    """Where up to :data:`CUTS` texts of ``cut`` tokens begin, without overlapping."""
    slots = max(1, length // cut)
    chosen = sorted(rng.sample(range(slots), min(CUTS, slots)))
    spare = max(0, length - slots * cut)
    shift = rng.randint(0, spare)
    return [slot * cut + shift for slot in chosen]
