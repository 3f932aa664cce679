"""Numbers from stored sums: scans over all ends of a key, and single edges with standard errors.

Three metrics, of which two are stored: ``attr`` (signed sums in the space of a read point, multiplied
with the target's read direction), ``attr_abs`` (stored edge by edge), and ``attr_frozen``, which is
made from the stored weights w_s where a norm lies between source and target, and equals ``attr``
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compute.address import OUTPUT, Address, parse_address
from storage.errors import NotComputedError
from storage.jackknife import CLAMP, MIN_SUPPORT, normalise, standard_errors, supports
from storage.keys import KeySpace
from storage.layout import ABS_PART, Manifest, Metric, ReadPoint, denominator_name, has_frozen
from storage.operands import Operands
from storage.planes import Planes


@dataclass(frozen=True)
class Edge:
    """Row ``row`` of a read point into target ``target`` of ``reader``."""

    point: ReadPoint
    row: int
    reader: Address
    target: int


@dataclass(frozen=True)
class EdgeValue:
    """``standard_error`` is NaN where it is not supported by enough groups; ``support`` is None where
    there are no groups."""

    value: float
    standard_error: float
    support: int | None


class Numbers:
    """What a store's arrays say, in one place for all queries. Threads may share one."""

    def __init__(self, manifest: Manifest, planes: Planes, operands: Operands, keys: KeySpace) -> None:
        settings = manifest.settings
        self._settings = settings
        self._tokens = {False: float(manifest.tokens), True: float(manifest.abs_tokens)}
        self._planes = planes
        self._operands = operands
        self._keys = keys
        self._abs_rows = {
            parse_address(name): {index: row for row, index in enumerate(indices)}
            for name, indices in settings.abs_targets.items()
        }
        self._denominators: dict[tuple[str, bool], np.ndarray] = {}
        self._squares: dict[str, np.ndarray] = {}

    # Which numbers there are.

    def has_abs(self, reader: Address) -> bool:
        return self._planes.has(f"abs/{reader}")

    def check(self, metric: Metric, reader: Address, target: int | None = None) -> None:
        """Raises :class:`NotComputedError` where a metric into a reader (or one target) cannot be had."""
        imported = self._settings.imported_from is not None
        if metric == "attr_frozen" and imported:
            raise NotComputedError(
                "attr_frozen is not in the published file that these attributions were imported from",
                "ask for attr, or compute attributions of your own with tributary attribute",
            )
        if metric == "attr_frozen" and not has_frozen(self._settings):
            raise NotComputedError(
                "attr_frozen does not exist here: some matrices of the model are left whole, and gradients "
                "that pass through them cross several norms",
                "ask for attr or attr_abs",
            )
        if metric != "attr_abs":
            return
        if imported and not self.has_abs(reader):
            into = " into output tokens" if "attr_abs" in self._settings.metrics else ""
            raise NotComputedError(
                f"attr_abs{into} is not in the published file that these attributions were imported from",
                "ask for attr",
            )
        if "attr_abs" not in self._settings.metrics:
            raise NotComputedError(
                "attr_abs was not computed in this subrun", "run tributary attribute again"
            )
        if not self.has_abs(reader):
            raise NotComputedError(
                "attr_abs into output tokens was not computed in this subrun",
                "run tributary attribute with --output-abs all or top:N",
            )
        rows = self._abs_rows.get(reader)
        if rows is not None and target is not None and target not in rows:
            raise NotComputedError(
                f"attr_abs into {reader}:{target} was not computed: only {len(rows)} targets were chosen"
            )

    def targets(self, reader: Address, metric: Metric) -> np.ndarray:
        """The indices of a reader that a scan covers: all, or those chosen for attr_abs."""
        rows = self._abs_rows.get(reader) if metric == "attr_abs" else None
        return np.arange(self._keys.sizes[reader]) if rows is None else np.fromiter(rows, np.int64, len(rows))

    def _edge_array(self, reader: Address, metric: Metric) -> str | None:
        """The array that holds a number for each edge into a reader; None where it has to be multiplied out."""
        if metric == "attr_abs":
            return f"abs/{reader}"
        return f"edges/{reader}" if self._settings.edgewise(str(reader)) else None

    def _edge_row(self, reader: Address, target: int, metric: Metric) -> int:
        """The row of such an array that is a target's."""
        rows = self._abs_rows.get(reader) if metric == "attr_abs" else None
        return target if rows is None else rows[target]

    # Scans.

    def scan_sources(
        self, point: ReadPoint, reader: Address, target: int, metric: Metric, *, normalised: bool
    ) -> np.ndarray:
        """Values of all sources of one target, [n_rows] float64."""
        stored = self._edge_array(reader, metric)
        if stored is not None:
            row = self._edge_row(reader, target, metric)
            raw = self._planes.total(stored, _one(row))[0].astype(np.float64)
        else:
            direction = self._operands.read_direction(reader, target)
            if metric == "attr" or point.operation != "norm":
                raw = self._planes.project(f"signed/{point.name}", direction)
            else:
                raw = self._scan_frozen(point, direction)
        if not normalised:
            return raw
        return self._normalised(raw, self._source_denominators(point, metric), reader, target, metric)

    def _scan_frozen(self, point: ReadPoint, direction: np.ndarray) -> np.ndarray:
        weight = self._planes.total(f"frozen_weight/{point.name}")[0].astype(np.float64)
        values = np.empty(point.n_rows)
        for block in point.blocks:
            rows = slice(block.offset, block.offset + block.count)
            if block.kind == "delta":
                values[rows] = self._frozen_delta(point, block.offset)[0] @ direction
            else:
                values[rows] = self._operands.frozen_projection(point, block, direction) * weight[rows]
        return values

    def scan_targets(
        self, point: ReadPoint, row: int, reader: Address, metric: Metric, *, normalised: bool
    ) -> np.ndarray:
        """Values of one source into the targets of a reader, [n] in the order of :meth:`targets`."""
        stored = self._edge_array(reader, metric)
        if stored is not None:
            raw = self._planes.total(stored, columns=_one(row))[:, 0].astype(np.float64)
        else:
            raw = self._operands.project(reader, self._row_total(point, row, metric)).astype(np.float64)
        if not normalised:
            return raw
        denominator = self._source_denominators(point, metric)[row]
        return self._normalised(raw, denominator, reader, self.targets(reader, metric), metric)

    def matrix(
        self, point: ReadPoint, rows: slice, reader: Address, metric: Metric, *, normalised: bool
    ) -> np.ndarray:
        """Values of all edges from ``rows`` into a reader, [rows, targets]; rows lie in one row block."""
        stored = self._edge_array(reader, metric)
        if stored is not None:
            raw = self._planes.total(stored, columns=rows).T.astype(np.float64)
        elif metric == "attr" or point.operation != "norm":
            raw = self._operands.project_rows(reader, self._planes.total(f"signed/{point.name}", rows))
        else:
            raw = self._operands.project_rows(reader, self._frozen_total(point, rows))
        if not normalised:
            return raw
        denominators = self._source_denominators(point, metric)[rows, None]
        return self._normalised(raw, denominators, reader, self.targets(reader, metric), metric)

    def _normalised(
        self, raw: np.ndarray, source: np.ndarray, reader: Address, targets: np.ndarray | int, metric: Metric
    ) -> np.ndarray:
        """Raw sums by the source's denominator and the targets' RMS, or by all tokens where that is all
        there is. Shapes broadcast; ``targets`` are indices of the reader."""
        tokens = self._tokens[self._part(metric)]
        if self._settings.normalisation == "tokens":
            return raw / max(tokens, CLAMP)
        return normalise(raw, source, self._target_squares(reader, metric)[targets], tokens)

    # Single edges.

    def edges(self, edges: Sequence[Edge], metric: Metric, *, normalised: bool) -> list[EdgeValue]:
        """Values, standard errors and support of a few edges."""
        if not self._settings.n_groups:
            return [self._ungrouped(edge, metric, normalised=normalised) for edge in edges]
        if not edges:
            return []
        n, part = len(edges), self._part(metric)
        totals, groups = np.empty(n), np.zeros((self._settings.n_groups, n))
        source, squares = np.empty_like(groups), np.empty_like(groups)
        relative = np.full(n, np.nan)
        ends: dict[tuple[Address, int], int] = {}
        directions: dict[tuple[Address, int], np.ndarray] = {}
        rows: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        for i, edge in enumerate(edges):
            source[:, i] = self._source_groups(edge, part)
            end = (edge.reader, edge.target)
            if end not in ends:
                ends[end] = i
                name = self._square_name(edge.reader, metric)
                squares[:, i] = self._planes.groups(name, columns=_one(edge.target))[:, 0, 0]
                if metric != "attr_abs":
                    directions[end] = self._operands.read_direction(edge.reader, edge.target)
            squares[:, i] = squares[:, ends[end]]
            if metric == "attr_abs":
                name, where = (
                    f"abs/{edge.reader}",
                    (_one(self._edge_row(edge.reader, edge.target, metric)), _one(edge.row)),
                )
                totals[i] = self._planes.total(name, *where)[0, 0]
                stored_error = self._planes.relative_error(name, where[0].start, edge.row)
                if stored_error is None:
                    groups[:, i] = self._planes.groups(name, *where)[:, 0, 0]
                else:
                    relative[i] = stored_error
                continue
            place = (edge.point.name, edge.row)
            if place not in rows:
                total = self._row_total(edge.point, edge.row, metric)
                rows[place] = total, self._row_groups(edge.point, edge.row, metric)
            direction = directions[end]
            totals[i], groups[:, i] = rows[place][0] @ direction, rows[place][1] @ direction
        tokens = self._planes.groups(f"{ABS_PART}tokens" if part else "tokens")[:, 0, 0]
        errors = standard_errors(groups, source, squares, tokens, normalised=normalised)
        if normalised:
            denominators = np.array([self._source_denominators(e.point, metric)[e.row] for e in edges])
            square_sums = np.array([self._target_squares(e.reader, metric)[e.target] for e in edges])
            totals = normalise(totals, denominators, square_sums, self._tokens[part])
        support = supports(source)
        if metric == "attr_abs" and not self._planes.has_abs_groups:
            errors = np.where(support >= MIN_SUPPORT, np.abs(totals) * relative, np.nan)
            errors = errors if normalised else np.full(n, np.nan)
        return [EdgeValue(float(totals[i]), float(errors[i]), int(support[i])) for i in range(n)]

    def _ungrouped(self, edge: Edge, metric: Metric, *, normalised: bool) -> EdgeValue:
        """One edge of a store without groups."""
        stored = self._edge_array(edge.reader, metric)
        if stored is not None:
            row = self._edge_row(edge.reader, edge.target, metric)
            raw = self._planes.total(stored, _one(row), _one(edge.row))[0, 0].astype(np.float64)
        else:
            direction = self._operands.read_direction(edge.reader, edge.target)
            raw = self._row_total(edge.point, edge.row, metric) @ direction
        if normalised:
            denominator = self._source_denominators(edge.point, metric)[edge.row]
            raw = self._normalised(raw, denominator, edge.reader, edge.target, metric)
        return EdgeValue(float(raw), float("nan"), None)

    def _row_total(self, point: ReadPoint, row: int, metric: Metric) -> np.ndarray:
        """One source in the space of a read point, [d_in] float64."""
        if metric == "attr" or point.operation != "norm":
            return self._planes.total(f"signed/{point.name}", _one(row))[0].astype(np.float64)
        return self._frozen_total(point, _one(row))[0]

    def _frozen_total(self, point: ReadPoint, rows: slice) -> np.ndarray:
        """Frozen-norm rows of one row block in the space of a read point, [n, d_in] float64."""
        block = point.block_at(rows.start)
        if block.kind == "delta":
            return self._frozen_delta(point, rows.start).astype(np.float64)
        weight = self._planes.total(f"frozen_weight/{point.name}", columns=rows)[0]
        return self._operands.frozen_rows(point, block, rows) * weight[:, None]

    def _row_groups(self, point: ReadPoint, row: int, metric: Metric) -> np.ndarray:
        """The same by group, [groups, d_in] float64."""
        if metric == "attr" or point.operation != "norm":
            return self._planes.groups(f"signed/{point.name}", _one(row))[:, 0]
        block = point.block_at(row)
        if block.kind == "delta":
            return self._planes.groups(f"frozen_delta/{point.name}", _one(_delta_row(point, row)))[:, 0]
        weight = self._planes.groups(f"frozen_weight/{point.name}", columns=_one(row))[:, 0, 0]
        return np.outer(weight, self._operands.frozen_rows(point, block, _one(row))[0])

    def _frozen_delta(self, point: ReadPoint, row: int) -> np.ndarray:
        return self._planes.total(f"frozen_delta/{point.name}", _one(_delta_row(point, row)))

    # Statistics.

    def _part(self, metric: Metric) -> bool:
        """Whether a metric rests on a part of the tokens, with statistics of its own."""
        return metric == "attr_abs" and self._planes.has(f"{ABS_PART}tokens")

    def _source_denominators(self, point: ReadPoint, metric: Metric) -> np.ndarray:
        """Denominators of all rows of a read point, [n_rows]; kept in memory once read."""
        place = (point.name, self._part(metric))
        if place not in self._denominators:
            pieces: list[np.ndarray] = []
            for block in point.blocks:
                values = self._planes.total(denominator_name(self._settings, block, part=place[1]))[0]
                pieces.append(np.broadcast_to(values, block.count))
            self._denominators[place] = np.concatenate(pieces)
        return self._denominators[place]

    def _source_groups(self, edge: Edge, part: bool) -> np.ndarray:
        """The source's denominator in each group, [groups]."""
        block = edge.point.block_at(edge.row)
        name = denominator_name(self._settings, block, part=part)
        index = 0 if name.removeprefix(ABS_PART) == "tokens" else edge.row - block.offset
        return self._planes.groups(name, columns=_one(index))[:, 0, 0]

    def _square_name(self, reader: Address, metric: Metric) -> str:
        prefix = ABS_PART if self._part(metric) else ""
        if reader != OUTPUT:
            return f"{prefix}activation_square_sum/{reader}"
        # The sign of a raw logit is arbitrary, so attr_abs was made with logits minus their mean.
        return f"{prefix}{'centred_logit_square_sum' if metric == 'attr_abs' else 'logit_square_sum'}"

    def _target_squares(self, reader: Address, metric: Metric) -> np.ndarray:
        """Sums of squares of all targets of a reader, [n]; kept in memory once read."""
        name = self._square_name(reader, metric)
        if name not in self._squares:
            self._squares[name] = self._planes.total(name)[0]
        return self._squares[name]


def _one(index: int) -> slice:
    return slice(index, index + 1)


def _delta_row(point: ReadPoint, row: int) -> int:
    """The row of ``frozen_delta`` that belongs to a delta's row of the read point."""
    return sum(block.kind == "delta" and block.offset < row for block in point.blocks)
