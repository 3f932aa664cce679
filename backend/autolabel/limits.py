"""How fast to ask: requests and tokens a minute, kept by all that ask together."""

from __future__ import annotations

import asyncio
import time


class RateLimit:
    """Spaces requests evenly, so that no minute, wherever it begins, holds more than allowed.

    A burst followed by silence would keep an average and still be refused. Tokens are counted by
    expectation when a request starts; :meth:`correct` puts that right when the answer says the truth.
    """

    def __init__(self, requests: float | None = None, tokens: float | None = None) -> None:
        """So many a minute; None: as many as there are."""
        self._request = 60.0 / requests if requests else 0.0
        self._token = 60.0 / tokens if tokens else 0.0
        self._next = 0.0

    async def wait(self, tokens: int) -> None:
        """Return when a request of so many tokens may start."""
        while True:
            # Looked at again after sleeping: a server may have asked for a pause meanwhile.
            delay = self._next - time.monotonic()
            if delay <= 0:
                break
            await asyncio.sleep(delay)
        self._next = time.monotonic() + max(self._request, tokens * self._token)

    def correct(self, expected: int, actual: int) -> None:
        """Account for an answer that took other than the expected number of tokens."""
        self._next += (actual - expected) * self._token

    def pause(self, seconds: float) -> None:
        """Let nothing start for so long: what the server asks of one, it means for all."""
        self._next = max(self._next, time.monotonic() + seconds)
