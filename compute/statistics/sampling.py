"""Samples that do not depend on how the work was divided.

Every firing has a priority, a hash of the seed, the component and the position in the corpus; the k
smallest of a component are kept. Priorities are as good as independent uniform numbers, so this is a
uniform sample without replacement, and the k smallest of several parts' k smallest are the k smallest
of all: merged shards hold exactly the sample of one pass.
"""

from __future__ import annotations

from typing import Final

import numpy as np

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


def _mixed(z: np.ndarray) -> np.ndarray:
    """The finaliser of the splitmix64 generator: a bijection of 64-bit numbers that hides its input."""
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


def priorities(seed: int, component: np.ndarray, position: np.ndarray) -> np.ndarray:
    """uint64 for each pair of a flat component index and a corpus position."""
    with np.errstate(over="ignore"):
        start = _mixed(np.array([seed % 2**64], np.uint64) + _GOLDEN)
        of_component = _mixed(start ^ (component.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        return _mixed(of_component ^ (position.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def strengths(ci: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """uint64 keys that order firings by causal importance, then by size of activation, falling.

    Bits of non-negative floats are ordered like the floats themselves.
    """
    high = np.ascontiguousarray(ci, np.float32).view(np.uint32).astype(np.uint64)
    low = np.abs(np.ascontiguousarray(activation, np.float32)).view(np.uint32).astype(np.uint64)
    return ~((high << np.uint64(32)) | low)


def smallest(component: np.ndarray, key: np.ndarray, position: np.ndarray, k: int) -> np.ndarray:
    """Indices of the ``k`` smallest keys of each component, equal ones by position.

    Sorted by component, then key, then position.
    """
    order = np.lexsort((position, key, component))
    sorted_component = component[order]
    first = np.searchsorted(sorted_component, sorted_component, side="left")
    return order[np.arange(len(order)) - first < k]
