"""Decompositions that are loaded, by the identity of their run."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from backend.service.run import Run
from storage.errors import RunError
from storage.files import sha256_file

if TYPE_CHECKING:
    from compute.decomposition.model import Decomposition

#: How many models are kept; another one takes the place of the one not used for longest.
_KEPT = 2


class Models:
    """To be used by the thread that computes, and by no other."""

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._loaded: OrderedDict[str, Decomposition] = OrderedDict()

    def get(self, run: Run) -> Decomposition:
        """The run's decomposition on the device; raises :class:`storage.errors.RunError`."""
        if run.digest in self._loaded:
            self._loaded.move_to_end(run.digest)
            return self._loaded[run.digest]
        from backend.pipelines.load import load_decomposition

        while len(self._loaded) >= _KEPT:
            self._loaded.popitem(last=False)
        found = load_decomposition(run.directory, self.device())
        if sha256_file(run.directory.path / "run.json") != run.digest:
            raise RunError(f"the run {run.name} was made again at this moment", "ask again")
        self._loaded[run.digest] = found
        return found

    def device(self) -> str:
        """What is computed on; raises a user's error for a device that is absent."""
        from backend.pipelines.common import choose_device

        return choose_device(self._device)
