"""What asking costs, and a cap that is never exceeded.

Before a request is sent, its largest possible cost is set aside: every token of a prompt is at least one
byte of it, and an answer has at most as many tokens as were allowed. What cannot be set aside is not
sent. When the answer is there, what it really cost takes the place of what was set aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from backend.autolabel.provider import Message, Usage

#: Tokens that servers put around each message, at most.
PER_MESSAGE = 16
#: Bytes of a token in prompts like ours, for expectations only: prose has more than four, numbers fewer.
BYTES_PER_TOKEN = 3.5


class CapReachedError(Exception):
    """The next request might cost more than is left."""


@dataclass(frozen=True)
class Prices:
    """Of a million tokens, in whatever currency the user counts."""

    prompt: float
    completion: float

    def cost(self, usage: Usage) -> float:
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


def at_most(messages: Sequence[Message], schema_bytes: int, max_output: int) -> Usage:
    """No tokenizer makes more of it. A schema may be put into the prompt by the server."""
    size = sum(len(message.content.encode()) + PER_MESSAGE for message in messages)
    return Usage(size + schema_bytes, max_output)


def expected(messages: Sequence[Message], output: int) -> Usage:
    """About what a tokenizer makes of it."""
    size = sum(len(message.content.encode()) for message in messages)
    return Usage(round(size / BYTES_PER_TOKEN) + 4 * len(messages), output)


class Budget:
    """Money and tokens that may be spent, of which some are spent and some set aside."""

    def __init__(
        self,
        prices: Prices | None = None,
        *,
        cap: float | None = None,
        cap_tokens: int | None = None,
        spent: float = 0.0,
        spent_tokens: int = 0,
    ) -> None:
        """``spent`` by earlier parts of the same work."""
        if cap is not None and prices is None:
            raise ValueError("a cap on money needs prices")
        self._prices = prices or Prices(0.0, 0.0)
        self._cap, self._cap_tokens = cap, cap_tokens
        self.spent, self.spent_tokens = spent, spent_tokens
        self._aside: list[Usage] = []
        self._settled = asyncio.Condition()

    def cost(self, usage: Usage) -> float:
        return self._prices.cost(usage)

    def _fits(self, usage: Usage) -> bool:
        every = [*self._aside, usage]
        money = self.spent + sum(map(self.cost, every))
        tokens = self.spent_tokens + sum(u.prompt_tokens + u.completion_tokens for u in every)
        return (self._cap is None or money <= self._cap) and (
            self._cap_tokens is None or tokens <= self._cap_tokens
        )

    async def set_aside(self, usage: Usage) -> None:
        """Wait until so much is free, for others may give back; raises :class:`CapReachedError`."""
        async with self._settled:
            while not self._fits(usage):
                if not self._aside:
                    raise CapReachedError
                await self._settled.wait()
            self._aside.append(usage)

    async def settle(self, aside: Usage, actual: Usage | None) -> None:
        """Put what it cost in the place of what was set aside; None: nothing."""
        async with self._settled:
            self._aside.remove(aside)
            if actual is not None:
                self.spent += self.cost(actual)
                self.spent_tokens += actual.prompt_tokens + actual.completion_tokens
            self._settled.notify_all()
