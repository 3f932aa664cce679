"""One exchange with a server that speaks the protocol well, badly, slowly or not at all."""

from __future__ import annotations

import asyncio
import email.utils
import json
import socket
import time
from collections.abc import Callable

import pytest

from backend.autolabel.chat import ChatProvider, Endpoint, EndpointUsageError, retry_after
from backend.autolabel.provider import (
    Answer,
    EndpointError,
    Message,
    ProviderError,
    RequestRefusedError,
    TemporaryError,
    Usage,
)
from tests.support.model_server import ModelServer, Reply, complains, label, says

MESSAGES = [Message("system", "be good"), Message("user", "what is it?")]
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}}


def ask(url: str, *, key: str | None = None, timeout: float = 60.0, times: int = 1) -> list[Answer]:
    async def go() -> list[Answer]:
        provider = ChatProvider(Endpoint(url, "toy", key), timeout=timeout)
        try:
            return [await provider.complete(MESSAGES, SCHEMA, max_output=50) for _ in range(times)]
        finally:
            await provider.close()

    return asyncio.run(go())


def test_what_is_sent_and_what_comes_back(server: ModelServer) -> None:
    server.answer = lambda _: says("hello", usage=(12, 3))
    (answer,) = ask(server.url, key="secret-1")
    assert (answer.text, answer.usage, answer.finish, answer.model) == (
        "hello",
        Usage(12, 3),
        "stop",
        "toy-1",
    )
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == "Bearer secret-1"
    assert request.body["messages"] == [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": "what is it?"},
    ]
    assert (request.body["model"], request.body["max_tokens"]) == ("toy", 50)
    assert request.body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_server_without_a_key_gets_none_and_may_not_count(server: ModelServer) -> None:
    server.answer = lambda _: says("hello", usage=None)
    assert ask(server.url)[0].usage is None
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("usage", [{"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": "3"}, 7])
def test_a_count_that_makes_no_sense_is_none(server: ModelServer, usage: object) -> None:
    reply = says("x")
    assert isinstance(reply.body, dict)
    reply.body["usage"] = usage
    server.answer = lambda _: reply
    assert ask(server.url)[0].usage is None


def test_what_a_server_does_not_know_is_left_out_from_then_on(server: ModelServer) -> None:
    def old(request: object) -> Reply:
        body = server.requests[-1].body
        if "temperature" in body:
            return complains(400, "Unsupported value: 'temperature'")
        if "max_tokens" in body:
            return complains(400, "Use 'max_completion_tokens' instead of max_tokens")
        if body.get("response_format", {}).get("type") == "json_schema":
            return complains(422, "response_format: json_schema is not supported")
        if "response_format" in body:
            return complains(400, "unknown field response_format")
        return says("at last")

    server.answer = old
    answers = ask(server.url, times=2)
    assert [answer.text for answer in answers] == ["at last", "at last"]
    # Four refusals once, then never again.
    assert len(server.requests) == 6
    assert server.requests[-1].body.keys() == {"model", "messages", "max_completion_tokens"}


