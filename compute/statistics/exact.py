"""Sums that come out the same in whatever order their parts are added.

Each batch's sum is rounded to a whole number of quanta once; whole numbers add without rounding. So
shards may be cut and merged anywhere between batches, and the result is that of one pass, bit by bit.
"""

from __future__ import annotations

from typing import Final

import numpy as np

#: A sum is high · 2^-HIGH_BITS + low · 2^-LOW_BITS, with 0 ≤ low < 2^(LOW_BITS − HIGH_BITS).
HIGH_BITS: Final = 20
LOW_BITS: Final = 60
#: Probability masses are whole numbers of 2^-MASS_BITS.
MASS_BITS: Final = 32


class ExactSums:
    """n sums of float64 numbers below 2^43, kept to 2^-60."""

    def __init__(self, n: int) -> None:
        self.parts = np.zeros((n, 2), np.int64)

    def add(self, values: np.ndarray) -> None:
        """Add one number [n] to each sum; this rounds, at 2^-60, nothing else does."""
        high = np.floor(np.ldexp(values, HIGH_BITS))
        rest = values - np.ldexp(high, -HIGH_BITS)
        self.parts[:, 0] += high.astype(np.int64)
        self.parts[:, 1] += np.rint(np.ldexp(rest, LOW_BITS)).astype(np.int64)
        carry(self.parts)


def carry(parts: np.ndarray) -> None:
    """Bring low parts [n, 2] back into their range, in place: one spelling for each sum."""
    bits = LOW_BITS - HIGH_BITS
    parts[:, 0] += parts[:, 1] >> bits
    parts[:, 1] &= (1 << bits) - 1
