"""Edges as they stream in: dropped, kept, and counted exactly.

Blocks of attributions [targets × sources] arrive one after another; what is kept goes into flat
columns at once, so that no more than one block is ever held in full. With a cap, the buffer is cut
back to the strongest ``max_edges`` whenever it is twice as long; edges weaker than the weakest
then kept are dropped on arrival from there on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.attribution.prompt_data import EdgeColumns, Floats, Omitted


@dataclass(frozen=True)
class _Chunk:
    """Edges with their strength |attr · scale| (None where nothing is ever dropped)."""

    source: NDArray[np.uint32]
    target: NDArray[np.uint32]
    attr: Floats
    attr_abs: Floats
    strength: Floats | None
    strength_abs: Floats | None

    def __len__(self) -> int:
        return len(self.source)


class Selection:
    """Collects edges.

    An edge of exactly zero (``attr`` and ``attr_abs`` both) is no edge: it is neither listed nor
    counted as left out. Among edges of the same strength those that arrive first are kept.
    """

    def __init__(self, scale: Floats, threshold: float, max_edges: int | None) -> None:
        self._scale = scale
        self._max_edges = max_edges
        self._selective = threshold > 0 or max_edges is not None
        self._threshold = threshold
        #: Of the edges that arrived before the last cut, the weakest that was kept.
        self._cutoff = 0.0
        self._chunks: list[_Chunk] = []
        self._held = 0
        self._omitted, self._omitted_strength = 0, np.zeros(2)
        self._total_strength = np.zeros(2)

    def add(self, first_target: int, sources: NDArray[np.uint32], attr: Floats, attr_abs: Floats) -> None:
        """Add the edges [n_targets, n_sources] of consecutive targets."""
        n_targets, n_sources = attr.shape
        target = np.arange(first_target, first_target + n_targets, dtype=np.uint32)
        keep = (attr != 0) | (attr_abs != 0)
        strength = strength_abs = None
        if self._selective:
            scale = self._scale[first_target : first_target + n_targets, None]
            strength, strength_abs = np.abs(attr) * scale, np.abs(attr_abs) * scale
            self._total_strength += _sums(strength, strength_abs)
            strong = keep & (strength >= self._threshold) & (strength >= self._cutoff)
            self._omitted += int(np.count_nonzero(keep)) - int(np.count_nonzero(strong))
            self._omitted_strength += _sums(strength, strength_abs, ~strong)
            keep = strong
        if keep.all():
            source = np.broadcast_to(sources, attr.shape).reshape(-1)
            chunk = _Chunk(
                source,
                np.repeat(target, n_sources),
                attr.reshape(-1),
                attr_abs.reshape(-1),
                None if strength is None else strength.reshape(-1),
                None if strength_abs is None else strength_abs.reshape(-1),
            )
        else:
            rows, columns = keep.nonzero()
            chunk = _Chunk(
                sources[columns],
                target[rows],
                attr[keep],
                attr_abs[keep],
                None if strength is None else strength[keep],
                None if strength_abs is None else strength_abs[keep],
            )
        if len(chunk):
            self._chunks.append(chunk)
            self._held += len(chunk)
        if self._max_edges is not None and self._held > 2 * self._max_edges:
            self._cut(self._max_edges)

    def finish(self) -> tuple[EdgeColumns, Omitted]:
        """All that was kept, sorted by target, then source, and what was not."""
        if self._max_edges is not None and self._held > self._max_edges:
            self._cut(self._max_edges)
        self._chunks.sort(key=lambda chunk: int(chunk.target[0]))
        kind = self._scale.dtype
        parts: dict[str, list[Any]] = {
            name: [getattr(chunk, name) for chunk in self._chunks]
            for name in ("source", "target", "attr", "attr_abs")
        }
        self._chunks.clear()  # so that each column is held twice only while it is joined
        source, target = _joined(parts.pop("source"), np.uint32), _joined(parts.pop("target"), np.uint32)
        edges = EdgeColumns(
            source, target, _joined(parts.pop("attr"), kind), _joined(parts.pop("attr_abs"), kind)
        )
        later, same = target[1:] > target[:-1], target[1:] == target[:-1]
        if not (later | (same & (source[1:] > source[:-1]))).all():
            by = np.lexsort((source, target))
            edges = EdgeColumns(source[by], target[by], edges.attr[by], edges.attr_abs[by])
        with np.errstate(invalid="ignore"):
            share = np.nan_to_num(self._omitted_strength / self._total_strength)
        if not self._omitted:
            share = np.zeros(2)
        return edges, Omitted(self._omitted, float(share[0]), float(share[1]))

    def _cut(self, n: int) -> None:
        """Keep the ``n`` strongest of the edges held."""
        columns = [
            np.concatenate([getattr(chunk, name) for chunk in self._chunks])
            for name in ("source", "target", "attr", "attr_abs", "strength", "strength_abs")
        ]
        strength = columns[4]
        cutoff = np.partition(strength, -n)[-n]
        keep = strength > cutoff
        ties = (strength == cutoff).nonzero()[0]
        keep[ties[: n - int(np.count_nonzero(keep))]] = True
        self._omitted += len(keep) - n
        self._omitted_strength += _sums(columns[4], columns[5], ~keep)
        self._chunks = [_Chunk(*(column[keep] for column in columns))]
        self._held, self._cutoff = n, float(cutoff)


def _sums(strength: Floats, strength_abs: Floats, where: NDArray[np.bool_] | bool = True) -> Floats:
    """Σ of both in float64."""
    return np.array([x.sum(dtype=np.float64, where=where) for x in (strength, strength_abs)])


def _joined(parts: list[Any], kind: Any) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
