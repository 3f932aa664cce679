"""How often two components fire at one position: exact counts, in a bounded amount of memory.

Components that fire often enough to be *hot* are counted with one another in a dense table, the
positions of a few batches together: by products of 0/1 matrices among those that fire most, and by
sums of a few rows for the others (whole numbers up to 2^24 are exact in float32). All are hot where
that table fits. Where it does not, the hot ones are chosen from the first positions, and every pair
with a component that is not hot is counted on its own, which is cheap because they fire rarely.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from compute.attribution.sparse import offsets_of, sum_rows
from compute.statistics.tables import DenseTable, Lists, SparseTable, offsets_of_rows

#: Positions that are counted together, or fewer, if the 0/1 matrix would take more than so many bytes.
POSITIONS: Final = 8192
FIRES_BYTES: Final = 1 << 28
#: Bytes of one block of counts; that of the components that fire most takes four times as many.
BLOCK_BYTES: Final = 1 << 26
#: Share of positions above which a dense product is quicker than adding rows (measured on CPU).
DENSE_ABOVE: Final = 0.02
#: Pairs with a component that is not hot that are looked at together.
_PAIRS: Final = 1 << 22


class Cofiring:
    """Joint counts of ``n`` components, both ways, the diagonal included; at most ``n_hot`` are hot."""

    def __init__(self, n: int, n_hot: int, sparse_budget: int, device: torch.device) -> None:
        self._n = n
        self._device = device
        n_hot = min(n, n_hot)
        self._hot = np.arange(n) if n_hot == n else None
        self._dense = DenseTable(n_hot, n_hot, np.int32)
        self._sparse = SparseTable(n, n, sparse_budget)
        self._components: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._n_positions = 0

    @property
    def is_full(self) -> bool:
        return self._sparse.is_full

    def add(self, component: np.ndarray, position: np.ndarray, n_positions: int) -> None:
        """Firings of a batch: flat component indices and positions below ``n_positions``."""
        self._components.append(component)
        self._positions.append(position + self._n_positions)
        self._n_positions += n_positions
        if self._n_positions >= min(POSITIONS, FIRES_BYTES // (4 * max(1, len(self._dense.values)))):
            self.flush()

    def flush(self) -> None:
        """Count what was collected."""
        if not self._n_positions:
            return
        component, position = np.concatenate(self._components), np.concatenate(self._positions)
        n_positions = self._n_positions
        self._components, self._positions, self._n_positions = [], [], 0
        if len(component) == 0:
            return
        if self._hot is None:
            counts = np.bincount(component, minlength=self._n)
            self._hot = np.sort(np.argsort(-counts, kind="stable")[: len(self._dense.values)])
        slot = np.full(self._n, -1)
        slot[self._hot] = np.arange(len(self._hot))
        is_hot = slot[component] >= 0
        if is_hot.any():
            self._add_hot(slot[component[is_hot]], position[is_hot], n_positions)
        if not is_hot.all():
            self._add_others(component, position, is_hot, n_positions)

    @torch.no_grad()
    def _add_hot(self, component: np.ndarray, position: np.ndarray, n_positions: int) -> None:
        """Count hot components, by their rows in the dense table."""
        n = len(self._dense.values)
        counts = np.bincount(component, minlength=n)
        columns = np.flatnonzero(counts)
        if len(columns) > n // 2:
            columns = np.arange(n)  # whole rows are quicker to add than pieces of them
        # Those that fire most come first: their counts with one another are one dense product, and
        # their counts with the others are those of the others with them.
        rows = np.flatnonzero(counts)
        rows = rows[np.argsort(-counts[rows], kind="stable")]
        most = BLOCK_BYTES // len(columns)
        frequent = min(most, int((counts[rows] > DENSE_ABOVE * n_positions).sum()))
        row_of = np.zeros(n, np.int64)
        row_of[rows] = np.arange(len(rows))
        column_of = np.zeros(n, np.int64)
        column_of[columns] = np.arange(len(columns))

        place = torch.from_numpy(position).to(self._device)
        fires = torch.zeros(n_positions, len(columns), device=self._device)
        fires[place, torch.from_numpy(column_of[component]).to(self._device)] = 1.0
        row, order = torch.sort(torch.from_numpy(row_of[component]).to(self._device), stable=True)
        place = place[order]
        offsets = offsets_of(row, len(rows))
        row_columns = torch.from_numpy(column_of[rows]).to(self._device)
        often = row_columns[:frequent]
        often_fires = fires[:, often]
        of_often = torch.zeros(frequent, len(columns), device=self._device)
        of_often[:, often] = often_fires.T @ often_fires
        tile = max(1, BLOCK_BYTES // (4 * len(columns)))
        for first in range(frequent, len(rows), tile):
            last = min(first + tile, len(rows))
            start, end = int(offsets[first]), int(offsets[last])
            ones = torch.ones(end - start, device=self._device)
            block = sum_rows(place[start:end], offsets[first : last + 1] - start, ones, fires)
            of_often[:, row_columns[first:last]] = block[:, often].T
            self._dense.add_block(rows[first:last], columns, block.cpu().numpy())
        self._dense.add_block(rows[:frequent], columns, of_often.cpu().numpy())

    def _add_others(
        self, component: np.ndarray, position: np.ndarray, is_hot: np.ndarray, n_positions: int
    ) -> None:
        """Count all pairs with a component that is not hot, both ways."""
        order = np.argsort(position, kind="stable")
        component, position, is_hot = component[order], position[order], is_hot[order]
        starts = np.searchsorted(position, np.arange(n_positions + 1))
        others = np.flatnonzero(~is_hot)
        lengths = starts[position[others] + 1] - starts[position[others]]
        ends = np.cumsum(lengths)
        first = 0
        while first < len(others):
            before = ends[first] - lengths[first]
            last = max(first + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
            some, n_with = others[first:last], lengths[first:last]
            entry = np.repeat(starts[position[some]] - (np.cumsum(n_with) - n_with), n_with)
            entry += np.arange(len(entry))
            one, other = np.repeat(component[some], n_with), component[entry]
            hot = is_hot[entry]  # meets this one here only; two that are not hot meet from either side
            keys = np.concatenate([one * self._n + other, other[hot] * self._n + one[hot]])
            keys, counts = np.unique(keys, return_counts=True)
            self._sparse.add(keys // self._n, keys % self._n, counts)
            first = last

    def lists(self, first: int, last: int) -> Lists:
        """Offsets [rows + 1], and ids and counts, of some components, by id; without themselves."""
        self.flush()
        offsets, ids, values = self._sparse.lists(first, last)
        row = np.repeat(np.arange(last - first), np.diff(offsets))
        if self._hot is not None:
            here = slice(*np.searchsorted(self._hot, [first, last]).tolist())
            hot_row, hot_id = np.nonzero(self._dense.values[here])
            hot_values = self._dense.values[here][hot_row, hot_id].astype(np.int64)
            row = np.concatenate([row, self._hot[here][hot_row] - first])
            ids, values = np.concatenate([ids, self._hot[hot_id]]), np.concatenate([values, hot_values])
        kept = ids != row + first
        row, ids, values = row[kept], ids[kept], values[kept]
        order = np.lexsort((ids, row)) if len(self._dense.values) < self._n else slice(None)
        return offsets_of_rows(row, last - first), ids[order], values[order]