FAILURES: list[tuple[str, Callable[[], Reply], type[ProviderError], str, bool]] = [
    ("busy", lambda: complains(429, "slow down"), TemporaryError, "status 429: slow down", False),
    ("broken", lambda: Reply(b"<html>oops</html>", 500), TemporaryError, "status 500: <html>oops", False),
    ("overloaded", lambda: complains(529, "later"), TemporaryError, "status 529", False),
    ("not JSON", lambda: Reply(b"certainly!"), TemporaryError, "not of the protocol", True),
    ("no choices", lambda: Reply({"choices": []}), TemporaryError, "not of the protocol", True),
    ("a list", lambda: Reply(b"[1]"), TemporaryError, "not of the protocol", True),
    ("cut", lambda: label(cut=True), TemporaryError, "broke in the middle", True),
    ("slow", lambda: label(delay=60), TemporaryError, "no answer within 1 s", True),
    ("dripping", lambda: label(drip=0.4), TemporaryError, "no answer within 1 s", True),
    ("too long a prompt", lambda: complains(400, "context length exceeded"), RequestRefusedError, "context", False),
    ("refusal", lambda: says(None, refusal="I will not."), RequestRefusedError, "declined: I will not", True),
    ("filter", lambda: says("half", finish="content_filter"), RequestRefusedError, "content filter", True),
    ("endless", lambda: Reply(b"x" * (5 << 20)), RequestRefusedError, "longer than 4 MiB", True),
    ("wrong key", lambda: complains(401, "bad key"), EndpointError, "status 401: bad key", False),
    ("no money", lambda: complains(402, "no credit"), EndpointError, "no credit", False),
    ("no model", lambda: complains(404, "no such model"), EndpointError, "no such model", False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "kind", "said", "charged"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES]
)
def test_failures_say_what_happened_and_whether_it_may_cost(
    server: ModelServer, reply: Callable[[], Reply], kind: type[ProviderError], said: str, charged: bool
) -> None:
    server.answer = lambda _: reply()
    started = time.monotonic()
    with pytest.raises(kind, match=said.replace("(", ".")) as caught:
        ask(server.url, timeout=1.0 if "within" in said else 60.0)
    assert caught.value.charged is charged
    assert time.monotonic() - started < 30


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(TemporaryError, match="no connection to"):
        ask(f"http://127.0.0.1:{port}/v1")


def test_the_key_goes_nowhere_else_and_is_never_repeated(server: ModelServer) -> None:
    server.answer = lambda _: Reply(b"", 307, {"Location": "http://127.0.0.1:9/elsewhere"})
    with pytest.raises(EndpointError, match="status 307"):
        ask(server.url, key="secret-1")
    assert len(server.requests) == 1
    server.answer = lambda _: complains(401, "Incorrect API key provided: secret-1")
    with pytest.raises(EndpointError) as caught:
        ask(server.url, key="secret-1")
    assert "secret-1" not in str(caught.value)
    server.answer = lambda _: says("your key is secret-1")
    assert ask(server.url, key="secret-1")[0].text == "your key is [key]"
    assert "secret-1" not in repr(Endpoint(server.url, "m", "secret-1"))


def test_answers_in_parts_are_one_text(server: ModelServer) -> None:
    reply = says("")
    assert isinstance(reply.body, dict)
    reply.body["choices"][0]["message"]["content"] = [{"type": "text", "text": '{"a":'}, {"text": "1}"}]
    server.answer = lambda _: reply
    assert json.loads(ask(server.url)[0].text) == {"a": 1}


def test_retry_after() -> None:
    assert retry_after("2.5") == 2.5
    assert retry_after("-3") == 0
    soon = retry_after(email.utils.formatdate(time.time() + 30, usegmt=True))
    assert soon is not None
    assert 27 < soon <= 30
    assert [retry_after(bad) for bad in (None, "soon", "nan", "inf", "")] == [None] * 5


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/v1", "is not the address"),
        ("127.0.0.1:8080", "is not the address"),
        ("http://", "is not the address"),
        ("http://host:99999/v1", "is not an address"),
        ("https://user:pass@host/v1", "plain address"),
        ("https://host/v1?key=abc", "plain address"),
        ("http://models.example/v1", "unencrypted"),
    ],
)
def test_addresses_that_are_refused(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret-1")
    with pytest.raises(EndpointUsageError, match=said) as caught:
        Endpoint.of(url, "m", "A_KEY")
    assert "pass" not in str(caught.value).replace("password", "")
    assert "secret-1" not in str(caught.value)


def test_addresses_and_keys_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " secret-1\n")
    found = Endpoint.of("https://models.example/v1/chat/completions/", "m", "A_KEY")
    assert (found.url, found.key, found.local) == ("https://models.example/v1", "secret-1", False)
    assert Endpoint.of("http://[::1]:8080/v1", "m", "A_KEY").local
    assert Endpoint.of("http://models.example/v1", "m").key is None
    monkeypatch.setenv("A_KEY", "")
    for variable in ("A_KEY", "NO_SUCH_KEY"):
        with pytest.raises(EndpointUsageError, match="is not set"):
            Endpoint.of("https://models.example/v1", "m", variable)
