"""Jobs over HTTP with real computations: watching, joining, stopping, and a server that stays awake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.service.workshop import Workshop
from backend.settings import Settings
from tests.backend.conftest import serving
from tests.backend.test_graph_routes import compute, finished, ok, refused
from tests.support.tiny_run import make_tiny_run

#: Takes far longer than any test.
ENDLESS = {"steps": 100_000, "coefficients": [0.1, 0.2, 0.3]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    make_tiny_run(folder / "tiny", attributions=False, statistics=False)
    return folder


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[tuple[httpx.Client, Workshop]]:
    with serving(Settings(runs=folder, database=tmp_path / "graphs.sqlite3")) as (client, workshop):
        client.base_url = client.base_url.join("/api/")
        yield client, workshop


@pytest.fixture
def api(server: tuple[httpx.Client, Workshop]) -> httpx.Client:
    return server[0]


def start_endless(api: httpx.Client, **more: Any) -> dict[str, Any]:
    """A job that is running."""
    number = compute(api, "tiny", text="the quick fox")
    job = ok(api.post(f"graphs/{number}/circuits", json=ENDLESS | more), 202)
    deadline = time.monotonic() + 30
    while job["phase"] in ("waiting", "starting", "loading the model") or job["state"] != "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
        job = ok(api.get(f"jobs/{job['id']}"))
    return job


def events(lines: Iterator[str]) -> Iterator[tuple[int, str, Any]]:
    """Id, name and data of server-sent events as they come."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if fields:
                yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def test_cancelling_stops_the_computation_itself(api: httpx.Client) -> None:
    job = start_endless(api)
    begun = time.monotonic()
    ended = ok(api.delete(f"jobs/{job['id']}"))
    assert time.monotonic() - begun < 1
    assert ended["state"] == "cancelled"
    assert ok(api.delete(f"jobs/{job['id']}"))["state"] == "cancelled"
    begun = time.monotonic()
    assert compute(api, "tiny", text="the device is free"), "nothing holds the device"
    assert time.monotonic() - begun < 5
    number = ok(api.get("runs/tiny/graphs"))["graphs"][0]["id"]
    assert ok(api.get(f"graphs/{number}/circuits"))["circuits"] == []


def test_health_and_everything_stored_answer_while_computing(api: httpx.Client) -> None:
    job = start_endless(api)
    number = ok(api.get("runs/tiny/graphs"))["graphs"][0]["id"]
    taken: list[float] = []
    for _ in range(40):
        begun = time.perf_counter()
        ok(api.get("health"))
        taken.append(time.perf_counter() - begun)
        time.sleep(0.01)
    assert sorted(taken)[20] < 0.1
    assert max(taken) < 1
    assert ok(api.get(f"graphs/{number}"))["id"] == number
    assert ok(api.get(f"jobs/{job['id']}"))["state"] == "running"
    ok(api.delete(f"jobs/{job['id']}"))


def test_predictions_and_edge_checks_do_not_wait_for_a_circuit(api: httpx.Client) -> None:
    job = start_endless(api)
    begun = time.monotonic()
    assert ok(api.post("runs/tiny/predictions", json={"text": "a dog"}))["positions"]
    number = ok(api.get("runs/tiny/graphs"))["graphs"][0]["id"]
    ends = {"source": "embed:0:258", "target": "0.attn.q:0:1"}
    answer = api.post(f"graphs/{number}/edges:check", json=ends)
    assert answer.status_code == 200
    assert time.monotonic() - begun < 5
    assert ok(api.get(f"jobs/{job['id']}"))["state"] == "running"
    queued = ok(api.post("runs/tiny/graphs", json={"text": "a dog"}), 202)
    assert (queued["state"], queued["ahead"]) == ("queued", 1)
    ok(api.delete(f"jobs/{job['id']}"))
    assert finished(api, queued)["graph_id"]


