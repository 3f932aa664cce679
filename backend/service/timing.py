"""Seconds a response took."""

from __future__ import annotations

import time


class Stopwatch:
    """Starts when made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start
