"""Labels over HTTP: saying, undoing, two browsers, and files that people made."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.client import ApiError, Client
from backend.service.label_files import from_cell, to_cell
from backend.settings import Settings
from tests.backend.conftest import served
from tests.support.tiny_run import make_tiny_run

KEY, OTHER = "0.attn.q:1", "1.glu.down:2"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    make_tiny_run(folder / "toy", attributions=False, n_components=12)
    return folder


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[httpx.Client]:
    with served(Settings(runs=runs, page=runs / "none")) as client:
        client.base_url = client.base_url.join("/api/runs/toy/")
        yield client


@pytest.fixture
def api(server: httpx.Client, runs: Path) -> httpx.Client:
    """A server that knows no labels yet."""
    server.get("/labels")
    with sqlite3.connect(runs / "tributary.sqlite3") as connection:
        connection.execute("DELETE FROM label_changes")
    connection.close()
    assert server.get("/labels").json()["labels"] == []
    return server


def put(api: httpx.Client, key: str, version: int, author: str = "Ann", **content: Any) -> dict[str, Any]:
    answer = api.put(f"/labels/{key}", json={"version": version, "author": author, **content})
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(api: httpx.Client, **parameters: str) -> dict[str, str]:
    return {label["key"]: label["name"] for label in api.get("/labels", params=parameters).json()["labels"]}


def send(api: httpx.Client, content: str | bytes, **parameters: str) -> dict[str, Any]:
    answer = api.post("/labels:import", content=content, params={"author": "Ann", **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---- one label ----------------------------------------------------------------------------------


def test_a_label_is_said_and_shown(api: httpx.Client) -> None:
    nothing = api.get(f"/labels/{KEY}").json()
    assert (nothing["label"], nothing["version"], nothing["steps"]) == (None, 0, [])
    saved = put(api, KEY, 0, name="  plural \n nouns ", text="first\r\nsecond\n", rating=4)
    label = saved["label"]
    assert (label["name"], label["text"], label["rating"]) == ("plural nouns", "first\nsecond", 4)
    assert (label["author"], label["source"], label["created"]) == ("Ann", "person", label["updated"])
    assert api.get("/labels").json()["labels"] == [label]
    assert {"undo": saved["undo"], "redo": None}.items() <= saved.items()
    assert saved["undo"]["before"] == {"name": "", "text": "", "rating": None}


def test_labels_are_listed_in_the_order_of_the_model_and_found_by_any_word(api: httpx.Client) -> None:
    put(api, OTHER, 0, name="Verbs", text="ÄHNLICH wie oben")
    put(api, "0.attn.q:delta", 0, name="the rest", author="Zoe")
    put(api, "0.attn.q:10", 0, name="plural nouns")
    put(api, "0.attn.q:2", 0, name="plural verbs")
    assert list(listed(api)) == ["0.attn.q:2", "0.attn.q:10", "0.attn.q:delta", OTHER]
    assert list(listed(api, q="VERBS")) == ["0.attn.q:2", OTHER]
    assert list(listed(api, q="nouns plural")) == ["0.attn.q:10"]
    assert list(listed(api, q="ähnlich")) == [OTHER]
    assert list(listed(api, q="zoe")) == ["0.attn.q:delta"]
    answer = api.get("/labels", params={"q": "nothing"}).json()
    assert (answer["labels"], answer["total"]) == ([], 4)


def test_a_browser_that_has_the_labels_is_sent_nothing(api: httpx.Client) -> None:
    put(api, KEY, 0, name="a")
    first = api.get("/labels")
    again = api.get("/labels", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == again.headers["cache-control"] == "no-cache"
    put(api, OTHER, 0, name="b")
    changed = api.get("/labels", headers={"If-None-Match": first.headers["etag"]})
    assert len(changed.json()["labels"]) == 2


def test_two_browsers_are_told_of_each_other(api: httpx.Client) -> None:
    read = put(api, KEY, 0, name="one")["version"]
    put(api, KEY, read, "Ben", name="two")
    refused = api.put(f"/labels/{KEY}", json={"version": read, "name": "three", "author": "Ann"})
    assert (refused.status_code, refused.json()["code"]) == (409, "changed_meanwhile")
    assert "Ben" in refused.json()["message"]
    for verb in ("undo", "redo"):
        body = {"key": KEY, "version": read, "author": "Ann"}
        assert api.post(f"/labels:{verb}", json=body).status_code == 409
    assert api.delete(f"/labels/{KEY}", params={"version": read}).status_code == 409
    assert listed(api) == {KEY: "two"}


def test_taking_a_label_away_can_be_undone(api: httpx.Client) -> None:
    version = put(api, KEY, 0, name="one", rating=2)["version"]
    gone = api.delete(f"/labels/{KEY}", params={"version": version, "author": "Ben"}).json()
    assert gone["label"] is None
    assert listed(api) == {}
    back = api.post("/labels:undo", json={"key": KEY, "version": gone["version"], "author": "Ann"}).json()
    assert (back["label"]["name"], back["label"]["rating"], back["label"]["author"]) == ("one", 2, "Ann")
    assert back["redo"]["author"] == "Ben"
    away = api.post("/labels:redo", json={"key": KEY, "version": back["version"], "author": "Ann"}).json()
    assert away["label"] is None
    answer = api.post("/labels:redo", json={"key": KEY, "version": away["version"], "author": "Ann"})
    assert (answer.status_code, answer.json()["message"]) == (404, f"there is nothing to redo on {KEY}")


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [
        ("embed:5", {}, 422),
        ("0.attn.q:99999", {}, 404),
        ("7.attn.q:1", {}, 404),
        ("nonsense", {}, 422),
        (KEY, {"rating": 6}, 422),
        (KEY, {"rating": "4"}, 422),
        (KEY, {"name": "n" * 201}, 422),
        (KEY, {"author": "n" * 81}, 422),
        (KEY, {"title": "no such field"}, 422),
    ],
)
def test_what_cannot_be_a_label_is_refused(
    api: httpx.Client, key: str, body: dict[str, Any], status: int
) -> None:
    answer = api.put(f"/labels/{key}", json={"version": 0, **body})
    assert answer.status_code == status
    assert {"code", "message", "hint"} == answer.json().keys()
    assert listed(api) == {}


def test_a_database_that_cannot_be_used_hides_no_components(runs: Path, tmp_path: Path) -> None:
    database = tmp_path / "no database.sqlite3"
    database.write_bytes(b"this is no database" * 100)
    with served(Settings(runs=runs, database=database, page=tmp_path / "none")) as client:
        assert client.get("/api/runs/toy/components").status_code == 200
        answer = client.get("/api/runs/toy/labels")
        assert (answer.status_code, answer.json()["code"]) == (409, "store_damaged")


def test_labels_of_a_run_made_again_are_kept_apart_and_can_be_had(tmp_path: Path) -> None:
    make_tiny_run(tmp_path / "toy", attributions=False)
    settings = Settings(runs=tmp_path, database=tmp_path / "labels.sqlite3", page=tmp_path / "none")
    with served(settings) as client:
        client.base_url = client.base_url.join("/api/runs/toy/")
        put(client, KEY, 0, name="from before")
        described = tmp_path / "toy" / "run.json"
        again = json.loads(described.read_text(encoding="utf-8"))
        described.write_text(json.dumps(again, indent=3), encoding="utf-8")
        found = client.get("/labels").json()
        assert (found["labels"], found["earlier"]) == ([], 1)
        file = client.get("/labels:export", params={"earlier": True}).content
        report = send(client, file)
        assert (report["added"], report["other_run"]) == (1, "toy")
        assert listed(client) == {KEY: "from before"}


# ---- files --------------------------------------------------------------------------------------

ODD = [
    (KEY, "=HYPERLINK(1)", '+1 "quoted"; and, more\nlines', 5, "@Ann"),
    (OTHER, "'tis", "-1", None, "Ben"),
    ("0.attn.q:bias", "'=1", "''", 1, ""),
]


def write_odd(api: httpx.Client) -> list[dict[str, Any]]:
    keys = [key for key, *_ in ODD if not key.endswith("bias")] + ["0.attn.o:3"]
    for key, (_, name, text, rating, author) in zip(keys, ODD, strict=True):
        put(api, key, 0, author, name=name, text=text, rating=rating)
    return api.get("/labels").json()["labels"]


@pytest.mark.parametrize("format_", ["json", "csv"])
def test_a_file_brings_everything_back(api: httpx.Client, format_: str) -> None:
    before = write_odd(api)
    answer = api.get("/labels:export", params={"format": format_})
    assert f"toy-labels.{format_}" in answer.headers["content-disposition"]
    for label in before:
        assert api.delete(f"/labels/{label['key']}", params={"version": label["version"]}).status_code == 200
    report = send(api, answer.content)
    assert (report["read"], report["added"], report["n_unmatched"], report["other_run"]) == (3, 3, 0, None)
    after = api.get("/labels").json()["labels"]
    assert [label | {"version": 0} for label in after] == [label | {"version": 0} for label in before]
    again = send(api, answer.content)
    assert (again["same"], again["step"]) == (3, None)


def test_no_cell_of_the_csv_file_begins_a_formula(api: httpx.Client) -> None:
    write_odd(api)
    content = api.get("/labels:export", params={"format": "csv"}).content
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    cells = [cell for row in rows for cell in row if cell]
    assert "'=HYPERLINK(1)" in cells
    assert all(cell[0] not in "=+-@\t\r" for cell in cells)


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("='+-@ax\t", max_size=6))
def test_every_text_survives_its_cell(text: str) -> None:
    cell = to_cell(text)
    assert from_cell(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r\n")


def test_a_file_from_a_spreadsheet_is_read_line_by_line(api: httpx.Client) -> None:
    put(api, OTHER, 0, name="mine")
    file = (
        "Component;Label;Rating;Note;Updated\r\n"
        f'{KEY};plurals;4.0;"two\nlines";21.11.2026\r\n'
        f"{OTHER};theirs;;;\r\n"
        ";;;;\r\n"
        f"{KEY};twice;;;\r\n"
        "0.attn.q:99999;nobody;;;\r\n"
        "banana;no key;;;\r\n"
        "embed:5;a token;;;\r\n"
        "0.attn.q:2;;;;\r\n"
        "0.attn.q:3;;9;;\r\n"
    )
    report = send(api, file.encode("utf-16"))
    assert (report["read"], report["added"], report["kept"]) == (8, 1, [OTHER])
    assert [(line["line"], line["key"]) for line in report["unmatched"]] == [
        (6, KEY),
        (7, "0.attn.q:99999"),
        (8, "banana"),
        (9, "embed:5"),
        (10, "0.attn.q:2"),
        (11, "0.attn.q:3"),
    ]
    reasons = [line["reason"] for line in report["unmatched"]]
    assert reasons[0] == "is in the file before, on line 2"
    assert "neither a name nor a note" in reasons[4]
    assert reasons[5].startswith("rating:")
    assert [(line["line"], line["reason"][:18]) for line in report["remarks"]] == [(2, "updated is no date")]
    label = api.get("/labels").json()["labels"][0]
    assert (label["name"], label["text"], label["rating"]) == ("plurals", "two\nlines", 4)
    replaced = send(api, file, existing="replace")
    assert (replaced["replaced"], replaced["same"], listed(api)[OTHER]) == (1, 1, "theirs")


def test_an_import_is_undone_as_a_whole(api: httpx.Client) -> None:
    entries = [{"key": f"0.attn.q:{index}", "name": f"name {index}"} for index in range(4)]
    step = send(api, json.dumps(entries))["step"]
    version = api.get("/labels/0.attn.q:2").json()["version"]
    put(api, "0.attn.q:2", version, "Ben", name="better")
    undone = api.post(f"/label-imports/{step}/undo", json={"author": "Ann"}).json()
    assert (undone["changed"], undone["kept"]) == (3, ["0.attn.q:2"])
    assert listed(api) == {"0.attn.q:2": "better"}
    (past,) = api.get("/label-imports").json()["imports"]
    assert (past["step"], past["labels"], past["in_force"], past["undone"]) == (step, 4, 0, 3)
    redone = api.post(f"/label-imports/{step}/redo", json={}).json()
    assert (redone["changed"], len(listed(api))) == (3, 4)
    assert api.post("/label-imports/999999/undo", json={}).status_code == 404


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\xff", "not UTF-8"),
        (b"caf\xe9,name\n", "not UTF-8"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"format": "tributary-graph"}', "not of the format"),
        (b'{"format": "tributary-label-set", "version": 1}', "a label set"),
        (b"\xef\xbb\xbf \n", "empty"),
        (b'{"format": "tributary-labels", "version": 1}', "no list of labels"),
        (b"name,rating\nx,1\n", "no column key"),
        (b'key,name\n0.attn.q:1,"open', "no CSV"),
        (b"", "empty"),
        (b"key\0name", "no text"),
    ],
)
def test_what_is_no_file_of_labels_is_refused(api: httpx.Client, content: bytes, words: str) -> None:
    answer = api.post("/labels:import", content=content)
    assert answer.status_code == 422
    assert words in answer.json()["message"]


def test_odd_entries_of_a_list_are_reported(api: httpx.Client) -> None:
    entries = [
        7,
        None,
        {"name": "x"},
        {"key": 3, "name": "x"},
        {"key": KEY, "name": ["x"]},
        {"key": KEY, "name": "\ud800"},
        {"key": KEY, "name": "x", "source": "auto:7"},
        {"key": OTHER, "name": "x", "created": "9999-12-31T23:59:59-12:00"},
    ]
    report = send(api, json.dumps(entries))
    assert (report["read"], report["added"], report["n_unmatched"]) == (8, 1, 7)
    assert "given by a model (auto:7)" in report["unmatched"][6]["reason"]
    assert len(report["remarks"]) == 1


# ---- the client ---------------------------------------------------------------------------------


def test_the_client_labels_components(api: httpx.Client, tmp_path: Path) -> None:
    with Client(f"http://127.0.0.1:{api.base_url.port}") as client:
        run = client.run("toy")
        run.label(KEY, name="plurals", rating=4, author="Ann")
        assert run.label(KEY, text="see document 3", author="Ann").name == "plurals"
        assert {key: label.rating for key, label in run.labels().items()} == {KEY: 4}
        assert list(run.labels(q="document")) == [KEY]
        file = run.export_labels(tmp_path / "labels.csv")
        run.delete_label(KEY, author="Ann")
        assert run.labels() == {}
        back = run.undo_label(KEY, author="Ann")
        assert back is not None
        assert back.name == "plurals"
        run.delete_label(KEY)
        report = run.import_labels(file, author="Ben")
        assert report.added == 1
        assert run.labels()[KEY].author == "Ann"
        run.undo_import(report, author="Ben")
        assert run.labels() == {}
        with pytest.raises(ApiError, match="no part of a decomposed matrix"):
            run.label("embed:5", name="x")