def test_identical_requests_share_a_job(api: httpx.Client) -> None:
    job = start_endless(api)
    number = ok(api.get("runs/tiny/graphs"))["graphs"][0]["id"]
    assert ok(api.post(f"graphs/{number}/circuits", json=ENDLESS), 202)["id"] == job["id"]
    assert ok(api.post(f"graphs/{number}/circuits", json=ENDLESS | {"seed": 1}), 202)["id"] != job["id"]
    first = ok(api.post("runs/tiny/graphs", json={"text": "twice"}), 202)
    prompt = ok(api.post("runs/tiny/prompts", json={"text": "twice"}), 200)
    second = ok(api.post("runs/tiny/graphs", json={"prompt_id": prompt["id"]}), 202)
    assert first["id"] == second["id"]
    for waiting in ok(api.get("jobs"))["jobs"]:
        if waiting["kind"] == "circuits":
            ok(api.delete(f"jobs/{waiting['id']}"))
    assert finished(api, first)["graph_id"]


def test_a_stream_tells_how_far_it_is_and_continues_after_a_cut(api: httpx.Client) -> None:
    job = start_endless(api)
    path = f"jobs/{job['id']}/events"
    with api.stream("GET", path) as stream:
        seen = events(stream.iter_lines())
        first = [next(seen) for _ in range(12)]
    ids = [number for number, _, _ in first]
    assert ids == sorted(set(ids))
    assert {name for _, name, _ in first} == {"progress", "snapshot"}
    progress = [data for _, name, data in first if name == "progress"]
    assert progress[-1]["done"] > 0
    assert progress[-1]["total"] >= ENDLESS["steps"]
    assert progress[-1]["seconds_left"] > 1
    steps = [data["step"] for _, name, data in first if name == "snapshot"]

    with api.stream("GET", path, headers={"Last-Event-ID": str(ids[-1])}) as stream:
        seen = events(stream.iter_lines())
        rest = [next(seen) for _ in range(6)]
        assert rest[0][0] > ids[-1]
        more = [data["step"] for _, name, data in rest if name == "snapshot"]
        assert (steps + more) == sorted(set(steps + more))
        ok(api.delete(f"jobs/{job['id']}"))
        last = list(seen)[-1]
    assert (last[1], last[2]["state"]) == ("end", "cancelled")
    again = api.get(path, headers={"Last-Event-ID": str(last[0])})
    assert again.status_code == 204, "a browser does not connect again"
    with api.stream("GET", path, headers={"Last-Event-ID": "nonsense"}) as stream:
        assert [name for _, name, _ in events(stream.iter_lines())][-1] == "end"


def test_a_lost_browser_leaves_nothing(
    server: tuple[httpx.Client, Workshop], caplog: pytest.LogCaptureFixture
) -> None:
    api, workshop = server
    job = start_endless(api)
    for _ in range(15):
        with api.stream("GET", f"jobs/{job['id']}/events") as stream:
            next(stream.iter_lines())
    deadline = time.monotonic() + 10
    while workshop.jobs.listeners(job["id"]):
        assert time.monotonic() < deadline, "streams that nobody reads go on"
        time.sleep(0.05)
    assert caplog.records == [], "nobody is told of a fault that is none"
    assert ok(api.get(f"jobs/{job['id']}"))["state"] == "running"
    ok(api.delete(f"jobs/{job['id']}"))


