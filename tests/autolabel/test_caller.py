"""Patience, limits and money: what is asked again, how fast, and when it stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.autolabel.answers import LabelAnswer
from backend.autolabel.budget import Amount, Budget, CapReachedError, Prices, at_most
from backend.autolabel.caller import Caller, Patience, QuestionFailedError, WorkStoppedError
from backend.autolabel.chat import ChatProvider, Endpoint
from backend.autolabel.limits import RateLimit
from backend.autolabel.provider import Message, Usage
from storage.label_sets import LabelSets
from tests.support.model_server import ModelServer, Reply, Request, complains, label, says

MESSAGES = [Message("user", "what is it?")]
QUICK = Patience(retries=3, first=0.01, longest=0.02)


@pytest.fixture
def set_id(sets: LabelSets) -> int:
    return sets.open_set("toy", "d", "a", "evidence", {})[0].id


def call(
    server: ModelServer,
    sets: LabelSets,
    what: Callable[[Caller], Awaitable[object]],
    *,
    budget: Budget | None = None,
    prices: Prices | None = None,
    patience: Patience = QUICK,
    limit: RateLimit | None = None,
    max_output: int = 50,
    timeout: float = 60.0,
) -> Caller:
    async def go() -> Caller:
        provider = ChatProvider(Endpoint(server.url, "toy"), timeout=timeout, connections=32)
        caller = Caller(
            provider, sets, 1,
            budget=budget or Budget(), prices=prices, limit=limit or RateLimit(),
            max_output=max_output, patience=patience,
        )  # fmt: skip
        try:
            await what(caller)
        finally:
            await provider.close()
        return caller

    return asyncio.run(go())


async def ask(caller: Caller, key: str = "0.attn.q:0") -> LabelAnswer:
    return await caller.ask("evidence", key, MESSAGES, LabelAnswer, output=20)


def in_turn(*replies: Reply) -> Callable[[object], Reply]:
    rest: Iterator[Reply] = iter(replies)
    return lambda _: next(rest)


def test_passing_failures_are_tried_again_and_written_down(
    server: ModelServer, sets: LabelSets, set_id: int
) -> None:
    server.answer = in_turn(complains(500, "oops"), Reply(b"?"), label(delay=60.0), label("commas"))
    call(server, sets, ask, budget=Budget(cap=1e9), prices=Prices(1e6, 1e6), timeout=2.0)
    attempts = sets.attempts(set_id, "0.attn.q:0")
    assert [(a.number, a.state, a.error[:18]) for a in attempts] == [
        (1, "failed", "status 500: oops"),
        (2, "failed", "the reply is not o"),
        (3, "failed", "no answer within 2"),
        (4, "answered", ""),
    ]
    most = at_most(MESSAGES, 0, 50)
    # Not charged; charged perhaps and nobody says how much, twice; as counted.
    assert attempts[0].cost == 0
    assert not attempts[1].counted
    assert attempts[1].cost == attempts[2].cost >= most.prompt_tokens + 50
    assert (attempts[3].counted, attempts[3].cost) == (True, 110)
    assert '"commas"' in attempts[3].answer
    assert attempts[3].messages == [{"role": "user", "content": "what is it?"}]


def test_patience_ends(server: ModelServer, sets: LabelSets, set_id: int) -> None:
    server.answer = lambda _: complains(503, "down")
    with pytest.raises(QuestionFailedError, match="4 attempts failed, the last with: status 503: down"):
        call(server, sets, ask)
    assert len(server.requests) == 4
    server.answer = lambda _: says(None, refusal="no")
    with pytest.raises(QuestionFailedError, match="declined: no"):
        call(server, sets, ask)
    assert len(server.requests) == 5  # asking again would be refused again


def test_a_server_that_asks_to_wait_is_waited_for_by_all(
    server: ModelServer, sets: LabelSets, set_id: int
) -> None:
    def busy_once(request: Request) -> Reply:
        return complains(429, "slow", headers={"Retry-After": "1.5"}) if request.number == 0 else label()

    server.answer = busy_once

    async def two(caller: Caller) -> None:
        first = asyncio.create_task(ask(caller))
        while sets.spending(set_id).failed == 0 or sets.attempts(set_id, "0.attn.q:0")[0].state == "sent":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await asyncio.gather(first, ask(caller, "0.attn.q:1"))

    call(server, sets, two)
    first, second, third = (request.at for request in server.requests)
    assert min(second, third) - first >= 1.4
    server.answer = lambda _: complains(429, "slow", headers={"Retry-After": "90000"})
    with pytest.raises(QuestionFailedError, match="asks to wait 90,000 s"):
        call(server, sets, ask)


def test_an_answer_that_cannot_be_read_is_repaired_once(
    server: ModelServer, sets: LabelSets, set_id: int
) -> None:
    server.answer = in_turn(says("It is about commas."), label("commas"))
    call(server, sets, ask)
    roles = [message["role"] for message in server.requests[1].body["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert "it is not JSON" in server.requests[1].text
    assert [a.error for a in sets.attempts(set_id, "0.attn.q:0")] == ["it is not JSON", ""]
    server.answer = in_turn(says("{}"), says('{"label": "x", "reasoning": "y", "confidence": "sure"}'))
    with pytest.raises(QuestionFailedError, match="could not be read, twice: confidence"):
        call(server, sets, ask)
    server.answer = in_turn(says('{"label": "x', finish="length"))
    with pytest.raises(QuestionFailedError, match="cut at 50 tokens"):
        call(server, sets, ask)


def test_an_endpoint_that_refuses_everything_stops_the_work(
    server: ModelServer, sets: LabelSets, set_id: int
) -> None:
    server.answer = lambda _: complains(401, "bad key")

    async def twice(caller: Caller) -> None:
        for _ in range(2):
            with pytest.raises(WorkStoppedError, match="bad key"):
                await ask(caller)

    assert call(server, sets, twice).stopped.startswith("endpoint: ")
    assert len(server.requests) == 1


def test_the_cap_is_never_exceeded_however_many_ask(
    server: ModelServer, sets: LabelSets, set_id: int
) -> None:
    most = at_most(MESSAGES, 0, 50)
    server.answer = lambda r: label(usage=(most.prompt_tokens, 50), delay=0.01 * (r.number % 3))
    cap = 12.5 * (most.prompt_tokens + 50)

    async def many(caller: Caller) -> None:
        results = await asyncio.gather(
            *(ask(caller, f"0.attn.q:{i}") for i in range(30)), return_exceptions=True
        )
        assert sum(isinstance(r, WorkStoppedError) for r in results) >= 18

    caller = call(server, sets, many, budget=Budget(cap=cap), prices=Prices(1e6, 1e6))
    spent = sets.spending(set_id)
    assert caller.stopped == "cap"
    # What might have been spent is set aside, the schema included: the last ones are not risked.
    assert 0.6 * cap < spent.cost <= cap
    assert spent.requests == len(server.requests)


def test_a_cap_of_tokens(server: ModelServer, sets: LabelSets, set_id: int) -> None:
    server.answer = lambda _: label()

    async def until_it_stops(caller: Caller) -> None:
        while True:
            await ask(caller)

    with pytest.raises(WorkStoppedError):
        call(server, sets, until_it_stops, budget=Budget(cap_tokens=2000))
    spent = sets.spending(set_id)
    assert 1400 < spent.prompt_tokens + spent.completion_tokens <= 2000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.booleans()), max_size=30),
    st.integers(0, 400),
)
def test_spent_and_set_aside_never_exceed_the_cap(work: list[tuple[int, int, bool]], cap: int) -> None:
    async def go() -> None:
        budget, prices = Budget(cap=float(cap)), Prices(1e6, 0)
        aside = 0

        async def one(most: int, actual: int, answered: bool) -> None:
            nonlocal aside
            amount = Amount.of(Usage(most, 0), prices)
            await budget.set_aside(amount)
            aside += most
            assert budget.spent + aside <= cap + 1e-9
            await asyncio.sleep(0)
            aside -= most
            used = Amount.of(Usage(min(actual, most), 0), prices)
            await budget.settle(amount, used if answered else None)

        results = await asyncio.gather(*(one(*w) for w in work), return_exceptions=True)
        assert all(r is None or isinstance(r, CapReachedError) for r in results)
        assert budget.spent <= cap + 1e-9

    asyncio.run(go())


def test_requests_and_tokens_are_spaced() -> None:
    async def go() -> None:
        limit = RateLimit(requests=600)  # one in 0.1 s
        started = time.monotonic()
        await asyncio.gather(*(limit.wait(1) for _ in range(4)))
        assert 0.29 <= time.monotonic() - started < 10
        limit = RateLimit(tokens=6000)  # one in 0.01 s
        started = time.monotonic()
        await limit.wait(20)
        limit.correct(20, 10)
        await limit.wait(1)
        assert 0.09 <= time.monotonic() - started < 10

    asyncio.run(go())


def test_prompts_are_never_more_tokens_than_bytes() -> None:
    usage = at_most([Message("user", "añ→")], 10, 7)
    assert usage == Usage(1 + 2 + 3 + 16 + 10, 7)
    assert Amount.of(usage, None) == Amount(39, 0.0)
    assert Amount.of(usage, Prices(1e6, 2e6)) == Amount(39, 46.0)
