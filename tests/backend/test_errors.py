"""Every refusal has the same three fields, the right status and a hint, whoever refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.settings import Settings
from tests.backend.conftest import get_as_written, served


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert body.keys() == {"code", "message", "hint"}
    assert all(body.values())
    assert "Traceback" not in answer.text
    return body


REFUSALS = [
    ("/api/runs/nope", 404, "unknown_run"),
    ("/api/runs/..", 404, "unknown_run"),
    ("/api/runs/%2e%2e%2f%2e%2e", 404, "unknown_route"),
    ("/api/runs/.", 404, "unknown_run"),
    ("/api/runs/../runs/llama", 404, "unknown_route"),
    ("/api//runs", 404, "unknown_route"),
    ("/api/runs/%00", 404, "unknown_run"),
    ("/api/runs/llama%00", 404, "unknown_run"),
    ("/api/runs/" + "x" * 3000, 404, "unknown_run"),
    ("/api/runs/llama/components/nonsense", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.zz:1", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:-1", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:01", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:1%0A", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:%D9%A1", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:999999999", 404, "unknown_key"),
    ("/api/runs/llama/components/7.attn.q:0", 404, "unknown_key"),
    ("/api/runs/llama/components/0.mlp.up:0", 404, "unknown_key"),
    ("/api/runs/llama/components/position:0", 404, "unknown_key"),
    ("/api/runs/llama/components/0.attn.q:bias", 404, "unknown_key"),
    ("/api/runs/llama/components/embed:270", 404, "unknown_key"),
    ("/api/runs/llama/components/embed:3/sources", 409, "not_computed"),
    ("/api/runs/llama/components/output:3/targets", 409, "not_computed"),
    ("/api/runs/gpt2/components/0.attn.q:delta/targets", 409, "not_computed"),
    ("/api/runs/gpt2/components/output:3/sources?metric=attr_abs", 409, "not_computed"),
    ("/api/runs/bare/components/0.attn.q:0/sources", 409, "not_computed"),
    ("/api/runs/bare/attribution?source=embed:0&target=0.attn.q:0", 409, "not_computed"),
    ("/api/runs/llama/components/0.attn.q:0/sources?k=0", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:0/sources?k=1001", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:0/sources?sign=up", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:0?metric=other", 422, "bad_input"),
    ("/api/runs/llama/components/0.attn.q:0?subrun=nope", 404, "unknown_subrun"),
    ("/api/runs/llama/components?site=embed", 422, "bad_input"),
    ("/api/runs/llama/components?site=9.attn.q", 404, "unknown_site"),
    ("/api/runs/llama/components?sort=name", 422, "bad_input"),
    ("/api/runs/llama/components?cursor=12-000000000000", 404, "unknown_cursor"),
    ("/api/runs/llama/components?cursor=x", 404, "unknown_cursor"),
    ("/api/runs/llama/attribution?source=embed:0", 422, "bad_input"),
    ("/api/runs/llama/attribution?source=output:0&target=0.attn.q:0", 409, "not_computed"),
    ("/api/runs/llama/tokens?limit=0", 422, "bad_input"),
    ("/api/nothing", 404, "unknown_route"),
    ("/api", 404, "unknown_route"),
]


@pytest.mark.parametrize(("path", "status", "code"), REFUSALS, ids=[path[:70] for path, _, _ in REFUSALS])
def test_refusals(client: httpx.Client, path: str, status: int, code: str) -> None:
    check(get_as_written(client, path), status, code)


def test_other_methods(client: httpx.Client) -> None:
    for method, path in (("DELETE", "/api/runs"), ("POST", "/api/runs/llama"), ("PUT", "/api/health")):
        answer = client.request(method, path)
        check(answer, 405, "method_not_allowed")
        assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"keys": []}',
        b'{"keys": ["x"]}',
        b'{"keys": ["embed:1"], "extra": 1}',
        b"\xff\xfe",
    ],
)
def test_bad_bodies(client: httpx.Client, body: bytes) -> None:
    answer = client.post(
        "/api/runs/llama/components:batch", content=body, headers={"Content-Type": "application/json"}
    )
    check(answer, 422, "bad_input")


def test_a_body_that_cannot_be_parsed_at_all(client: httpx.Client) -> None:
    answer = client.post(
        "/api/runs/llama/components:batch", content=b"1" * 5000, headers={"Content-Type": "application/json"}
    )
    check(answer, 400, "bad_request")


def test_large_bodies(client: httpx.Client) -> None:
    path = "/api/runs/llama/components:batch"
    check(client.post(path, json={"keys": ["embed:1"] * 101}), 422, "bad_input")
    check(client.post(path, json={"keys": ["embed:1"] * 500_000}), 413, "too_large")
    check(client.post(path, content=(b"x" for _ in range(3))), 413, "too_large")


def test_messages_name_what_is_wrong(client: httpx.Client) -> None:
    body = check(client.get("/api/runs/llama/components/0.attn.q:99"), 404, "unknown_key")
    assert "0.attn.q:99" in body["message"]
    assert "0 to 4" in body["hint"]
    body = check(client.get("/api/runs/llama/components/attn"), 422, "bad_input")
    assert "not a key" in body["message"]
    body = check(client.get("/api/runs/nope"), 404, "unknown_run")
    assert "llama" in body["hint"]


@pytest.fixture
def damaged(runs_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(runs_folder / "llama", tmp_path / "runs" / "copy")
    return tmp_path / "runs"


def test_a_damaged_store_is_named_and_gives_no_number(damaged: Path, page: Path) -> None:
    store = next((damaged / "copy" / "attributions").iterdir())
    for file in store.glob("*.bin"):
        content = bytearray(file.read_bytes())
        for at in range(0, len(content), 64):
            content[at] ^= 0x10
        file.write_bytes(content)
    with served(Settings(runs=damaged, page=page)) as client:
        body = check(client.get("/api/runs/copy/components/0.glu.down:1/sources"), 409, "store_damaged")
        assert ".bin" in body["message"]
        assert client.get("/api/runs/copy/components").status_code == 200


def test_damaged_parts_of_a_run_are_listed_as_problems(damaged: Path, page: Path) -> None:
    (next((damaged / "copy" / "attributions").iterdir()) / "manifest.json").write_text("{}")
    (next((damaged / "copy" / "statistics").iterdir()) / "manifest.json").write_text("{}")
    (damaged / "copy" / "evaluation.json").write_text('{"tokens": "many"}')
    with served(Settings(runs=damaged, page=page)) as client:
        answer = client.get("/api/runs/copy")
        assert answer.status_code == 200
        detail = answer.json()
        assert [problem["code"] for problem in detail["problems"]] == [
            "run_damaged",
            "store_damaged",
            "store_damaged",
        ]
        assert detail["attributions"] is detail["evaluation"] is None
        assert len(detail["sites"]) == 14
        check(client.get("/api/runs/copy/components"), 409, "store_damaged")


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"format": "tributary-run", "version": 9}', "\x00", "[" * 100_000]
)
def test_a_damaged_run_does_not_hide_the_others(damaged: Path, page: Path, content: str) -> None:
    (damaged / "broken").mkdir()
    (damaged / "broken" / "run.json").write_text(content)
    with served(Settings(runs=damaged, page=page)) as client:
        listed = client.get("/api/runs").json()
        assert "copy" in {run["name"] for run in listed["runs"]}
        assert [run["name"] for run in listed["damaged"]] == ["broken"]
        assert "run.json" in listed["damaged"][0]["error"]["message"]
        check(client.get("/api/runs/broken"), 409, "run_damaged")


def test_a_run_without_its_tokenizer(damaged: Path, page: Path) -> None:
    (damaged / "copy" / "tokenizer.json").unlink()
    with served(Settings(runs=damaged, page=page)) as client:
        assert client.get("/api/runs/copy").status_code == 200
        body = check(client.get("/api/runs/copy/tokens"), 409, "run_damaged")
        assert "tokenizer.json" in body["message"]


def test_a_run_that_vanishes(damaged: Path, page: Path) -> None:
    with served(Settings(runs=damaged, page=page)) as client:
        assert client.get("/api/runs/copy").status_code == 200
        shutil.rmtree(damaged / "copy")
        check(client.get("/api/runs/copy"), 404, "unknown_run")
        assert "copy" not in {run["name"] for run in client.get("/api/runs").json()["runs"]}
