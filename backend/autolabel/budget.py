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


@dataclass(frozen=True)
class Amount:
    """What one request takes of a budget."""

    tokens: int = 0
    cost: float = 0.0

    @classmethod
    def of(cls, usage: Usage, prices: Prices | None) -> Amount:
        """Without prices it costs nothing."""
        return cls(
            usage.prompt_tokens + usage.completion_tokens, 0.0 if prices is None else prices.cost(usage)
        )


class Budget:
    """Money and tokens that may be spent, of which some are spent and some set aside.

    One budget is for all models that are asked, whatever each costs.
    """

    def __init__(
        self,
        *,
        cap: float | None = None,
        cap_tokens: int | None = None,
        spent: float = 0.0,
        spent_tokens: int = 0,
    ) -> None:
        """``spent`` by earlier parts of the same work."""
        self._cap, self._cap_tokens = cap, cap_tokens
        self.spent, self.spent_tokens = spent, spent_tokens
        self._aside: list[Amount] = []
        self._settled = asyncio.Condition()

    def _fits(self, amount: Amount) -> bool:
        every = [*self._aside, amount]
        money = self.spent + sum(a.cost for a in every)
        tokens = self.spent_tokens + sum(a.tokens for a in every)
        return (self._cap is None or money <= self._cap) and (
            self._cap_tokens is None or tokens <= self._cap_tokens
        )

    async def set_aside(self, amount: Amount) -> None:
        """Wait until so much is free, for others may give back; raises :class:`CapReachedError`."""
        async with self._settled:
            while not self._fits(amount):
                if not self._aside:
                    raise CapReachedError
                await self._settled.wait()
            self._aside.append(amount)

    async def settle(self, aside: Amount, actual: Amount | None) -> None:
        """Put what it cost in the place of what was set aside; None: nothing."""
        async with self._settled:
            self._aside.remove(aside)
            if actual is not None:
                self.spent += actual.cost
                self.spent_tokens += actual.tokens
            self._settled.notify_all()
