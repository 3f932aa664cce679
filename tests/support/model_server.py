"""A real HTTP server that speaks ``/chat/completions``, and does whatever a test wants of it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """What a client sent."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    at: float

    @property
    def text(self) -> str:
        return "\n".join(message["content"] for message in self.body["messages"])

    @property
    def is_label(self) -> bool:
        return '"label"' in self.body["messages"][1]["content"]

    @property
    def n_texts(self) -> int:
        """How many texts a question of scoring has."""
        return int(self.text.rpartition("from 1 to ")[2].partition(";")[0])


@dataclass
class Reply:
    """What it is answered. ``delay`` seconds before, ``drip`` seconds between the bytes; ``cut``: the
    connection breaks in the middle."""

    body: bytes | dict[str, Any] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def says(
    text: str | None,
    *,
    usage: tuple[int, int] | None = (100, 10),
    finish: str = "stop",
    refusal: str | None = None,
    **more: Any,
) -> Reply:
    """An answer as the protocol has it."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if refusal is not None:
        message["refusal"] = refusal
    body: dict[str, Any] = {
        "model": "toy-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Reply(body, **more)


def label(text: str = "a toy label", confidence: str = "low", **more: Any) -> Reply:
    content = {"reasoning": "It is made up.", "label": text, "confidence": confidence}
    return says(json.dumps(content), **more)


def complains(status: int, message: str, **more: Any) -> Reply:
    return Reply({"error": {"message": message}}, status, **more)


def willing(request: Request) -> Reply:
    """Labels everything, and chooses the first half of the texts."""
    if request.is_label:
        return label()
    return says(json.dumps({"chosen": list(range(1, request.n_texts // 2 + 1))}))


class ModelServer:
    """``answer`` may be replaced at any time. Keeps what was asked, and how much of it at once."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._serve(self)

            def do_GET(self) -> None:
                server._serve(self)

            def log_message(self, *_: Any) -> None:
                """Tests print enough."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                """A client that went away."""

        self._http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        body = json.loads(handler.rfile.read(length) or b"{}")
        with self._lock:
            request = Request(len(self.requests), handler.path, dict(handler.headers), body, time.monotonic())
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.answer(request)
            time.sleep(reply.delay)
            content = reply.content
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            if reply.cut:
                handler.wfile.write(content[: len(content) // 2])
                handler.wfile.flush()
                handler.connection.shutdown(socket.SHUT_RDWR)
                handler.close_connection = True
                return
            if reply.drip:
                for place in range(len(content)):
                    handler.wfile.write(content[place : place + 1])
                    handler.wfile.flush()
                    time.sleep(reply.drip)
                return
            handler.wfile.write(content)
        finally:
            with self._lock:
                self._at_once -= 1

    @property
    def texts(self) -> list[str]:
        return [request.text for request in self.requests]


@contextmanager
def model_server(answer: Callable[[Request], Reply] = willing) -> Iterator[ModelServer]:
    server = ModelServer(answer)
    thread = threading.Thread(target=server._http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server._http.shutdown()
    server._http.server_close()
    thread.join(5)
