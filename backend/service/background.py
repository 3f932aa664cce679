"""What is worked out once, when it is first asked for, and kept: scans of stores that the table sorts by.

They read files and multiply matrices on a thread of their own; the thread that computes stays free.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunningError
from dataclasses import dataclass
from typing import Generic, TypeVar

from backend.errors import ServiceError
from backend.service.timing import Stopwatch
from compute.progress import Report

T = TypeVar("T")
#: Seconds that a request waits.
PATIENCE = 10.0


@dataclass(frozen=True)
class Timed(Generic[T]):
    value: T
    seconds: float


class Once(Generic[T]):
    """The result for the subrun that was asked for last. Threads may share one."""

    def __init__(self, what: str) -> None:
        """``what`` is being done, as the beginning of a sentence."""
        self._what = what
        self._lock = threading.Lock()
        self._subrun: str | None = None
        self._future: Future[Timed[T]] = Future()
        self._share = 0.0

    def get(self, subrun: str, work: Callable[[Report], T], patience: float = PATIENCE) -> Timed[T]:
        """Wait for the result; raises a 503 where it takes longer, and what ``work`` raises.

        What failed is tried again when it is asked for again: the files may have been repaired.
        """
        with self._lock:
            failed = self._future.done() and self._future.exception() is not None
            if self._subrun != subrun or failed:
                self._subrun, self._future, self._share = subrun, Future(), 0.0
                threading.Thread(
                    target=self._run, args=(work, self._future), name="tributary-scan", daemon=True
                ).start()
            future = self._future
        try:
            return future.result(patience)
        except StillRunningError:
            raise ServiceError(
                503,
                "busy",
                f"{self._what}: {self._share:.0%} done",
                "This is done once for each subrun; ask again in a moment.",
            ) from None

    def _run(self, work: Callable[[Report], T], future: Future[Timed[T]]) -> None:
        watch = Stopwatch()

        def report(_: str, done: int, total: int) -> None:
            self._share = done / max(1, total)

        try:
            future.set_result(Timed(work(report), watch.seconds))
        except BaseException as error:  # noqa: BLE001 (whoever waits gets it)
            future.set_exception(error)
