"""Searching over HTTP and on the command line: the same hits, in tokens of the corpus."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.cli import run as command
from backend.client import Client
from backend.service import search as service
from backend.settings import Settings
from storage import search as searching
from storage import search_index
from storage.corpus import TokenCorpus
from storage.run_directory import RunDirectory
from storage.search_index import FOLDER
from tests.backend.conftest import served
from tests.support.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    make_tiny_run(folder / "toy", attributions=False, statistics=False)
    make_tiny_run(folder / "fresh", attributions=False, statistics=False)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path, page: Path) -> Iterator[httpx.Client]:
    with served(Settings(runs=folder, page=page)) as client:
        assert _built(client, "toy")["state"] == "done"
        yield client


def _built(client: httpx.Client, run: str) -> dict[str, Any]:
    job = client.post(f"/api/runs/{run}/search-index")
    assert job.status_code == 202, job.text
    with client.stream("GET", f"/api/jobs/{job.json()['id']}/events") as stream:
        for _ in stream.iter_lines():
            pass
    return client.get(f"/api/jobs/{job.json()['id']}").json()


def find(client: httpx.Client, q: str, run: str = "toy", **parameters: Any) -> dict[str, Any]:
    answer = client.get(f"/api/runs/{run}/search", params={"q": q, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_hits_are_tokens_of_the_corpus(client: httpx.Client, folder: Path) -> None:
    run = RunDirectory.open(folder / "toy")
    corpus, tokenizer = run.corpus(), run.tokenizer()
    found = find(client, "fox", limit=200, left=6, right=4)
    texts = [tokenizer.decode(corpus.document(i)[1:].tolist()) for i in range(corpus.n_documents)]
    expected = sum(text.split(" ").count("fox") for text in texts)
    assert (found["total"], found["ended"], found["searched"]) == (expected, "complete", 1.0)
    assert len(found["hits"]) == min(200, expected)
    assert found["tokens"] == len(corpus.tokens)
    for hit in found["hits"]:
        ids = [token["id"] for token in hit["tokens"]]
        first = hit["position"] - hit["match_first"]
        assert corpus.tokens[first : first + len(ids)].tolist() == ids
        assert hit["position"] - corpus.offsets[hit["document"]] == hit["document_position"]
        assert hit["title"] == corpus.titles[hit["document"]]
        assert hit["match"] == "fox"
        matched = ids[hit["match_first"] : hit["match_last"] + 1]
        assert "fox" in tokenizer.decode(matched)
        assert hit["match_first"] <= 6


def test_pages_are_the_whole_in_order(client: httpx.Client) -> None:
    whole = find(client, "a", mode="exact", limit=200)["hits"]
    assert [hit["number"] for hit in whole] == list(range(len(whole)))
    paged: list[dict[str, Any]] = []
    cursor: int | None = 0
    while cursor is not None and len(paged) < len(whole):
        part = find(client, "a", mode="exact", limit=33, cursor=cursor)
        paged += part["hits"]
        cursor = part["next_cursor"]
    assert paged[: len(whole)] == whole
    last = find(client, "grass", cursor=10_000)
    assert (last["hits"], last["next_cursor"]) == ([], None)


def test_modes_case_and_documents(client: httpx.Client) -> None:
    assert find(client, "FOX")["total"] == find(client, "fox")["total"] > 0
    assert find(client, "FOX", case=True)["total"] == 0
    assert find(client, "fo")["total"] == 0
    assert find(client, "fo*")["total"] == find(client, "fo", mode="exact")["total"] > 0
    assert find(client, '"warm grass"')["total"] == find(client, "warm grass", mode="exact")["total"]
    everywhere = find(client, "dog", limit=200)["hits"]
    document = everywhere[-1]["document"]
    assert find(client, "dog", document=document)["hits"] == [
        hit | {"number": i} for i, hit in enumerate(h for h in everywhere if h["document"] == document)
    ]
    signs = find(client, " .,! ")
    assert (signs["mode"], signs["terms"], signs["total"]) == ("exact", [], 0)
    assert find(client, 'evening "the quick"')["terms"] == ["evening", "the quick"]


@pytest.mark.parametrize(
    "q", ["'", '"', "*", "%", "_", "\\", "AND", "a OR", "NEAR(", "\x00", "{}", "<b>", "日本", "-fox", "(("]
)
def test_any_text_is_a_query(client: httpx.Client, q: str) -> None:
    for mode in ("words", "exact"):
        find(client, q, mode=mode)


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"q": ""}, 422, "bad_input"),
        ({"q": "   "}, 422, "bad_input"),
        ({"q": "x" * 501}, 422, "bad_input"),
        ({"q": " ".join("abcdefghijklm")}, 422, "bad_input"),
        ({"q": "a", "mode": "regex"}, 422, "bad_input"),
        ({"q": "a", "limit": 201}, 422, "bad_input"),
        ({"q": "a", "left": 513}, 422, "bad_input"),
        ({"q": "a", "cursor": -1}, 422, "bad_input"),
        ({"q": "a", "document": 40}, 404, "unknown_record"),
    ],
)
def test_refusals(client: httpx.Client, parameters: dict[str, Any], status: int, code: str) -> None:
    answer = client.get("/api/runs/toy/search", params=parameters)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["hint"]


def test_an_index_is_made_on_first_use(client: httpx.Client, folder: Path) -> None:
    before = client.get("/api/runs/fresh/search-index").json()
    assert (before["state"], before["buildable"]) == ("absent", True)
    refused = client.get("/api/runs/fresh/search", params={"q": "fox"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_indexed")
    assert "tributary search-index fresh" in refused.json()["hint"]
    job = _built(client, "fresh")
    assert (job["state"], job["kind"]) == ("done", "search_index")
    after = client.get("/api/runs/fresh/search-index").json()
    assert (after["state"], after["in_run"]) == ("ready", True)
    assert after["subrun"] == job["result"]["search_subrun"]
    assert (folder / "fresh" / FOLDER / after["subrun"] / "manifest.json").is_file()
    assert find(client, "fox", "fresh")["total"] > 0
    # Asked for again: it is there.
    again = client.post("/api/runs/fresh/search-index").json()
    assert (again["state"], again["result"]) == ("done", job["result"])


def test_a_corpus_too_large_for_the_server(
    client: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_run(folder / "large", attributions=False, statistics=False)
    monkeypatch.setattr(service, "SERVED_TOKENS", 10)
    assert client.get("/api/runs/large/search-index").json()["buildable"] is False
    refused = client.post("/api/runs/large/search-index")
    assert refused.status_code == 409
    assert "tributary search-index large" in refused.json()["hint"]


def test_a_read_only_run_is_indexed_beside_the_database(tmp_path: Path, page: Path) -> None:
    make_tiny_run(tmp_path / "runs" / "toy", attributions=False, statistics=False)
    # As good as read-only, also for those who may write anywhere: no folder can be made here.
    (tmp_path / "runs" / "toy" / FOLDER).write_text("in the way", encoding="utf-8")
    database = tmp_path / "elsewhere" / "tributary.sqlite3"
    with served(Settings(runs=tmp_path / "runs", page=page, database=database)) as client:
        assert _built(client, "toy")["state"] == "done"
        info = client.get("/api/runs/toy/search-index").json()
        assert (info["state"], info["in_run"]) == ("ready", False)
        assert find(client, "fox")["total"] > 0
    assert list((tmp_path / "elsewhere" / ".search").glob("*/*/manifest.json"))
    # Another corpus under the same name is not answered from it.
    run = RunDirectory.open(tmp_path / "runs" / "toy")
    corpus = run.corpus()
    TokenCorpus(corpus.tokens[::-1].copy(), corpus.offsets, corpus.titles, 20).save(run.path / "corpus")
    with served(Settings(runs=tmp_path / "runs", page=page, database=database)) as client:
        assert client.get("/api/runs/toy/search-index").json()["state"] == "absent"


@pytest.mark.parametrize("file", ["text.bin", "grams.bin", "blocks.npy", "manifest.json"])
def test_a_damaged_index_can_be_made_again(tmp_path: Path, page: Path, file: str) -> None:
    make_tiny_run(tmp_path / "toy", attributions=False, statistics=False)
    with served(Settings(runs=tmp_path, page=page)) as client:
        assert _built(client, "toy")["state"] == "done"
        found = find(client, "fox")["total"]
    (index,) = (tmp_path / "toy" / FOLDER).iterdir()
    content = bytearray((index / file).read_bytes())
    content[len(content) // 2] ^= 1
    (index / file).write_bytes(content)
    with served(Settings(runs=tmp_path, page=page)) as client:
        refused = client.get("/api/runs/toy/search", params={"q": "fox"})
        assert (refused.status_code, refused.json()["code"]) == (409, "store_damaged")
        assert "search-index RUN --again" in refused.json()["hint"]
        job = _built(client, "toy")
        assert job["state"] == "done"
        assert job["result"]["search_subrun"] != index.name
        assert find(client, "fox")["total"] == found
    # Others take the one that is sound, too.
    assert command(["search", "toy", "fox", "--runs", str(tmp_path)]) == 0


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_run(tmp_path / "toy", attributions=False, statistics=False)

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with served(Settings(runs=tmp_path, page=page)) as client:
        with monkeypatch.context() as while_full:
            while_full.setattr(search_index.os, "fsync", full)
            job = _built(client, "toy")
        assert (job["state"], job["error"]["code"]) == ("failed", "not_possible")
        assert "No space left on device" in job["error"]["message"]
        assert list((tmp_path / "toy" / FOLDER).iterdir()) == []
        assert _built(client, "toy")["state"] == "done"


def test_every_term_has_its_place(client: httpx.Client) -> None:
    found = find(client, "fox warm* dog", limit=50, left=400, right=400)
    assert found["terms"] == ["fox", "warm*", "dog"]
    assert found["hits"]
    for hit in found["hits"]:
        text = hit["left"] + hit["match"] + hit["right"]
        said = {span["term"]: text[span["start"] : span["end"]] for span in hit["spans"]}
        assert said == {0: "fox", 1: "warm", 2: "dog"}
        assert [span["start"] for span in hit["spans"] if span["term"] == 0] == [len(hit["left"])]
        for span in hit["spans"]:
            inside = "".join(token["text"] for token in hit["tokens"][span["first"] : span["last"] + 1])
            assert text[span["start"] : span["end"]] in inside
    (span,) = find(client, "fox", limit=1)["hits"][0]["spans"]
    assert span["term"] == 0


def test_a_run_without_its_text(tmp_path: Path, page: Path) -> None:
    run = make_tiny_run(tmp_path / "toy", attributions=False, statistics=False)
    for file in (run.path / "corpus").iterdir():
        file.unlink()
    (run.path / "corpus").rmdir()
    with served(Settings(runs=tmp_path, page=page)) as client:
        for answer in (
            client.get("/api/runs/toy/search", params={"q": "fox"}),
            client.get("/api/runs/toy/search-index"),
            client.post("/api/runs/toy/search-index"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "not_computed")


def test_a_search_that_takes_too_long_says_so(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SECONDS", 0.0)
    monkeypatch.setattr(searching, "_PIECE", 4096)
    shares, found = [], find(client, "zy", mode="exact")
    while found["ended"] == "time":
        shares.append(found["searched"])
        assert found["searched"] < 1
        found = find(client, "zy", mode="exact")
    assert shares == sorted(set(shares)) != []
    monkeypatch.undo()
    assert found["total"] == find(client, "lazy")["total"] > 0


def test_a_damaged_index_is_refused(tmp_path: Path, page: Path) -> None:
    make_tiny_run(tmp_path / "toy", attributions=False, statistics=False)
    with served(Settings(runs=tmp_path, page=page)) as client:
        _built(client, "toy")
        (file,) = (tmp_path / "toy" / FOLDER).glob("*/grams.bin")
        content = bytearray(file.read_bytes())
        content[1000] ^= 4
        file.write_bytes(content)
        answer = client.get("/api/runs/toy/search", params={"q": "fox"})
        assert (answer.status_code, answer.json()["code"]) == (409, "store_damaged")
        assert "search-index" in answer.json()["hint"]
    assert command(["verify", "toy", "--runs", str(tmp_path)]) == 1


def test_the_client_searches(client: httpx.Client) -> None:
    with Client(str(client.base_url)) as notebook:
        run = notebook.run("toy")
        found = run.search("fox", limit=3)
        assert found.total == find(client, "fox")["total"]
        prompt = run.prompt([token.id for token in found.hits[0].tokens[: found.hits[0].match_last + 1]])
        assert (
            prompt.token_ids == [token.id for token in found.hits[0].tokens][: found.hits[0].match_last + 1]
        )


# ---- command line -------------------------------------------------------------------------------


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tiny_run(tmp_path / "toy", attributions=False, statistics=False)
    runs = ["--runs", str(tmp_path)]
    assert command(["search", "toy", "quick fox", *runs, "--json", "-n", "2"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)  # and nothing of the indexing
    assert (len(found["hits"]), found["ended"]) == (2, "complete")
    assert "indexed" in captured.err
    assert command(["search-index", "toy", *runs]) == 0
    assert "indexed already" in capsys.readouterr().err
    assert command(["search-index", "toy", *runs, "--again"]) == 0
    assert len(list((tmp_path / "toy" / FOLDER).glob("*/manifest.json"))) == 2
    capsys.readouterr()
    assert command(["search", "toy", "uic", "--exact", *runs, "-n", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.index("uic", 40) for line in lines[:3]} == {44}
    assert lines[3].startswith("1–3 of ")
    assert command(["search", "toy", "", *runs]) == 2
    assert "nothing to search for" in capsys.readouterr().err
    assert command(["verify", "toy", *runs]) == 0
    assert "search" in capsys.readouterr().out
