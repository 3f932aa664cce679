"""A real server on a free port over toy runs: one of each family, and one that has nothing computed."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from backend.app import create_app
from backend.cli.serve import listen, make_server
from backend.service.workshop import Workshop
from backend.settings import Settings
from storage.run_directory import RunDirectory
from tests.support.tiny_run import make_tiny_run


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[httpx.Client, Workshop]]:
    """Serve in a thread; yields a client, and what the server computes with."""
    listener = listen("127.0.0.1", 0)
    app = create_app(settings)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
        yield client, app.state.workshop
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive(), "the server did not stop within 10 s"
    listener.close()


@contextmanager
def served(settings: Settings) -> Iterator[httpx.Client]:
    """Serve in a thread; yields a client of it."""
    with serving(settings) as (client, _):
        yield client


def get_as_written(client: httpx.Client, path: str) -> httpx.Response:
    """GET a path as it stands: httpx resolves dots and slashes before it sends, an attacker does not."""
    assert client.base_url.port is not None
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    response = httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    connection.close()
    return response


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_tiny_run(folder / "llama", output_abs=True, harvest=True)
    make_tiny_run(folder / "gpt2", family="gpt2", abs_part=True, delta="off", seed=1)
    make_tiny_run(folder / "bare", attributions=False, statistics=False)
    return folder


@pytest.fixture(scope="session")
def llama(runs_folder: Path) -> RunDirectory:
    return RunDirectory.open(runs_folder / "llama")


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that is built."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html><title>Tributary</title>", encoding="utf-8")
    (folder / "assets" / "index-abc123.js").write_text("export {}", encoding="utf-8")
    (folder / "favicon.svg").write_text("<svg/>", encoding="utf-8")
    (folder.parent / "secret.txt").write_text("secret", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def client(runs_folder: Path, page: Path) -> Iterator[httpx.Client]:
    with served(Settings(runs=runs_folder, page=page)) as client:
        yield client
