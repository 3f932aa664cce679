"""Our attributions as a published file of four edge types, which the public code's reader loads.

The file is what ``torch.save`` makes of a table of tensors, float32 with token counts as int64: raw
sums for each pair of layers, sources weighted by causal importance, and what they are normalised by
(backend/importing/published_sums.py reads it back). Tensors are filled piece by piece in a scratch file
beside it, so memory does not grow with the store; the disk needs twice the file's size for a moment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compute.address import OUTPUT, parse_address
from compute.progress import Report
from storage.attributions import AttributionStore
from storage.errors import StorageError
from storage.layout import ReadPoint, RowBlock

#: Numbers read from the store at a time.
_CELLS = 1 << 22


@dataclass(frozen=True)
class Exported:
    """``left_out`` are full sentences: what the store has and the format no place for."""

    path: Path
    size: int
    n_matrices: int
    left_out: tuple[str, ...]


def export_four_edge(store: AttributionStore, path: Path, report: Report | None = None) -> Exported:
    """Write a store's attributions to ``path``, which appears by one rename.

    Raises :class:`StorageError` for a store whose numbers mean something else than the format's, and
    where there is no room or something at ``path`` already.
    """
    _check(store)
    if path.exists():
        raise StorageError(f"{path} exists already", "choose another path, or remove it first")
    if not path.parent.is_dir():
        raise StorageError(f"there is no folder {path.parent}", "make it first")
    magnitudes, left_out = _left_out(store)
    pairs = list(_pairs(store, magnitudes=magnitudes))
    room = sum(pair.cells for pair in pairs) * 4
    if shutil.disk_usage(path.parent).free < 2 * room + (1 << 24):
        raise StorageError(
            f"the file takes {room:,} bytes, and as many while it is written", "make room on the disk"
        )
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with _scratch(path, room) as scratch:
            content = _content(store, pairs, scratch, report)
            with temporary.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror})", "write it elsewhere") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(path, path.stat().st_size, len(pairs), left_out)


def _check(store: AttributionStore) -> None:
    if store.normalisation == "tokens":
        raise StorageError(
            f"{store.subrun} holds means over tokens, without the sums that the format normalises by",
            "export a subrun that tributary attribute has computed",
        )
    if not store.ci_weighted:
        raise StorageError(
            f"the sources of {store.subrun} are not weighted by causal importance, as the format has them",
            "compute attributions without --unweighted, and export those",
        )


def _left_out(store: AttributionStore) -> tuple[bool, tuple[str, ...]]:
    """Whether attr_abs can be written, and what cannot."""
    settings = store.manifest.settings
    kinds = {block.kind for point in settings.layouts for block in point.blocks}
    sentences: list[str] = []
    others = [
        f"{'biase' if kind == 'bias' else kind}s" for kind in ("delta", "bias", "position") if kind in kinds
    ]
    if others:
        sentences.append(f"Sources other than tokens and components are left out: {', '.join(others)}.")
    if store.delta == "node":
        sentences.append(
            "The sums were computed with deltas, so that activations are the target model's own; the public code "
            "leaves deltas out of its forward pass, and the file does not say which."
        )
    magnitudes = "attr_abs" in store.metrics
    if magnitudes and store.abs_tokens != store.tokens:
        magnitudes = False
        sentences.append(
            f"attr_abs is left out: it rests on {store.abs_tokens:,} of {store.tokens:,} tokens, and the format "
            "normalises it like attr."
        )
    elif not magnitudes:
        sentences.append("There is no attr_abs in this subrun, so there is none in the file.")
    partial = {a: n for a, n in settings.abs_targets.items() if a != "output"} if magnitudes else {}
    if partial:
        sizes = {a: len(store.statistic(f"activation_square_sum/{a}")) for a in partial}
        count = sum(sizes[a] - len(kept) for a, kept in partial.items())
        sentences.append(
            f"attr_abs into {count:,} components is not in this subrun; the file has zeros there, as the public code "
            "writes for components that are never alive."
        )
    if store.has_output_abs:
        sentences.append("attr_abs into output tokens is left out.")
    if "attr_frozen" in store.metrics:
        sentences.append("attr_frozen is left out.")
    if store.n_groups:
        sentences.append("Sums by group of documents, and so standard errors, are left out.")
    return magnitudes, tuple(sentences)


@dataclass(frozen=True)
class _Pair:
    """A matrix of the file, [targets, sources]: ``key`` is its place in the table."""

    key: tuple[str, ...]
    point: ReadPoint
    block: RowBlock
    n_targets: int

    @property
    def cells(self) -> int:
        return self.n_targets * self.block.count


def _pairs(store: AttributionStore, *, magnitudes: bool) -> Iterator[_Pair]:
    for point in store.manifest.settings.layouts:
        for reader in point.readers:
            for block in point.blocks:
                if block.kind not in ("embed", "component"):
                    continue
                tokens = block.kind == "embed"
                if reader == str(OUTPUT):
                    key = ("embed_unembed_attr",) if tokens else ("unembed_attr", block.address)
                    yield _Pair(key, point, block, point.d_in)
                    continue
                n = len(store.statistic(f"activation_square_sum/{reader}"))
                for suffix in ("", "_abs") if magnitudes else ("",):
                    key = (f"embed_attr{suffix}", reader)
                    if not tokens:
                        key = (f"regular_attr{suffix}", reader, block.address)
                    yield _Pair(key, point, block, n)


def _content(
    store: AttributionStore, pairs: list[_Pair], scratch: np.ndarray, report: Report | None
) -> dict[str, Any]:
    """The table that is saved; its matrices lie in ``scratch``."""
    sites = {
        b.address for point in store.manifest.settings.layouts for b in point.blocks if b.kind == "component"
    }
    sites |= {r for point in store.manifest.settings.layouts for r in point.readers if r != str(OUTPUT)}
    ordered = [str(address) for address in sorted(map(parse_address, sites))]

    def statistic(name: str) -> torch.Tensor:
        return torch.from_numpy(store.statistic(name).astype(np.float32))

    targets = [r for point in store.manifest.settings.layouts for r in point.readers if r != str(OUTPUT)]
    has_abs = any(pair.key[0].endswith("_abs") for pair in pairs)
    content: dict[str, Any] = {
        # Every target has its table, an empty one where only tokens flow in: the public code does so.
        "regular_attr": {target: {} for target in targets},
        "regular_attr_abs": {target: {} for target in targets} if has_abs else {},
        "embed_attr": {},
        "embed_attr_abs": {},
        "unembed_attr": {},
        "w_unembed": torch.from_numpy(np.ascontiguousarray(store.unembedding.T, np.float32)),
        "ci_sum": {site: statistic(f"ci_sum/{site}") for site in ordered},
        "component_act_sq_sum": {site: statistic(f"activation_square_sum/{site}") for site in ordered},
        "logit_sq_sum": statistic("logit_square_sum"),
        "embed_token_count": torch.from_numpy(np.rint(store.statistic("token_count")).astype(np.int64)),
        "ci_threshold": float(store.manifest.settings.options.get("ci_threshold", "0")),
        "n_tokens_processed": store.tokens,
    }
    total, done = sum(pair.cells for pair in pairs), 0
    for pair in pairs:
        place: Any = content
        for part in pair.key[:-1]:
            place = place[part]
        matrix = scratch[done : done + pair.cells].reshape(pair.n_targets, pair.block.count)
        _fill(store, pair, matrix)
        place[pair.key[-1]] = torch.from_numpy(matrix)
        done += pair.cells
        if report is not None:
            report("matrices", done, total)
    return content


def _fill(store: AttributionStore, pair: _Pair, matrix: np.ndarray) -> None:
    """Copy the edges of a pair, a bounded number at a time; targets without attr_abs keep zeros."""
    step = max(1, _CELLS // pair.n_targets)
    for first in range(0, pair.block.count, step):
        columns = slice(first, min(first + step, pair.block.count))
        rows = slice(pair.block.offset + columns.start, pair.block.offset + columns.stop)
        if pair.key[0] in ("embed_unembed_attr", "unembed_attr"):
            matrix[:, columns] = store.residual(rows).T
            continue
        metric = "attr_abs" if pair.key[0].endswith("_abs") else "attr"
        values, targets = store.raw_edges(pair.point, rows, parse_address(pair.key[1]), metric)
        matrix[targets, columns] = values.T


@contextmanager
def _scratch(path: Path, size: int) -> Generator[np.ndarray]:
    """Zeros of so many bytes in a file beside ``path``, [size / 4] float32; the file is gone afterwards."""
    file = path.with_name(f".{path.name}.matrices")
    try:
        yield np.memmap(file, np.float32, "w+", shape=(max(1, size // 4),))
    finally:
        file.unlink(missing_ok=True)
