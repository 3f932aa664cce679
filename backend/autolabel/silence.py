"""Texts in which components were looked at and found silent: what detection shows as negatives."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch

from backend.autolabel.facts import Window
from backend.autolabel.material import SilentPool
from compute.address import Address, parse_key
from compute.decomposition.model import Decomposition
from compute.progress import Report, silent
from storage.corpus import TokenCorpus
from storage.harvest import HarvestSettings

#: Texts in the pool: enough that a component that fires in most texts still has silent ones.
POOL = 400
#: Texts cut out of one window of the model.
CUTS = 4


@torch.no_grad()
def silent_pool(
    model: Decomposition,
    corpus: TokenCorpus,
    settings: HarvestSettings,
    keys: Sequence[str],
    texts: Sequence[str],
    seed: int,
    *,
    size: int = POOL,
    report: Report = silent,
) -> SilentPool:
    """Run the model over ``size`` random texts and see which components fire where.

    ``texts`` are the tokens' texts. The model sees as many tokens at once as in the harvest, of one
    document; the texts are as long as examples are. The same for the same seed.
    """
    rng = random.Random(f"{seed}/pool")
    columns: dict[Address, tuple[list[int], list[int]]] = {}
    for column, key in enumerate(keys):
        found = parse_key(key)
        assert isinstance(found.index, int)
        places, indices = columns.setdefault(found.address, ([], []))
        places.append(column)
        indices.append(found.index)
    device = model.target.token_embedding.weight.device
    windows: list[Window] = []
    rows: list[np.ndarray] = []
    for start, end in _contexts(corpus, settings, rng, size):
        if len(windows) >= size:
            break
        report("silent texts", len(windows), size)
        tokens = torch.from_numpy(corpus.tokens[start:end].astype(np.int64))[None].to(device)
        _, inputs = model.clean_pass(tokens)
        fires = np.zeros((end - start, len(keys)), bool)
        for address, (places, indices) in columns.items():
            ci = model.causal_importance({address: inputs[address]})[address][0]
            fires[:, places] = (ci[:, indices] > 0).cpu().numpy()
        for first in _cuts(end - start, settings.length, rng):
            cut = slice(first, first + settings.length)
            ids: list[int] = corpus.tokens[start:end][cut].tolist()
            centre = min(settings.left, len(ids) - 1)
            nothing = (0.0,) * len(ids)
            windows.append(
                Window(start + first + centre, tuple([texts[i] for i in ids]), nothing, nothing, centre)
            )
            rows.append(np.any(fires[cut], axis=0))
    report("silent texts", size, size)
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
