"""Asking with patience: limits, money, attempts that are written down, and answers that are read.

One question may take several exchanges: what fails for a passing reason is tried again, what cannot be
read is asked again once. Each exchange is a row of its own, with its prompt and its raw answer.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from backend.autolabel.answers import MalformedAnswerError, parse, schema_of
from backend.autolabel.budget import Amount, Budget, CapReachedError, Prices, at_most, expected
from backend.autolabel.limits import RateLimit
from backend.autolabel.prompts import repair
from backend.autolabel.provider import (
    Answer,
    EndpointError,
    Message,
    Provider,
    RequestRefusedError,
    TemporaryError,
    Usage,
)
from storage.label_sets import LabelSets

Parsed = TypeVar("Parsed", bound=BaseModel)
T = TypeVar("T")


class QuestionFailedError(Exception):
    """This question has no answer; others may have one."""


class WorkStoppedError(Exception):
    """No further question can be asked."""


@dataclass(frozen=True)
class Patience:
    """How often to try again, and how long to wait: ``first`` seconds, then twice as long each time."""

    retries: int = 6
    first: float = 1.0
    longest: float = 60.0
    #: A server that asks to wait longer than this is not waited for.
    retry_after: float = 600.0


class Caller:
    """Asks one model questions for one label set. Many may ask at once, in one event loop.

    Without ``prices`` its answers cost nothing.
    """

    def __init__(
        self,
        provider: Provider,
        sets: LabelSets,
        set_id: int,
        *,
        budget: Budget,
        limit: RateLimit,
        prices: Prices | None = None,
        max_output: int,
        patience: Patience | None = None,
    ) -> None:
        self._provider = provider
        self._sets = sets
        self._set_id = set_id
        self._budget = budget
        self._limit = limit
        self._prices = prices
        self._max_output = max_output
        self._patience = patience or Patience()
        #: Why no more is asked; empty while it is.
        self.stopped = ""
        self._interrupted = asyncio.Event()

    def interrupt(self) -> None:
        """Stop at once: nothing more is sent or waited for, and what was answered is kept.

        To be called in the loop in which questions are asked. A request that is under way stays written
        down at its largest cost, for the server may have charged for it.
        """
        self.stopped = self.stopped or "interrupted"
        self._interrupted.set()

    async def _unless_interrupted(self, waiting: Coroutine[Any, Any, T]) -> T:
        """What ``waiting`` gives; raises :class:`WorkStoppedError` as soon as the work is interrupted."""
        task = asyncio.create_task(waiting)
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait((task, interrupted), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise WorkStoppedError(self.stopped)
            return task.result()
        finally:
            interrupted.cancel()
            if not task.done():
                task.cancel()
                # Whatever it still ends with is nobody's.
                await asyncio.gather(task, return_exceptions=True)

    async def ask(
        self, purpose: str, key: str, messages: Sequence[Message], shape: type[Parsed], *, output: int
    ) -> Parsed:
        """The answer, read; ``output`` tokens are expected of it.

        Raises :class:`QuestionFailedError`, or :class:`WorkStoppedError` where asking on has no sense.
        """
        try:
            found = await self._patiently(purpose, key, messages, shape, output)
            if isinstance(found, _Unreadable):
                again = [*messages, *repair(found.text, found.reason)]
                found = await self._patiently(purpose, key, again, shape, output)
        except CapReachedError:
            self.stopped = self.stopped or "cap"
            raise WorkStoppedError(self.stopped) from None
        except EndpointError as error:
            self.stopped = self.stopped or f"endpoint: {error}"
            raise WorkStoppedError(self.stopped) from None
        if isinstance(found, _Unreadable):
            raise QuestionFailedError(f"the answer could not be read, twice: {found.reason}")
        return found

    async def _patiently(
        self, purpose: str, key: str, messages: Sequence[Message], shape: type[Parsed], output: int
    ) -> Parsed | _Unreadable:
        wait = self._patience.first
        for attempt in range(self._patience.retries + 1):
            if self.stopped:
                raise WorkStoppedError(self.stopped)
            try:
                return await self._once(purpose, key, messages, shape, output)
            except RequestRefusedError as error:
                raise QuestionFailedError(str(error)) from None
            except TemporaryError as error:
                if attempt == self._patience.retries:
                    tried = f"{attempt + 1} attempts failed, the last with: " if attempt else ""
                    raise QuestionFailedError(f"{tried}{error}") from None
                if error.retry_after is not None:
                    if error.retry_after > self._patience.retry_after:
                        raise QuestionFailedError(
                            f"{error} (it asks to wait {error.retry_after:,.0f} s)"
                        ) from None
                    self._limit.pause(error.retry_after)
                    await self._unless_interrupted(asyncio.sleep(error.retry_after))
                else:
                    # Not all at the same moment again.
                    await self._unless_interrupted(asyncio.sleep(wait * random.uniform(0.5, 1.0)))
                    wait = min(2 * wait, self._patience.longest)
        raise AssertionError

    async def _once(
        self, purpose: str, key: str, messages: Sequence[Message], shape: type[Parsed], output: int
    ) -> Parsed | _Unreadable:
        """One exchange, paid for and written down."""
        schema = schema_of(shape)
        most = at_most(messages, len(json.dumps(schema)), self._max_output)
        about = expected(messages, output)
        await self._budget.set_aside(self._amount(most))
        actual: Usage | None = None
        try:
            await self._unless_interrupted(self._limit.wait(about.prompt_tokens + about.completion_tokens))
            if self.stopped:
                raise WorkStoppedError(self.stopped)
            written = [{"role": m.role, "content": m.content} for m in messages]
            attempt = await asyncio.to_thread(
                self._sets.begin_attempt,
                self._set_id,
                purpose,
                key,
                written,
                (most.prompt_tokens, most.completion_tokens),
                self._amount(most).cost,
            )
            # From here on it may be charged for, also when this is cancelled: the row says so already.
            actual = most
            try:
                answer = await self._unless_interrupted(
                    self._provider.complete(messages, schema, max_output=self._max_output)
                )
            except (TemporaryError, RequestRefusedError) as error:
                reported = error.usage if isinstance(error, RequestRefusedError) else None
                actual = reported or (most if error.charged else Usage(0, 0))
                await self._finish(
                    attempt, None, actual, str(error), counted=reported is not None or not error.charged
                )
                raise
            except EndpointError as error:
                actual = Usage(0, 0)
                await self._finish(attempt, None, actual, str(error), counted=True)
                raise
            actual = answer.usage or most
            found = self._read(answer, shape)
            reason = found.reason if isinstance(found, _Unreadable) else ""
            await self._finish(attempt, answer, actual, reason, counted=answer.usage is not None)
            if answer.usage is not None:
                self._limit.correct(
                    about.prompt_tokens + about.completion_tokens,
                    actual.prompt_tokens + actual.completion_tokens,
                )
            if isinstance(found, _Unreadable) and answer.finish == "length":
                raise QuestionFailedError(
                    f"the answer was cut at {self._max_output} tokens; allow more with --max-output"
                )
            return found
        finally:
            await self._budget.settle(self._amount(most), None if actual is None else self._amount(actual))

    def _amount(self, usage: Usage) -> Amount:
        return Amount.of(usage, self._prices)

    def _read(self, answer: Answer, shape: type[Parsed]) -> Parsed | _Unreadable:
        try:
            return parse(answer.text, shape)
        except MalformedAnswerError as error:
            return _Unreadable(answer.text, str(error))

    async def _finish(
        self, attempt: int, answer: Answer | None, usage: Usage, error: str, *, counted: bool
    ) -> None:
        await asyncio.to_thread(
            self._sets.finish_attempt,
            attempt,
            "failed" if error else "answered",
            answer="" if answer is None else answer.text,
            error=error,
            tokens=(usage.prompt_tokens, usage.completion_tokens),
            counted=counted,
            cost=self._amount(usage).cost,
            seconds=0.0 if answer is None else answer.seconds,
            model="" if answer is None else answer.model,
        )


@dataclass(frozen=True)
class _Unreadable:
    text: str
    reason: str
