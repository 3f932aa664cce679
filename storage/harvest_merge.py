"""Adding harvests of different batches of one text: shards of one computation, or of several machines.

Counts, sums and samples are made so that the result is, bit for bit, that of one pass over all the
batches together (docs/file-format.md). Memory stays bounded: components are merged one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storage.errors import SettingsDifferError, StorageError
from storage.harvest import Harvest, Kind
from storage.harvest_manifest import HIGH_BITS, LOW_BITS, MASS_BITS, PER_COMPONENT, HarvestManifest
from storage.harvest_records import EXAMPLE_COLUMNS
from storage.harvest_writer import Block, write_harvest

#: n_ab [n ids], n_a, n_b [n ids], N → the ids that a small copy keeps.
Select = Callable[[np.ndarray, float, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Compact:
    """How to make a small copy: which entries of each list stay, how many examples, and a note."""

    select: Select
    note: str
    n_random: int
    n_strongest: int


def check_mergeable(parts: Sequence[Harvest]) -> None:
    """Raises :class:`SettingsDifferError` or :class:`StorageError` for what cannot be added."""
    first = parts[0].manifest
    for part in parts:
        m = part.manifest
        if m.encoding != "exact":
            raise StorageError(
                f"{part.path} is a small copy, which left out what a merge needs",
                "merge the full harvests, and make the small copy of the result",
            )
        different = [
            name
            for name in type(m.settings).model_fields
            if getattr(m.settings, name) != getattr(first.settings, name)
        ]
        different += [
            name
            for name in ("model_sha256", "corpus_sha256", "n_groups", "vocab_size", "sites")
            if getattr(m, name) != getattr(first, name)
        ]
        if different:
            raise SettingsDifferError(
                f"{part.path} and {parts[0].path} were not made in the same way ({', '.join(different)})",
                "merge harvests of one run with the same settings",
            )
    _covered(parts)


def _covered(parts: Sequence[Harvest]) -> dict[str, list[tuple[int, int]]]:
    """The ranges of batches that the parts count; raises :class:`StorageError` where two share any."""
    owners: dict[str, list[tuple[int, int, Harvest]]] = {}
    for part in parts:
        for group, ranges in part.manifest.covered.items():
            owners.setdefault(group, []).extend((a, b, part) for a, b in ranges)
    joined: dict[str, list[tuple[int, int]]] = {}
    for group in sorted(owners, key=int):
        ranges = sorted(owners[group], key=lambda entry: entry[:2])
        whole: list[tuple[int, int]] = []
        previous: Harvest | None = None
        for first, last, part in ranges:
            if whole and first < whole[-1][1]:
                assert previous is not None
                raise StorageError(
                    f"{previous.path} and {part.path} both count batches of group {group}",
                    "every part of the text may be counted once only",
                )
            if whole and first == whole[-1][1]:
                whole[-1] = (whole[-1][0], last)
            else:
                whole.append((first, last))
            previous = part
        joined[group] = whole
    return joined


def merge_harvests(
    folder: Path,
    parts: Sequence[Harvest],
    *,
    store_id: str,
    provenance: Mapping[str, str],
    compact: Compact | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Fill the empty ``folder`` with the sum of ``parts``; a small copy of it where ``compact`` is given.

    ``progress`` is told how many components are done.
    """
    check_mergeable(parts)
    arrays = _arrays(parts)
    seen = arrays.pop("documents_seen")
    first = parts[0].manifest
    settings, complete = first.settings, dict.fromkeys(first.complete, True)
    if settings.output_floor > 0:
        complete["output"] = False
    if compact is not None:
        settings = settings.model_copy(
            update={
                "compact": compact.note,
                "n_random": min(settings.n_random, compact.n_random),
                "n_strongest": min(settings.n_strongest, compact.n_strongest),
            }
        )
        complete = dict.fromkeys(complete, False)
    manifest = HarvestManifest(
        store_id=store_id,
        settings=settings,
        encoding="exact" if compact is None else "compact",
        model_sha256=first.model_sha256,
        corpus_sha256=first.corpus_sha256,
        n_groups=first.n_groups,
        covered=_covered(parts),
        tokens=sum(part.tokens for part in parts),
        documents=int(np.unpackbits(seen).sum()),
        vocab_size=first.vocab_size,
        sites=first.sites,
        complete=complete,
        sizes={},
        arrays_sha256="",
        provenance=dict(provenance),
    )
    totals = {name: arrays[name] for name in ("token_count", "output_mass")} | {"documents_seen": seen}
    blocks = _blocks(parts, manifest, arrays, compact, progress)
    write_harvest(folder, manifest, totals, blocks, parts[0].corpus_tokens)


