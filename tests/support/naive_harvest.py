"""A harvest made the slow way, position by position: what the quick one is compared with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import numpy as np
import torch

from compute.decomposition.model import Decomposition
from compute.statistics.sampling import priorities, strengths
from storage.corpus import TokenCorpus
from storage.files import publish
from storage.harvest_manifest import HIGH_BITS, LOW_BITS, MASS_BITS, HarvestManifest, HarvestSettings
from storage.harvest_writer import write_harvest
from storage.run_directory import RunDirectory

GROUPS = 16
TINY_SETTINGS = HarvestSettings(
    left=4, right=3, n_random=6, n_strongest=5, window=32, batch_size=8, batches=None
)


def batches_of(
    corpus: TokenCorpus, group: int, settings: HarvestSettings
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Corpus positions and documents [B, T] of each batch of a group."""
    chosen = range(group, corpus.n_documents, GROUPS)
    place = np.concatenate([np.arange(corpus.offsets[i], corpus.offsets[i + 1]) for i in chosen])
    document = np.repeat(list(chosen), [corpus.offsets[i + 1] - corpus.offsets[i] for i in chosen])
    t, full = settings.window, len(place) // settings.window
    for first in range(0, full, settings.batch_size):
        rows = slice(first * t, min(first + settings.batch_size, full) * t)
        yield place[rows].reshape(-1, t), document[rows].reshape(-1, t)
    if len(place) % t:
        yield place[None, full * t :], document[None, full * t :]


