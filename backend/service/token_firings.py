"""Which components fire on a token more often than by chance: a harvest's input lists, turned around.

Only what is significant is kept (the lower end of the interval of the PMI above 0), so that the index
of a large run stays far smaller than its harvest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.service.association import associated
from compute.progress import Report
from storage.harvest import Harvest

#: Components whose lists are looked at together.
_BAND = 512


@dataclass(frozen=True)
class TokenFirings:
    """m pairs by token, then component: ``token``, ``flat`` and ``count`` are [m].

    ``starts`` [vocab + 1] is where each token's pairs begin.
    """

    starts: np.ndarray
    flat: np.ndarray
    count: np.ndarray

    def of(self, token: int) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices of the components, and their firings on the token."""
        here = slice(int(self.starts[token]), int(self.starts[token + 1]))
        return self.flat[here].astype(np.int64), self.count[here].astype(np.int64)


def token_firings(harvest: Harvest, report: Report) -> TokenFirings:
    """Read all input lists once; raises :class:`storage.errors.StoreDamagedError`."""
    firing, occurrences = harvest.values("firing_count"), harvest.token_count
    tokens, flats, counts = ([np.empty(0, np.uint32)] for _ in range(3))
    for first in range(0, harvest.n_components, _BAND):
        report("components", first, harvest.n_components)
        here = range(first, min(first + _BAND, harvest.n_components))
        lists = [harvest.raw_list("input", flat) for flat in here]
        ids = np.concatenate([found for found, _ in lists])
        joint = np.concatenate([values for _, values in lists])
        flat = np.repeat(list(here), [len(found) for found, _ in lists])
        found = associated(harvest, joint, firing[flat], occurrences[ids])
        kept = np.flatnonzero(found.pmi_low > 0)
        for parts, values in ((tokens, ids), (flats, flat), (counts, joint)):
            parts.append(values[kept].astype(np.uint32))
    token = np.concatenate(tokens)
    order = np.argsort(token, kind="stable")
    starts = np.searchsorted(token[order], np.arange(len(occurrences) + 1))
    return TokenFirings(starts, np.concatenate(flats)[order], np.concatenate(counts)[order])