def _arrays(parts: Sequence[Harvest]) -> dict[str, np.ndarray]:
    """The arrays of all parts together."""
    result: dict[str, np.ndarray] = {}
    for name in (*PER_COMPONENT, "token_count", "output_mass", "documents_seen"):
        values = [part.arrays[name] for part in parts]
        if name == "documents_seen":
            result[name] = np.bitwise_or.reduce(values)
        elif name in ("ci_max", "activation_max"):
            result[name] = np.maximum.reduce(values)
        elif name == "activation_min":
            result[name] = np.minimum.reduce(values)
        else:
            result[name] = np.add.reduce(values)
            if PER_COMPONENT.get(name):
                _carry(result[name])
    return result


def _carry(parts: np.ndarray) -> None:
    bits = LOW_BITS - HIGH_BITS
    parts[:, 0] += parts[:, 1] >> bits
    parts[:, 1] &= (1 << bits) - 1


def _blocks(
    parts: Sequence[Harvest],
    manifest: HarvestManifest,
    arrays: Mapping[str, np.ndarray],
    compact: Compact | None,
    progress: Callable[[int], None],
) -> Iterator[Block]:
    n = parts[0].n_components
    ids = {"input": manifest.vocab_size, "output": manifest.vocab_size, "cofiring": n}
    settings = manifest.settings
    for flat in range(n):
        block: dict[str, np.ndarray] = {name: arrays[name][flat : flat + 1] for name in PER_COMPONENT}
        exponent, counts = _histogram([part.raw_histogram(flat) for part in parts])
        block |= {"histogram_exponent": np.array([exponent]), "histogram": counts[None]}
        kinds: tuple[tuple[Kind, int], ...] = (
            ("random", settings.n_random),
            ("strongest", settings.n_strongest),
        )
        for kind, k in kinds:
            columns = _examples([part.raw_examples(flat, kind)[0] for part in parts], k)
            block[f"{kind}/offsets"] = np.array([0, len(columns["key"])])
            block |= {f"{kind}/{name}": value for name, value in columns.items()}
        for section in ("input", "output", "cofiring"):
            joint = np.zeros(ids[section], np.int64)
            for part in parts:
                where, values = part.raw_list(section, flat)
                joint[where] += values
            kept = (
                np.flatnonzero(joint)
                if compact is None
                else _strongest(section, joint, flat, arrays, manifest, compact)
            )
            block |= {
                f"{section}/offsets": np.array([0, len(kept)]),
                f"{section}/ids": kept,
                f"{section}/values": joint[kept],
            }
        yield block
        progress(flat + 1)


def _histogram(parts: list[tuple[int, np.ndarray]]) -> tuple[int, np.ndarray]:
    """Histograms added at the coarsest of their bins."""
    exponent = max(e for e, _ in parts)
    total = np.zeros_like(parts[0][1])
    half = len(total) // 2
    for e, counts in parts:
        index = (np.arange(-half, half) >> min(exponent - e, 62)) + half
        np.add.at(total, index, counts)
    return exponent, total


def _examples(parts: list[dict[str, np.ndarray]], k: int) -> dict[str, np.ndarray]:
    """The ``k`` examples with the smallest keys, equal ones by position."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in EXAMPLE_COLUMNS}
    order = np.lexsort((joined["position"], joined["key"]))[:k]
    return {name: values[order] for name, values in joined.items()}


def _strongest(
    section: str,
    joint: np.ndarray,
    flat: int,
    arrays: Mapping[str, np.ndarray],
    manifest: HarvestManifest,
    compact: Compact,
) -> np.ndarray:
    """The ids that a small copy keeps of one list."""
    others = {"input": "token_count", "output": "output_mass", "cofiring": "firing_count"}[section]
    counts = arrays[others].astype(np.float64)
    scale = 1.0
    if section == "output":
        scale = 2.0**-MASS_BITS
    if section == "cofiring":
        counts[flat] = 0.0  # itself is no other
    n_a = float(arrays["firing_count"][flat])
    if n_a == 0:
        return np.zeros(0, np.int64)
    return np.sort(compact.select(joint * scale, n_a, counts * scale, float(manifest.tokens)))
