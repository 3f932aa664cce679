"""The k firings of each component with the smallest keys, with what surrounds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from compute.statistics.sampling import smallest

#: Fewer new candidates than this are not worth a sorting.
_FEW: Final = 1 << 15
_NO_THRESHOLD: Final = np.uint64(2**64 - 1)
#: Columns besides the component; the last two are [n, L].
COLUMNS: Final = ("key", "position", "document", "before", "after", "ci", "activation")


class Pool:
    """Examples of all components; ``wanted`` says which firings are worth the trouble of looking up."""

    def __init__(self, n_components: int, k: int, length: int) -> None:
        self._n, self._k = n_components, k
        self._threshold = np.full(n_components, _NO_THRESHOLD if k else np.uint64(0), np.uint64)
        self._component = np.zeros(0, np.int64)
        self._columns: dict[str, np.ndarray] = {
            "key": np.zeros(0, np.uint64),
            "position": np.zeros(0, np.int64),
            "document": np.zeros(0, np.int64),
            "before": np.zeros(0, np.int64),
            "after": np.zeros(0, np.int64),
            "ci": np.zeros((0, length), np.float32),
            "activation": np.zeros((0, length), np.float32),
        }
        self._new: list[tuple[np.ndarray, Mapping[str, np.ndarray]]] = []
        self._n_new = 0

    def wanted(self, component: np.ndarray, key: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Indices of the firings that may be among the smallest, at most k of each component."""
        if not self._k:
            return np.zeros(0, np.int64)
        candidates = np.flatnonzero(key <= self._threshold[component])
        chosen = smallest(component[candidates], key[candidates], position[candidates], self._k)
        return candidates[chosen]

    def add(self, component: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
        self._new.append((component, columns))
        self._n_new += len(component)
        if self._n_new > max(_FEW, len(self._component) // 2):
            self._settle()

    def _settle(self) -> None:
        """Keep the smallest only, sorted by component and key."""
        if not self._new:
            return
        component = np.concatenate([self._component, *(c for c, _ in self._new)])
        columns = {
            name: np.concatenate([old, *(new[name].astype(old.dtype, copy=False) for _, new in self._new)])
            for name, old in self._columns.items()
        }
        kept = smallest(component, columns["key"], columns["position"], self._k)
        self._component = component[kept]
        self._columns = {name: values[kept] for name, values in columns.items()}
        self._new, self._n_new = [], 0
        ends = np.searchsorted(self._component, np.arange(self._n), side="right")
        full = np.bincount(self._component, minlength=self._n) == self._k
        self._threshold[full] = self._columns["key"][ends[full] - 1]

    def columns(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Columns of some components, and their ``offsets``."""
        self._settle()
        edges = np.searchsorted(self._component, np.arange(first, last + 1))
        here = slice(int(edges[0]), int(edges[-1]))
        return {"offsets": edges - edges[0]} | {n: v[here] for n, v in self._columns.items()}
