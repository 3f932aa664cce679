"""Toy models that are loaded, by the identity of their run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from backend.service.run import Run

if TYPE_CHECKING:
    from compute.toys.decomposition import ToyDecomposition

#: How many are kept; another one takes the place of the one not used for longest.
_KEPT = 4


class Toys:
    """Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, ToyDecomposition] = OrderedDict()

    def get(self, run: Run) -> ToyDecomposition:
        """The run's toy model; raises :class:`storage.errors.RunError` where it cannot be loaded."""
        with self._lock:
            if run.digest not in self._loaded:
                from backend.pipelines.load_toy import load_toy

                self._loaded[run.digest] = load_toy(run.directory)
                while len(self._loaded) > _KEPT:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(run.digest)
            return self._loaded[run.digest]
