"""How often two components fire at one position: exact counts, by matrix products.

The positions of a few batches are counted together, over the components that fire in them: by a dense
product of 0/1 matrices among the components that fire often, and by sums of a few rows for the others.
Whole numbers up to 2^24 are exact in float32.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from compute.attribution.sparse import offsets_of, sum_rows
from compute.statistics.tables import Table

#: Positions that are counted together, or fewer, if the 0/1 matrix would take more than so many bytes.
POSITIONS: Final = 8192
FIRES_BYTES: Final = 1 << 28
#: Bytes of one block of counts; that of the components that fire often takes four times as many.
BLOCK_BYTES: Final = 1 << 26
#: Share of positions above which a dense product is quicker than adding rows (measured on CPU).
DENSE_ABOVE: Final = 0.04


class Cofiring:
    """Collects firings and adds them to ``table`` [n, n], both ways, the diagonal included."""

    def __init__(self, table: Table, n_components: int, device: torch.device) -> None:
        self.table = table
        self._n = n_components
        self._device = device
        self._components: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._n_positions = 0

    def add(self, component: np.ndarray, position: np.ndarray, n_positions: int) -> None:
        """Firings of a batch: flat component indices and positions below ``n_positions``."""
        self._components.append(component)
        self._positions.append(position + self._n_positions)
        self._n_positions += n_positions
        if self._n_positions >= min(POSITIONS, FIRES_BYTES // (4 * self._n)):
            self.flush()

    @torch.no_grad()
    def flush(self) -> None:
        """Count what was collected."""
        if not self._n_positions:
            return
        component, position = np.concatenate(self._components), np.concatenate(self._positions)
        n_positions = self._n_positions
        self._components, self._positions, self._n_positions = [], [], 0
        if len(component) == 0:
            return
        counts = np.bincount(component, minlength=self._n)
        columns = np.flatnonzero(counts)
        if len(columns) > self._n // 2:
            columns = np.arange(self._n)  # whole rows are quicker to add than pieces of them
        # Those that fire often come first: their counts with one another are one dense product, and
        # their counts with the others are those of the others with them.
        rows = np.flatnonzero(counts)
        rows = rows[np.argsort(-counts[rows], kind="stable")]
        most = BLOCK_BYTES // len(columns)
        frequent = min(most, int((counts[rows] > DENSE_ABOVE * n_positions).sum()))
        row_of = np.zeros(self._n, np.int64)
        row_of[rows] = np.arange(len(rows))
        column_of = np.zeros(self._n, np.int64)
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
            self.table.add_block(rows[first:last], columns, block.cpu().numpy())
        self.table.add_block(rows[:frequent], columns, of_often.cpu().numpy())
