"""The attribution store: strongest sources and targets of a key, and single edges, from raw sums.

Stored are sums over a corpus, in 16 groups of documents; normalisation, standard errors and the
frozen-norm variant happen at query time (storage/jackknife.py, storage/operands.py). Opening reads
the manifest and nothing else; a query reads, and verifies, the blocks that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from compute.address import OUTPUT, Address, Key, parse_address
from storage.errors import NotComputedError, StoreDamagedError, UnknownKeyError
from storage.jackknife import normalise, standard_errors, supports
from storage.layout import Manifest, Metric, ReadPoint, RowBlock
from storage.manifest import read_manifest
from storage.model_tensors import ModelTensors
from storage.operands import Operands
from storage.planes import FullPlanes
from storage.results import Attribution, Entry, TopEntries

__all__ = ["Attribution", "AttributionStore", "Entry", "Metric", "TopEntries"]

Sign = Literal["positive", "negative"]


@dataclass(frozen=True)
class _Edges:
    """Edges of one read point: ``rows[i]`` into ``targets[i]`` of ``readers[i]``."""

    point: ReadPoint
    rows: list[int]
    readers: list[Address]
    targets: list[int]


class AttributionStore:
    """An attribution subrun that exists. Threads may share one."""

    def __init__(self, path: Path, manifest: Manifest, operands: Operands) -> None:
        self.path = path
        self.manifest = manifest
        self._operands = operands
        self._planes = FullPlanes(path, manifest)
        self._points = {point.name: point for point in manifest.settings.layouts}
        self._point_of = {
            parse_address(reader): point for point in manifest.settings.layouts for reader in point.readers
        }
        self._abs_rows = {
            parse_address(name): {index: row for row, index in enumerate(indices)}
            for name, indices in manifest.settings.abs_targets.items()
        }
        self._denominators: dict[tuple[str, bool], np.ndarray] = {}
        self._squares: dict[str, np.ndarray] = {}

    @classmethod
    def open(cls, path: Path, tensors: ModelTensors, model_sha256: str) -> AttributionStore:
        """Raises :class:`StoreDamagedError` for a damaged manifest, missing or cut files, or a store
        that was made from another model."""
        manifest = read_manifest(path)
        if manifest.settings.model_sha256 != model_sha256:
            raise StoreDamagedError(
                path / "manifest.json", "belongs to another model than this run's model.safetensors"
            )
        for name, check in manifest.model_tensors.items():
            if name not in tensors or tensors.shape(name) != check.shape:
                raise StoreDamagedError(
                    path / "manifest.json", f"names {name}, which the run's model does not have so"
                )
        operands = Operands(tensors, manifest.model_tensors, centred_norm=manifest.settings.centred_norm)
        return cls(path, manifest, operands)

    # What the store is.

    @property
    def subrun(self) -> str:
        return self.path.name

    @property
    def delta(self) -> Literal["node", "off"]:
        return self.manifest.settings.delta

    @property
    def ci_weighted(self) -> bool:
        return self.manifest.settings.ci_weighted

    @property
    def tokens(self) -> int:
        return self.manifest.tokens

    @property
    def abs_tokens(self) -> int:
        """Tokens that attr_abs rests on; 0 where it was not computed."""
        return self.manifest.abs_tokens

    @property
    def n_groups(self) -> int:
        return self.manifest.settings.n_groups

    @property
    def metrics(self) -> tuple[Metric, ...]:
        computed = self.manifest.settings.metrics
        return tuple(m for m in ("attr", "attr_abs", "attr_frozen") if m == "attr_frozen" or m in computed)

    @property
    def has_output_abs(self) -> bool:
        return self._planes.has(f"abs/{OUTPUT}")

    @property
    def encoding(self) -> Literal["full", "compact"]:
        return self.manifest.encoding

    # Queries.

    def top_sources(
        self, key: Key, k: int, sign: Sign, metric: Metric = "attr", *, normalised: bool = True
    ) -> TopEntries:
        """The ``k`` strongest sources of a component or an output token.

        Raises :class:`UnknownKeyError`, :class:`NotComputedError`, :class:`StoreDamagedError`.
        """
        reader, target = self._target(key)
        point = self._point_of[reader]
        part = self._part(metric)
        raw = self._scan_sources(point, reader, target, metric)
        values = raw
        if normalised:
            squares = self._target_squares(reader, part, metric)[target]
            values = normalise(raw, self._source_denominators(point, part), squares, self._tokens(part))
        chosen, total, total_value = _strongest(values, k, sign)
        edges = _Edges(point, chosen, [reader] * len(chosen), [target] * len(chosen))
        entries = self._entries(edges, metric, normalised, sources=True)
        return TopEntries(_ordered(entries), total, total_value, self._token_count(metric))

    def top_targets(
        self,
        key: Key,
        k: int,
        sign: Sign,
        metric: Metric = "attr",
        *,
        include_outputs: bool = True,
        normalised: bool = True,
    ) -> TopEntries:
        """The ``k`` strongest targets of a source, over all sites it flows into directly (and the
        output tokens). For ``attr_abs`` the output tokens take part where they were computed."""
        places = self._source(key)
        part = self._part(metric)
        readers: list[tuple[ReadPoint, int, Address]] = []
        absent = ""
        for point, row in places:
            for reader in map(parse_address, point.readers):
                if reader == OUTPUT and not include_outputs:
                    continue
                if metric == "attr_abs" and not self._planes.has(f"abs/{reader}"):
                    absent = self._abs_reason(reader)
                    continue
                readers.append((point, row, reader))
        if not readers:
            raise NotComputedError(
                absent or f"nothing reads {key} but the output tokens, which were not asked for"
            )
        values: list[np.ndarray] = []
        for point, row, reader in readers:
            raw = self._scan_targets(point, row, reader, metric)
            if normalised:
                squares = self._target_squares(reader, part, metric)[self._abs_indices(reader, metric)]
                denominator = self._source_denominators(point, part)[row]
                raw = normalise(raw, denominator, squares, self._tokens(part))
            values.append(raw)
        starts = np.cumsum([0, *(len(v) for v in values)])
        chosen, total, total_value = _strongest(np.concatenate(values), k, sign)
        entries: list[Entry] = []
        by_reader: dict[int, list[int]] = {}
        for flat in chosen:
            by_reader.setdefault(int(np.searchsorted(starts, flat, "right")) - 1, []).append(flat)
        for which, flats in by_reader.items():
            point, row, reader = readers[which]
            indices = self._abs_indices(reader, metric)
            targets = [
                int(np.arange(self._operands.n_targets(reader))[indices][f - starts[which]]) for f in flats
            ]
            edges = _Edges(point, [row] * len(flats), [reader] * len(flats), targets)
            entries += self._entries(edges, metric, normalised, sources=False)
        return TopEntries(_ordered(entries), total, total_value, self._token_count(metric))

    def attribution(
        self, source: Key, target: Key, metric: Metric = "attr", *, normalised: bool = True
    ) -> Attribution:
        """One edge; an exact zero where the source does not flow directly into the target."""
        places = {point.name: row for point, row in self._source(source)}
        reader, index = self._target(target)
        point = self._point_of[reader]
        self._part(metric)
        if metric == "attr_abs":
            self._abs_row(reader, index)
        if point.name not in places:
            return Attribution(
                0.0, 0.0, None, 0, self._token_count(metric), connected=False, scale_free=False
            )
        edges = _Edges(point, [places[point.name]], [reader], [index])
        entry = self._entries(edges, metric, normalised, sources=True)[0]
        raw = entry.value if not normalised else self._entries(edges, metric, False, sources=True)[0].value
        return Attribution(
            entry.value,
            raw,
            entry.standard_error,
            entry.support,
            self._token_count(metric),
            connected=True,
            scale_free=entry.scale_free,
        )

    # Keys.

    def _target(self, key: Key) -> tuple[Address, int]:
        """The reader and index of a key in the role of a target."""
        if key.address.kind in ("embed", "position"):
            raise NotComputedError(f"{key} is a source only: nothing flows into an embedding")
        point = self._point_of.get(key.address)
        if point is None:
            raise UnknownKeyError(f"this model has no site {key.address}", f"sites: {self._site_names()}")
        if isinstance(key.index, str):
            self._source(key)
            raise NotComputedError(f"{key} is a source only: attributions into a {key.index} are not defined")
        count = self._operands.n_targets(key.address)
        if key.index >= count:
            what = "tokens" if key.address == OUTPUT else "components"
            raise UnknownKeyError(f"{key} does not exist: {key.address} has {count} {what}, 0 to {count - 1}")
        return key.address, key.index

    def _source(self, key: Key) -> list[tuple[ReadPoint, int]]:
        """All places where a key is a source: read point and row."""
        if key.address == OUTPUT:
            self._target(key)
            raise NotComputedError(f"{key} is a target only: output tokens flow into nothing")
        kind = key.address.kind if not key.address.is_site else "component"
        if isinstance(key.index, str):
            kind = key.index
        places: list[tuple[ReadPoint, int]] = []
        for point in self._points.values():
            for block in point.blocks:
                if block.kind == kind and block.parsed == key.address:
                    index = 0 if isinstance(key.index, str) else key.index
                    if index >= block.count:
                        raise UnknownKeyError(
                            f"{key} does not exist: {key.address} has {block.count}, 0 to {block.count - 1}"
                        )
                    places.append((point, block.offset + index))
        if not places:
            if key.address not in self._point_of and key.address.is_site:
                raise UnknownKeyError(f"this model has no site {key.address}", f"sites: {self._site_names()}")
            if key.index == "delta":
                raise NotComputedError(
                    f"{key} is not a source here: these attributions were computed with delta off",
                    "run tributary attribute with --delta node",
                )
            raise UnknownKeyError(f"this model has no {key}")
        return places

    def _site_names(self) -> str:
        return ", ".join(str(address) for address in sorted(self._point_of))

    def _abs_reason(self, reader: Address) -> str:
        if "attr_abs" not in self.manifest.settings.metrics:
            return "attr_abs was not computed in this subrun"
        if reader == OUTPUT:
            return "attr_abs into output tokens was not computed in this subrun"
        return f"attr_abs into {reader} was not computed in this subrun"

    def _abs_row(self, reader: Address, index: int) -> int:
        """The row of a target in ``abs/<reader>``; raises :class:`NotComputedError`."""
        if not self._planes.has(f"abs/{reader}"):
            hint = "run tributary attribute with --output-abs all or top:N" if reader == OUTPUT else ""
            raise NotComputedError(self._abs_reason(reader), hint)
        rows = self._abs_rows.get(reader)
        if rows is None:
            return index
        if index not in rows:
            raise NotComputedError(
                f"attr_abs was computed for {len(rows)} targets of {reader} only, not for {index}"
            )
        return rows[index]

    def _abs_indices(self, reader: Address, metric: Metric) -> slice | np.ndarray:
        """Which targets of a reader the scan of a metric covers."""
        rows = self._abs_rows.get(reader) if metric == "attr_abs" else None
        return slice(None) if rows is None else np.fromiter(rows, np.int64, len(rows))

    # Numbers.

    def _part(self, metric: Metric) -> bool:
        """Whether a metric's statistics are those of a part of the tokens."""
        if metric == "attr_abs" and "attr_abs" not in self.manifest.settings.metrics:
            raise NotComputedError(
                "attr_abs was not computed in this subrun", "run tributary attribute again"
            )
        return metric == "attr_abs" and self._planes.has("abs_part/tokens")

    def _token_count(self, metric: Metric) -> int:
        return self.abs_tokens if metric == "attr_abs" else self.tokens

    def _tokens(self, part: bool) -> float:
        return float(self.abs_tokens if part else self.tokens)

    def _denominator_name(self, block: RowBlock, part: bool) -> str:
        """The statistic that divides a block's rows; ``tokens`` is one number for all of them."""
        names = {"embed": "token_count", "position": "position_count"}
        name = names.get(block.kind, "tokens")
        if block.kind == "component" and self.ci_weighted:
            name = f"ci_sum/{block.address}"
        return f"abs_part/{name}" if part else name

    def _source_denominators(self, point: ReadPoint, part: bool) -> np.ndarray:
        """Denominators of all rows of a read point, [n_rows]; kept in memory once read."""
        known = self._denominators.get((point.name, part))
        if known is None:
            pieces: list[np.ndarray] = []
            for block in point.blocks:
                values = self._planes.total(self._denominator_name(block, part))[0]
                pieces.append(values if len(values) == block.count else np.full(block.count, values[0]))
            known = np.concatenate(pieces)
            self._denominators[point.name, part] = known
        return known

    def _square_name(self, reader: Address, part: bool, metric: Metric) -> str:
        prefix = "abs_part/" if part else ""
        if reader != OUTPUT:
            return f"{prefix}activation_square_sum/{reader}"
        return f"{prefix}{'centred_logit_square_sum' if metric == 'attr_abs' else 'logit_square_sum'}"

    def _target_squares(self, reader: Address, part: bool, metric: Metric) -> np.ndarray:
        """Sums of squares of all targets of a reader, [n_targets]; kept in memory once read."""
        name = self._square_name(reader, part, metric)
        if name not in self._squares:
            self._squares[name] = self._planes.total(name)[0]
        return self._squares[name]

    def _scan_sources(self, point: ReadPoint, reader: Address, target: int, metric: Metric) -> np.ndarray:
        """Raw sums of all sources of one target, [n_rows]."""
        if metric == "attr_abs":
            row = self._abs_row(reader, target)
            return self._planes.total(f"abs/{reader}", slice(row, row + 1))[0].astype(np.float64)
        direction = self._operands.read_direction(reader, target)
        if metric == "attr" or point.operation != "norm":
            return self._planes.project(f"signed/{point.name}", direction)
        weight = self._planes.total(f"frozen_weight/{point.name}")[0]
        values = np.empty(point.n_rows)
        delta_row = 0
        for block in point.blocks:
            rows = slice(block.offset, block.offset + block.count)
            if block.kind == "delta":
                values[rows] = (
                    self._planes.total(f"frozen_delta/{point.name}", slice(delta_row, delta_row + 1))
                    @ direction
                )
                delta_row += 1
            else:
                values[rows] = self._operands.frozen_projection(point, block, direction) * weight[rows]
        return values

    def _scan_targets(self, point: ReadPoint, row: int, reader: Address, metric: Metric) -> np.ndarray:
        """Raw sums of one source into all targets of a reader (those that attr_abs has), [n]."""
        if metric == "attr_abs":
            return self._planes.total(f"abs/{reader}", columns=slice(row, row + 1))[:, 0].astype(np.float64)
        return self._operands.project(reader, self._row(point, row, metric)[0]).astype(np.float64)

    def _row(self, point: ReadPoint, row: int, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """One source in the space of a read point: total [d_in] and group values [G, d_in], float64."""
        one = slice(row, row + 1)
        if metric == "attr" or point.operation != "norm":
            name = f"signed/{point.name}"
            return self._planes.total(name, one)[0].astype(np.float64), self._planes.groups(name, one)[:, 0]
        block = next(b for b in point.blocks if b.offset <= row < b.offset + b.count)
        if block.kind == "delta":
            delta_row = sum(1 for b in point.blocks if b.kind == "delta" and b.offset < row)
            one, name = slice(delta_row, delta_row + 1), f"frozen_delta/{point.name}"
            return self._planes.total(name, one)[0].astype(np.float64), self._planes.groups(name, one)[:, 0]
        base = self._operands.frozen_row(point, block, row)
        name = f"frozen_weight/{point.name}"
        weight = self._planes.total(name, columns=one)[0, 0]
        groups = self._planes.groups(name, columns=one)[:, 0, 0]
        return base * weight, np.outer(groups, base)

    def _entries(self, edges: _Edges, metric: Metric, normalised: bool, *, sources: bool) -> list[Entry]:
        """Values, standard errors and support of chosen edges."""
        if not edges.rows:
            return []
        part = self._part(metric)
        point, n = edges.point, len(edges.rows)
        totals, groups = np.empty(n), np.empty((self.n_groups, n))
        rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for i, (row, reader, target) in enumerate(zip(edges.rows, edges.readers, edges.targets, strict=True)):
            if metric == "attr_abs":
                where = slice(at := self._abs_row(reader, target), at + 1), slice(row, row + 1)
                totals[i] = self._planes.total(f"abs/{reader}", *where)[0, 0]
                groups[:, i] = self._planes.groups(f"abs/{reader}", *where)[:, 0, 0]
                continue
            if row not in rows:
                rows[row] = self._row(point, row, metric)
            direction = self._operands.read_direction(reader, target)
            totals[i], groups[:, i] = rows[row][0] @ direction, rows[row][1] @ direction
        source, squares = self._group_statistics(edges, part, metric)
        tokens = self._planes.groups("abs_part/tokens" if part else "tokens")[:, 0, 0]
        errors = standard_errors(groups, source, squares, tokens, normalised=normalised)
        values = totals
        if normalised:
            denominators = self._source_denominators(point, part)[edges.rows]
            total_squares = np.array(
                [
                    self._target_squares(r, part, metric)[t]
                    for r, t in zip(edges.readers, edges.targets, strict=True)
                ]
            )
            values = normalise(totals, denominators, total_squares, self._tokens(part))
        support = supports(source)
        scale_free = point.scale_free and metric != "attr_frozen"
        return [
            Entry(
                self._source_key(point, edges.rows[i])
                if sources
                else Key(edges.readers[i], edges.targets[i]),
                float(values[i]),
                None if np.isnan(errors[i]) else float(errors[i]),
                int(support[i]),
                scale_free,
            )
            for i in range(n)
        ]

    def _group_statistics(self, edges: _Edges, part: bool, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Source denominators and target sums of squares of edges by group, both [G, n]."""
        n = len(edges.rows)
        source, squares = np.empty((self.n_groups, n)), np.empty((self.n_groups, n))
        for i in range(n):
            row = edges.rows[i]
            block = next(b for b in edges.point.blocks if b.offset <= row < b.offset + b.count)
            name = self._denominator_name(block, part)
            index = 0 if name.endswith("tokens") else row - block.offset
            source[:, i] = self._planes.groups(name, columns=slice(index, index + 1))[:, 0, 0]
            target = edges.targets[i]
            name = self._square_name(edges.readers[i], part, metric)
            squares[:, i] = self._planes.groups(name, columns=slice(target, target + 1))[:, 0, 0]
        return source, squares

    def _source_key(self, point: ReadPoint, row: int) -> Key:
        return next(b for b in point.blocks if b.offset <= row < b.offset + b.count).key(row)


def _strongest(values: np.ndarray, k: int, sign: Sign) -> tuple[list[int], int, float]:
    """Positions of the k strongest values of a sign, how many have that sign, and their sum."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    signed = values if sign == "positive" else -values
    candidates = np.flatnonzero(signed > 0)
    total_value = float(values[candidates].sum())
    order = candidates
    if len(candidates) > k:
        order = candidates[np.argpartition(-signed[candidates], k - 1)[:k]]
    order = order[np.lexsort((order, -signed[order]))]
    return [int(i) for i in order], len(candidates), total_value


def _ordered(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: -abs(entry.value)))
