"""Histograms whose bins need not be known beforehand, and which merge exactly all the same.

A component's bins are [i · 2^e, (i + 1) · 2^e) for −n/2 ≤ i < n/2, with the smallest exponent e that
its values so far fit in. Where a larger value comes, e grows and bins are joined two by two: a bin is
always the union of whole older ones, so the counts are those of binning everything with the final e.
"""

from __future__ import annotations

from typing import Final

import numpy as np

#: The exponent of what has seen nothing; smaller values than its bins all count as one.
LOWEST: Final = -120


class Histograms:
    """Counts [n, bins] and exponents [n]; ``bins`` is a power of two."""

    def __init__(self, n: int, bins: int) -> None:
        if bins < 2 or bins & (bins - 1):
            raise ValueError("the number of bins must be a power of two")
        self.exponent = np.full(n, LOWEST, np.int64)
        self.counts = np.zeros((n, bins), np.int64)

    def add(self, component: np.ndarray, value: np.ndarray) -> None:
        """Count ``value`` [m] of ``component`` [m], which is in rising order."""
        if len(component) == 0:
            return
        n, bins = self.counts.shape
        first = np.flatnonzero(np.diff(component, prepend=-1))
        largest = np.maximum.reduceat(np.abs(value.astype(np.float64)), first)
        needed = np.frexp(largest)[1].astype(np.int64) - (bins.bit_length() - 2)
        needed = np.where(largest > 0, np.maximum(needed, LOWEST), LOWEST)
        self._coarsen(component[first], needed)
        place = np.floor(np.ldexp(value.astype(np.float64), -self.exponent[component])).astype(np.int64)
        flat = component * bins + place + bins // 2
        self.counts += np.bincount(flat, minlength=n * bins).reshape(n, bins)

    def _coarsen(self, component: np.ndarray, needed: np.ndarray) -> None:
        grows = needed > self.exponent[component]
        rows, exponent = component[grows], needed[grows]
        self.counts[rows] = coarsened(self.counts[rows], exponent - self.exponent[rows])
        self.exponent[rows] = exponent


def coarsened(counts: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Counts [m, bins] with bins ``2^steps`` [m] times as wide."""
    m, bins = counts.shape
    index = (np.arange(bins) - bins // 2 >> np.minimum(steps, 62)[:, None]) + bins // 2
    flat = (np.arange(m)[:, None] * bins + index).reshape(-1)
    sums = np.bincount(flat, weights=counts.reshape(-1), minlength=m * bins)
    return np.rint(sums).astype(np.int64).reshape(m, bins)
