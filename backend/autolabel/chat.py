"""Any server that speaks the ``/chat/completions`` protocol: hosted ones, and local ones.

Servers differ in what they accept. What one refuses by name (a schema, a temperature, one of the two
names of the output limit) is left out of this and all later requests; such a refusal costs nothing.
"""

from __future__ import annotations

import email.utils
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx

from backend.autolabel.provider import (
    Answer,
    EndpointError,
    JsonSchema,
    Message,
    RequestRefusedError,
    TemporaryError,
    Usage,
)
from backend.settings import is_loopback
from storage.errors import StorageError

#: An answer longer than this is none.
MAX_BYTES = 4 << 20
_TEMPORARY = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
_ENDPOINT = {401, 402, 403, 404, 405, 410}


class EndpointUsageError(StorageError):
    """An endpoint or a key that cannot be used as given."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and for which model. The key is read once and only ever sent to ``url``."""

    url: str
    model: str
    key: str | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.model!r})"  # without the key

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    def same_model(self, other: Endpoint) -> bool:
        return (self.url, self.model) == (other.url, other.model)

    def judge(self, url: str | None, model: str | None, key_variable: str | None) -> Endpoint:
        """Who judges what this one says: itself, unless something else is given. Its key is for its own
        address only.

        Raises :class:`EndpointUsageError`.
        """
        found = Endpoint.of(url or self.url, model or self.model, key_variable)
        return replace(found, key=self.key) if key_variable is None and found.url == self.url else found

    @classmethod
    def of(cls, url: str, model: str, key_variable: str | None = None, options: str = "--") -> Endpoint:
        """Check what a user gave; raises :class:`EndpointUsageError`. ``options`` is how the command's
        options for it begin.

        ``key_variable`` names an environment variable: what is typed as an argument ends up in
        histories and lists of processes, a key should not.
        """
        try:
            parts = urlsplit(url.strip())
            host = parts.hostname
            _ = parts.port
        except ValueError as error:
            raise EndpointUsageError(f"{url[:200]!r} is not an address ({error})") from None
        if parts.scheme not in ("http", "https") or not host:
            raise EndpointUsageError(
                f"{url[:200]!r} is not the address of an endpoint",
                "give for example http://127.0.0.1:8080/v1",
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise EndpointUsageError(
                "the endpoint must be a plain address, without a name, a password or a query",
                f"name the environment variable that holds the key with {options}key-env",
            )
        if not model.strip():
            raise EndpointUsageError("no model is named", f"give {options}model")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        found = cls(f"{parts.scheme}://{parts.netloc}{path}", model.strip())
        if key_variable is None:
            return found
        key = os.environ.get(key_variable, "").strip()
        if not key:
            raise EndpointUsageError(
                f"the environment variable {key_variable} is not set", "set it to the key of the endpoint"
            )
        if not key.isascii() or not key.isprintable():
            raise EndpointUsageError(f"the environment variable {key_variable} does not hold a key")
        if parts.scheme == "http" and not found.local:
            raise EndpointUsageError(
                f"a key would be sent to {host} unencrypted", "use https, or a tunnel to this machine"
            )
        return replace(found, key=key)


@dataclass(frozen=True)
class _Dialect:
    """What the server is known to accept; at first everything."""

    answers: Literal["json_schema", "json_object", "text"] = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True

    def without(self, complaint: str) -> _Dialect | None:
        """The dialect after a complaint, None where it is about something else."""
        said = complaint.lower()
        if self.limit == "max_tokens" and "max_completion_tokens" in said:
            return replace(self, limit="max_completion_tokens")
        if self.temperature and "temperature" in said:
            return replace(self, temperature=False)
        if self.answers != "text" and any(
            w in said for w in ("response_format", "json_schema", "json_object")
        ):
            return replace(self, answers="json_object" if self.answers == "json_schema" else "text")
        return None


class ChatProvider:
    """One endpoint. ``timeout`` seconds are allowed for a whole exchange."""

    def __init__(self, endpoint: Endpoint, *, timeout: float = 120.0, connections: int = 8) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._dialect = _Dialect()
        headers = {"User-Agent": "tributary"}
        if endpoint.key is not None:
            headers["Authorization"] = f"Bearer {endpoint.key}"
        # Redirects are not followed: the key belongs to this address and no other. Proxies of the
        # environment are for hosts elsewhere.
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 20.0), pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=not endpoint.local,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def complete(self, messages: Sequence[Message], schema: JsonSchema, *, max_output: int) -> Answer:
        started = time.monotonic()
        while True:
            dialect = self._dialect
            status, headers, content = await self._post(
                _body(self._endpoint.model, dialect, messages, schema, max_output)
            )
            if status in (400, 422):
                complaint = self._clean(content.decode(errors="replace"))
                simpler = dialect.without(complaint)
                if simpler is not None:
                    # Others may have been refused at the same time: the first to notice changes it.
                    if self._dialect == dialect:
                        self._dialect = simpler
                    continue
                raise RequestRefusedError(f"refused with status {status}: {_reason(complaint)}")
            if status != 200:
                self._raise(status, headers, content)
            return self._answer(content, time.monotonic() - started)

    async def _post(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        url = f"{self._endpoint.url}/chat/completions"
        sent = False
        try:
            # The client's own timeout is for every piece that arrives; a server that sends a byte now
            # and then would never end.
            import asyncio

            async with asyncio.timeout(self._timeout):
                async with self._client.stream("POST", url, json=body) as response:
                    sent = True
                    content = bytearray()
                    async for piece in response.aiter_bytes():
                        content += piece
                        if len(content) > MAX_BYTES:
                            raise RequestRefusedError("the answer is longer than 4 MiB", charged=True)
                    return response.status_code, response.headers, bytes(content)
        except httpx.ConnectError as error:
            raise TemporaryError(
                f"no connection to {self._endpoint.url} ({self._clean(str(error))})"
            ) from None
        except (TimeoutError, httpx.TimeoutException):
            raise TemporaryError(f"no answer within {self._timeout:g} s", charged=True) from None
        except httpx.HTTPError as error:
            what = self._clean(str(error)) or type(error).__name__
            where = "in the middle of the answer" if sent else "before the answer"
            raise TemporaryError(f"the connection broke {where} ({what})", charged=True) from None

    def _raise(self, status: int, headers: httpx.Headers, content: bytes) -> None:
        reason = _reason(self._clean(content.decode(errors="replace")))
        said = f"status {status}" + (f": {reason}" if reason else "")
        if status in _TEMPORARY or status >= 500:
            raise TemporaryError(said, retry_after=retry_after(headers.get("retry-after")))
        if status in _ENDPOINT or 300 <= status < 400:
            raise EndpointError(f"{self._endpoint.url} answers with {said}")
        raise RequestRefusedError(f"refused with {said}")

    def _answer(self, content: bytes, seconds: float) -> Answer:
        """The answer in a reply; a reply of another shape is a fault of the server that may pass."""
        try:
            reply: Any = json.loads(content)
            usage = _usage(reply.get("usage"))
            choice = reply["choices"][0]
            message = choice["message"]
            text = message.get("content")
            refusal = message.get("refusal")
            finish = str(choice.get("finish_reason") or "")
            model = str(reply.get("model") or self._endpoint.model)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            shown = self._clean(content[:200].decode(errors="replace"))
            raise TemporaryError(f"the reply is not of the protocol: {shown!r}", charged=True) from None
        if refusal or finish == "content_filter":
            why = self._clean(str(refusal or "its content filter stopped it"))[:300]
            raise RequestRefusedError(f"the model declined: {why}", usage, charged=True)
        if isinstance(text, list):  # parts, as some servers send them
            parts = cast("list[Any]", text)
            text = "".join(str(p.get("text", "")) for p in parts if isinstance(p, dict))
        if not isinstance(text, str):
            text = ""
        return Answer(self._clean(text), usage, finish, self._clean(model)[:200], seconds)

    def _clean(self, text: str) -> str:
        """What a server said, without the key: some repeat it in their complaints."""
        key = self._endpoint.key
        return text.replace(key, "[key]") if key else text


def _body(
    model: str, dialect: _Dialect, messages: Sequence[Message], schema: JsonSchema, max_output: int
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        dialect.limit: max_output,
    }
    if dialect.temperature:
        body["temperature"] = 0
    if dialect.answers == "json_schema":
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
        }
    elif dialect.answers == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def _usage(found: Any) -> Usage | None:
    if not isinstance(found, dict):
        return None
    counts = cast("dict[str, Any]", found)
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(completion, int)) or min(prompt, completion) < 0:
        return None
    return Usage(prompt, completion)


def _reason(text: str) -> str:
    """The complaint in an error's body, in one short line."""
    try:
        body = json.loads(text)
        error = body.get("error", body) if isinstance(body, dict) else text
        said = error.get("message", text) if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        said = text
    return " ".join(str(said).split())[:300]


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or as a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds == seconds and seconds != float("inf") else None