def test_heartbeats_keep_a_silent_stream_alive(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.routers.jobs.HEARTBEAT", 0.05)
    blocking = start_endless(api)
    waiting = ok(api.post("runs/tiny/graphs", json={"text": "wait"}), 202)
    with api.stream("GET", f"jobs/{waiting['id']}/events") as stream:
        lines = stream.iter_lines()
        beats = 0
        for line in lines:
            beats += line.startswith(":")
            if beats == 3:
                break
    ok(api.delete(f"jobs/{blocking['id']}"))


def test_a_full_queue_answers_503(server: tuple[httpx.Client, Workshop]) -> None:
    api, workshop = server
    job = start_endless(api)
    number = ok(api.get("runs/tiny/graphs"))["graphs"][0]["id"]
    for seed in range(1, 1000):
        answer = api.post(f"graphs/{number}/circuits", json=ENDLESS | {"seed": seed})
        if answer.status_code != 202:
            break
    body = refused(answer, 503, "busy")
    assert "32" in body["message"]
    workshop.jobs.cancel(job["id"])
    for waiting in ok(api.get("jobs"))["jobs"]:
        ok(api.delete(f"jobs/{waiting['id']}"))


def test_a_deleted_prompt_ends_its_computation_with_a_reason(api: httpx.Client) -> None:
    blocking = start_endless(api)
    prompt = ok(api.post("runs/tiny/prompts", json={"text": "gone"}), 201)
    job = ok(api.post("runs/tiny/graphs", json={"prompt_id": prompt["id"]}), 202)
    assert api.delete(f"runs/tiny/prompts/{prompt['id']}").status_code == 204
    ok(api.delete(f"jobs/{blocking['id']}"))
    while job["state"] in ("queued", "running"):
        time.sleep(0.01)
        job = ok(api.get(f"jobs/{job['id']}"))
    assert (job["state"], job["error"]["code"]) == ("failed", "unknown_record")


def test_unknown_jobs(api: httpx.Client) -> None:
    for method in ("get", "delete"):
        refused(getattr(api, method)("jobs/nope"), 404, "unknown_job")
    refused(api.get("jobs/nope/events"), 404, "unknown_job")


# ---- the process --------------------------------------------------------------------------------


def serve(folder: Path, database: Path) -> tuple[subprocess.Popen[str], httpx.Client]:
    environment = os.environ | {
        "TRIBUTARY_RUNS": str(folder),
        "TRIBUTARY_DATABASE": str(database),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "backend.cli", "serve", "tiny", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    match = re.search(r"http://\S+", process.stdout.readline())
    assert match is not None
    return process, httpx.Client(base_url=f"{match[0]}api/", timeout=60)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_computes_stops_at_once(folder: Path, tmp_path: Path, how: signal.Signals) -> None:
    process, api = serve(folder, tmp_path / "graphs.sqlite3")
    try:
        job = start_endless(api)
        with api.stream("GET", f"jobs/{job['id']}/events") as stream:
            seen = events(stream.iter_lines())
            next(seen)
            begun = time.monotonic()
            process.send_signal(how)
            assert list(seen)[-1][2]["state"] == "cancelled", "whoever watches is told"
        process.wait(10)
        # Three seconds where nothing else runs; the tests may share their cores with others.
        assert time.monotonic() - begun < 6
    finally:
        process.kill()
        api.close()


def test_a_killed_server_keeps_what_it_confirmed(folder: Path, tmp_path: Path) -> None:
    database = tmp_path / "graphs.sqlite3"
    process, api = serve(folder, database)
    try:
        job = start_endless(api)
        graph = ok(api.get("runs/tiny/graphs"))["graphs"][0]
        edges = api.get(f"graphs/{graph['id']}/edges").content
        ok(api.put(f"graphs/{graph['id']}/workspace", json={"version": 0, "pins": ["0.attn.q:0:delta"]}))
    finally:
        process.kill()
        process.wait(10)
        api.close()
    process, api = serve(folder, database)
    try:
        assert ok(api.get("runs/tiny/graphs"))["graphs"] == [graph]
        assert api.get(f"graphs/{graph['id']}/edges").content == edges
        assert ok(api.get(f"graphs/{graph['id']}/workspace"))["pins"] == ["0.attn.q:0:delta"]
        refused(api.get(f"jobs/{job['id']}"), 404, "unknown_job")
    finally:
        process.kill()
        process.wait(10)
        api.close()


def test_serving_and_exploring_need_no_torch(folder: Path, tmp_path: Path) -> None:
    script = """
import sys
from backend.app import create_app
from backend.settings import Settings
import pathlib
create_app(Settings(runs=pathlib.Path(sys.argv[1])))
for name in ("torch", "sqlalchemy", "alembic"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


def test_a_database_that_cannot_be_used_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with serving(Settings(runs=folder, database=tmp_path / "file" / "g.sqlite3")) as (client, _):
        body = refused(client.get("/api/runs/tiny/prompts"), 503, "database_unavailable")
        assert str(tmp_path / "file") in body["message"]
        assert client.get("/api/runs").status_code == 200
    other = tmp_path / "other.sqlite3"
    other.write_bytes(b"not a database, however long it is" * 100)
    with serving(Settings(runs=folder, database=other)) as (client, _):
        refused(client.get("/api/runs/tiny/prompts"), 409, "store_damaged")
