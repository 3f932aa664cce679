"""Whole numbers for pairs (row, id), dense where that fits a budget and sparse where it does not."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import torch

#: Bytes of one sparse entry: its key and value, and room to sort.
SPARSE_BYTES: Final = 3 * 16
Lists = tuple[np.ndarray, np.ndarray, np.ndarray]


class Table(Protocol):
    """Values for pairs (row, id), all zero at first."""

    def add(self, rows: np.ndarray, ids: np.ndarray, values: np.ndarray) -> None:
        """Add ``values`` to pairs, each of which may be named once only."""
        ...

    def lists(self, first: int, last: int) -> Lists:
        """Offsets [rows + 1], and ids and values other than zero, of some rows, by id."""
        ...

    @property
    def is_full(self) -> bool: ...


class DenseTable:
    """A plain matrix."""

    is_full = False

    def __init__(self, n_rows: int, n_ids: int, dtype: type[np.integer]) -> None:
        self.values = np.zeros((n_rows, n_ids), dtype)

    def add(self, rows: np.ndarray, ids: np.ndarray, values: np.ndarray) -> None:
        self.values[rows, ids] += values.astype(self.values.dtype)

    def add_block(self, rows: np.ndarray, ids: np.ndarray, values: np.ndarray) -> None:
        """Add [rows, ids] values to the pairs of distinct rows and distinct, rising ids."""
        if values.shape[1] == self.values.shape[1]:
            whole = values.astype(self.values.dtype)
        else:
            whole = np.zeros((len(rows), self.values.shape[1]), self.values.dtype)
            whole[:, ids] = values
        torch.from_numpy(self.values).index_add_(0, torch.from_numpy(rows), torch.from_numpy(whole))

    def lists(self, first: int, last: int) -> Lists:
        part = self.values[first:last]
        row, ids = np.nonzero(part)
        return offsets_of_rows(row, last - first), ids.astype(np.int64), part[row, ids].astype(np.int64)


class SparseTable:
    """Sorted pairs that are not zero; ``is_full`` once there are so many that they should be stored."""

    def __init__(self, n_rows: int, n_ids: int, budget: int) -> None:
        self._n_ids = n_ids
        self._limit = max(1 << 16, budget // SPARSE_BYTES)
        self._keys: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._waiting = 0
        self.is_full = False

    def add(self, rows: np.ndarray, ids: np.ndarray, values: np.ndarray) -> None:
        some = values != 0
        keys, values = rows[some].astype(np.int64) * self._n_ids + ids[some], values[some]
        order = np.argsort(keys)
        self._append(keys[order], values[order])

    def _append(self, keys: np.ndarray, values: np.ndarray) -> None:
        self._keys.append(keys)
        self._values.append(values.astype(np.int64))
        self._waiting += len(keys)
        if self._waiting > self._limit:
            kept = self._merge()
            self._waiting = kept
            self.is_full = kept > self._limit // 2

    def _merge(self) -> int:
        """One sorted run of all; how many entries it has."""
        keys = np.concatenate([*self._keys, np.zeros(0, np.int64)])
        values = np.concatenate([*self._values, np.zeros(0, np.int64)])
        order = np.argsort(keys, kind="stable")  # quick, for the parts are sorted
        keys, values = keys[order], values[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        self._keys = [keys[first]]
        self._values = [np.add.reduceat(values, first) if len(first) else values]
        return len(first)

    def lists(self, first: int, last: int) -> Lists:
        if len(self._keys) != 1:
            self._merge()
        keys, values = self._keys[0], self._values[0]
        here = slice(*np.searchsorted(keys, [first * self._n_ids, last * self._n_ids]).tolist())
        rows = keys[here] // self._n_ids - first
        return offsets_of_rows(rows, last - first), keys[here] % self._n_ids, values[here]


def offsets_of_rows(rows: np.ndarray, n: int) -> np.ndarray:
    """Where each of ``n`` rows begins, and the end of the last, in entries sorted by row."""
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
