"""The page: its files, its addresses, and what may be kept."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from backend.settings import Settings
from tests.backend.conftest import served


@pytest.mark.parametrize(
    "path", ["/", "/runs/llama", "/runs/llama/components/0.attn.q:17", "/runs/a.b/components/embed:3"]
)
def test_every_address_of_the_page_is_the_page(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"
    assert "<title>Tributary</title>" in answer.text


def test_files_with_a_hash_in_their_name_are_kept(client: httpx.Client) -> None:
    answer = client.get("/assets/index-abc123.js")
    assert answer.text == "export {}"
    assert "javascript" in answer.headers["content-type"]
    assert "immutable" in answer.headers["cache-control"]
    assert client.head("/assets/index-abc123.js").status_code == 200
    assert client.get("/favicon.svg").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/assets/gone.js", "/favicon.ico", "/robots.txt"])
def test_missing_files_are_not_the_page(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_file")


def test_answers_of_the_api_are_not_kept(client: httpx.Client) -> None:
    assert client.get("/api/runs").headers["cache-control"] == "no-store"


def test_a_page_that_is_built_anew_appears(tmp_path: Path, runs_folder: Path) -> None:
    page = tmp_path / "dist"
    with served(Settings(runs=runs_folder, page=page)) as client:
        answer = client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (404, "page_not_built")
        assert "make setup" in answer.json()["hint"]
        assert client.get("/api/runs").status_code == 200
        page.mkdir()
        (page / "index.html").write_text("<p>here</p>", encoding="utf-8")
        assert client.get("/").text == "<p>here</p>"
