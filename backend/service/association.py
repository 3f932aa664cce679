"""Associations of a harvest's counts."""

from __future__ import annotations

import numpy as np

from compute.statistics.association import Associations, associations
from storage.errors import StoreDamagedError
from storage.harvest import Harvest


def associated(
    harvest: Harvest, joint: np.ndarray, fired: int | np.ndarray, totals: np.ndarray, *, rounded: bool = False
) -> Associations:
    """How ``joint`` [n] firings together go with ``fired`` firings and ``totals`` [n] occurrences.

    ``rounded`` numbers are kept within what is possible. Counts that no text can have are damage.
    """
    if rounded:
        least = np.maximum(0.0, fired + totals - harvest.tokens)
        joint = np.clip(joint, least, np.minimum(fired, totals))
    try:
        return associations(joint, fired, totals, harvest.tokens)
    except ValueError as error:
        raise StoreDamagedError(harvest.path, f"has counts that no text can have ({error})") from error