@torch.no_grad()
def naive_harvest(
    run: RunDirectory, decomposition: Decomposition, settings: HarvestSettings = TINY_SETTINGS
) -> tuple[HarvestManifest, dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Manifest, totals and one block for each component."""
    corpus = run.corpus()
    addresses = sorted(decomposition.addresses)
    vocab = decomposition.target.config.vocab_size
    ci_parts, y_parts, p_parts, places, documents, windows = [], [], [], [], [], []
    covered: dict[str, list[tuple[int, int]]] = {}
    window = 0
    for group in range(GROUPS):
        n = 0
        for place, document in batches_of(corpus, group, settings):
            tokens = torch.from_numpy(corpus.tokens[place].astype(np.int64))
            logits, inputs = decomposition.clean_pass(tokens)
            importance = decomposition.causal_importance(inputs)
            ci_parts.append(torch.cat([importance[a].flatten(0, 1) for a in addresses], 1).numpy())
            scaled = [
                (inputs[a] @ decomposition.V(a)).flatten(0, 1) * decomposition.U(a).norm(dim=1)
                for a in addresses
            ]
            y_parts.append(torch.cat(scaled, 1).numpy())
            p_parts.append(torch.softmax(logits, -1).flatten(0, 1).double().numpy())
            places.append(place.reshape(-1))
            documents.append(document.reshape(-1))
            windows.append(np.repeat(np.arange(window, window + len(place)), place.shape[1]))
            window += len(place)
            n += 1
        covered[str(group)] = [(0, n)]
    ci, y, p = np.concatenate(ci_parts), np.concatenate(y_parts), np.concatenate(p_parts)
    place, document = np.concatenate(places), np.concatenate(documents)
    seen_in = np.concatenate(windows)
    fires = ci > settings.threshold
    joint = fires.T.astype(np.int64) @ fires.astype(np.int64)
    mass = fires.T.astype(np.float64) @ p
    # Where a window and a document are left behind on either side of each position.
    start = np.flatnonzero(np.r_[True, (np.diff(seen_in) != 0) | (np.diff(document) != 0), True])
    span = np.searchsorted(start, np.arange(len(place)), side="right")
    before, after = np.arange(len(place)) - start[span - 1], start[span] - 1 - np.arange(len(place))

    blocks: list[dict[str, np.ndarray]] = []
    for c in range(ci.shape[1]):
        at = np.flatnonzero(fires[:, c])
        block: dict[str, np.ndarray] = {
            "firing_count": np.array([len(at)]),
            "ci_sum": two_parts(ci[:, c].sum(dtype=np.float64)),
            "ci_max": np.array([ci[:, c].max()], np.float32),
            "activation_sum": two_parts(y[:, c].sum(dtype=np.float64)),
            "activation_square_sum": two_parts((y[:, c].astype(np.float64) ** 2).sum()),
            "firing_activation_sum": two_parts(y[at, c].sum(dtype=np.float64)),
            "activation_min": np.array([y[:, c].min()], np.float32),
            "activation_max": np.array([y[:, c].max()], np.float32),
        }
        half = settings.bins // 2
        exponent = -120
        largest = float(np.abs(y[at, c]).max(initial=0))
        while largest and largest >= half * 2.0**exponent:
            exponent += 1
        block["histogram_exponent"] = np.array([exponent])
        bins = np.floor(y[at, c] / 2.0**exponent).astype(int) + half
        block["histogram"] = np.bincount(bins, minlength=settings.bins)[None]
        flat = np.full(len(at), c)
        for kind, key, k in (
            ("random", priorities(settings.seed, flat, place[at]), settings.n_random),
            ("strongest", strengths(ci[at, c], y[at, c]), settings.n_strongest),
        ):
            order = np.lexsort((place[at], key))[:k]
            rows = at[order]
            b, a = np.minimum(before[rows], settings.left), np.minimum(after[rows], settings.right)
            offset = np.arange(-settings.left, settings.right + 1)
            inside = (offset >= -b[:, None]) & (offset <= a[:, None])
            around = np.where(inside, rows[:, None] + offset, 0)
            columns = {
                "offsets": np.array([0, len(rows)]),
                "key": key[order],
                "position": place[rows],
                "document": document[rows],
                "before": b,
                "after": a,
                "ci": np.where(inside, ci[around, c], 0).astype(np.float32),
                "activation": np.where(inside, y[around, c], 0).astype(np.float32),
            }
            block |= {f"{kind}/{name}": value for name, value in columns.items()}
        tokens = np.bincount(corpus.tokens[place[at]], minlength=vocab)
        others = np.where(np.arange(len(joint)) == c, 0, joint[c])
        fixed = np.rint(mass[c] * 2.0**MASS_BITS).astype(np.int64)
        for section, values in (("input", tokens), ("output", fixed), ("cofiring", others)):
            ids = np.flatnonzero(values)
            block |= {
                f"{section}/offsets": np.array([0, len(ids)]),
                f"{section}/ids": ids,
                f"{section}/values": values[ids],
            }
        blocks.append(block)
    seen = np.zeros(corpus.n_documents, np.uint8)
    seen[document] = 1
    totals = {
        "token_count": np.bincount(corpus.tokens[place], minlength=vocab).astype(np.int64),
        "output_mass": np.rint(p.sum(0) * 2.0**MASS_BITS).astype(np.int64),
        "documents_seen": np.packbits(seen),
    }
    manifest = HarvestManifest(
        store_id=secrets.token_hex(16),
        settings=settings,
        encoding="exact",
        model_sha256=run.info.files["model.safetensors"],
        corpus_sha256=corpus.sha256,
        n_groups=GROUPS,
        covered=covered,
        tokens=len(place),
        documents=int(seen.sum()),
        vocab_size=vocab,
        sites=[(str(a), decomposition.n_components[a]) for a in addresses],
        complete={"input": True, "output": True, "cofiring": True},
        sizes={},
        arrays_sha256="",
        provenance={"made_by": "tests"},
    )
    return manifest, totals, blocks


def two_parts(value: float) -> np.ndarray:
    """[1, 2] whole numbers that stand for ``value``."""
    quanta = round(value * 2**LOW_BITS)
    high = quanta >> (LOW_BITS - HIGH_BITS)
    return np.array([[high, quanta - (high << (LOW_BITS - HIGH_BITS))]])


def write_naive_harvest(
    run: RunDirectory, decomposition: Decomposition, settings: HarvestSettings = TINY_SETTINGS
) -> str:
    """Add a harvest subrun of the whole toy corpus to a run; its name."""
    manifest, totals, blocks = naive_harvest(run, decomposition, settings)
    folder = run.path / "harvest"
    work = folder / f".writing-{manifest.store_id[:8]}"
    work.mkdir(parents=True)
    write_harvest(work, manifest, totals, blocks, run.corpus().tokens)
    return publish(work, folder)
