"""What the table sorts by and no list has ready: each component's strongest source and target.

One scan of an attribution store, made when it is first asked for, on a thread of its own (it reads
files and multiplies matrices; the thread that computes stays free), and kept for as long as the run.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunningError
from dataclasses import dataclass

import numpy as np

from backend.errors import ServiceError
from backend.service.timing import Stopwatch
from compute.address import Address, Key
from storage.attributions import AttributionStore
from storage.strongest import Ends, StrongestEnds

#: Seconds that a request waits for the scan.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Ranking:
    """Strongest ends of all components of a store, and the seconds that finding them took."""

    ends: StrongestEnds
    seconds: float

    def ends_of(self, column: str, address: Address) -> Ends | None:
        """``column`` is ``strongest_source`` or ``strongest_target``; ``None`` for a site without."""
        found = self.ends.sources if column == "strongest_source" else self.ends.targets
        return found.get(address)

    def sizes(self, column: str, address: Address, count: int) -> np.ndarray:
        """|value| of every component of a site; NaN where it has no such edge."""
        ends = self.ends_of(column, address)
        return np.full(count, np.nan) if ends is None else np.abs(ends.value)

    def end(self, column: str, key: Key) -> tuple[Key, float] | None:
        """The other end of a component's strongest edge, and its value."""
        ends = self.ends_of(column, key.address)
        assert isinstance(key.index, int)
        other = None if ends is None else ends.key(key.index)
        return None if ends is None or other is None else (other, float(ends.value[key.index]))


class Rankings:
    """The ranking of the store that was asked for last. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subrun: str | None = None
        self._future: Future[Ranking] = Future()
        self._share = 0.0

    def get(self, store: AttributionStore, patience: float = _PATIENCE) -> Ranking:
        """Wait for the ranking; raises a 503 where it takes longer, and the store's errors."""
        with self._lock:
            broken = self._future.done() and self._future.exception() is not None
            if self._subrun != store.subrun or broken:
                self._subrun, self._future, self._share = store.subrun, Future(), 0.0
                work = threading.Thread(
                    target=self._scan, args=(store, self._future), name="tributary-ranking", daemon=True
                )
                work.start()
            future = self._future
        try:
            return future.result(patience)
        except StillRunningError:
            raise ServiceError(
                503,
                "busy",
                f"All sources and targets are being ranked, {self._share:.0%} are done",
                "This is done once for each subrun; ask again in a moment.",
            ) from None

    def _scan(self, store: AttributionStore, future: Future[Ranking]) -> None:
        watch = Stopwatch()

        def report(_: str, done: int, total: int) -> None:
            self._share = done / total

        try:
            future.set_result(Ranking(store.strongest_ends(report), watch.seconds))
        except BaseException as error:  # noqa: BLE001 (whoever waits gets it)
            future.set_exception(error)
