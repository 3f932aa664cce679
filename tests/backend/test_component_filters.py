"""Filters of the table of components over HTTP, against what its rows and sorts say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.pipelines.load import load_decomposition
from backend.service.library import open_run
from backend.settings import Settings
from compute.statistics import ComponentStatistics
from storage.graphs import GraphDatabase
from storage.label_records import Item
from storage.layout import GROUPS
from storage.run_directory import RunDirectory
from storage.statistics import write_statistics
from tests.backend.conftest import served

COLUMNS = ["strongest_source", "strongest_target"]


def page(client: httpx.Client, **parameters: Any) -> Any:
    run = parameters.pop("run", "llama")
    answer = client.get(f"/api/runs/{run}/components", params={"limit": 2000} | parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keys(found: Any) -> list[str]:
    return [row["key"] for row in found["components"]]


def refused(client: httpx.Client, **parameters: Any) -> tuple[int, str, str]:
    run = parameters.pop("run", "llama")
    answer = client.get(f"/api/runs/{run}/components", params=parameters)
    body = answer.json()
    return answer.status_code, body["message"], body["hint"]


# ---- bounds -------------------------------------------------------------------------------------


def test_mean_ci_between_bounds(client: httpx.Client) -> None:
    every = page(client)["components"]
    middle = sorted(row["mean_ci"] for row in every)[len(every) // 2]
    found = page(client, min_mean_ci=middle / 2, max_mean_ci=middle)
    expected = [row["key"] for row in every if middle / 2 <= row["mean_ci"] <= middle]
    assert keys(found) == expected
    assert found["total"] == len(expected)
    assert 0 < len(expected) < len(every)
    assert page(client, run="bare", min_mean_ci=0)["total"] == 0  # nobody knows


@pytest.mark.parametrize("bad", ["-0.1", "1.5", "nan", "much"])
def test_bounds_that_no_mean_ci_has(client: httpx.Client, bad: str) -> None:
    status, message, _ = refused(client, min_mean_ci=bad)
    assert status == 422
    assert "min_mean_ci" in message


@pytest.mark.parametrize("name", ["mean_ci", "density"])
def test_bounds_in_the_wrong_order(client: httpx.Client, name: str) -> None:
    status, message, hint = refused(client, **{f"min_{name}": 0.5, f"max_{name}": 0.1})
    assert (status, hint) == (422, "Exchange them, or leave one out.")
    assert f"min_{name} is 0.5, above max_{name}, 0.1" in message
    assert page(client, **{f"min_{name}": 0.5, f"max_{name}": 0.5})["total"] == 0


# ---- labels -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(runs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Two labels by a person (one in place of a model's), two by a model, a note without a name (which
    is shown in its place), stars alone, and a label of a delta, which is no component."""
    path = tmp_path_factory.mktemp("labelled") / "t.sqlite3"
    database = GraphDatabase(path)
    digest = open_run("llama", runs_folder / "llama").digest
    settings = {"endpoint": "http://127.0.0.1:9/v1", "model": "toy", "prompts": "1"}
    ident = database.label_sets.open_set("llama", digest, "first", "evidence", settings)[0].id
    given = {"1.glu.up:1": "cats", "1.glu.up:2": "quick Foxes", "0.attn.v:0": "evenings"}
    database.label_sets.add_items(ident, "evidence", list(given))
    for key, name in given.items():
        database.label_sets.save_item(ident, Item("evidence", key, "done", name, {"label": name}, {}, ""))
    database.close()
    with served(Settings(runs=runs_folder, database=path)) as client:
        for key, name, text in (
            ("0.attn.q:3", "Grey foxes in the grass", ""),
            ("1.glu.up:1", "dogs", "in the grass"),
            ("0.attn.k:2", "", "Only a note about foxes\nand about geese"),
            ("0.attn.o:0", "", ""),
            ("0.attn.q:delta", "foxes left over", ""),
        ):
            rating = 5 if name == text == "" else None
            body = {"version": 0, "name": name, "text": text, "rating": rating, "author": "me"}
            assert client.put(f"/api/runs/llama/labels/{key}", json=body).is_success
        yield client


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"label": "foxes"}, ["0.attn.q:3", "0.attn.k:2", "1.glu.up:2"]),
        ({"label": "geese"}, []),  # beyond the first line
        ({"label": "grass GREY"}, ["0.attn.q:3"]),  # all words, in any order
        ({"label": "cats"}, []),  # a person says otherwise
        ({"labelled": "any"}, ["0.attn.q:3", "0.attn.k:2", "0.attn.v:0", "1.glu.up:1", "1.glu.up:2"]),
        ({"labelled": "person"}, ["0.attn.q:3", "0.attn.k:2", "1.glu.up:1"]),
        ({"labelled": "model"}, ["0.attn.v:0", "1.glu.up:2"]),
        ({"labelled": "model", "label": "foxes"}, ["1.glu.up:2"]),
        ({"labelled": "any", "site": "1.glu.up"}, ["1.glu.up:1", "1.glu.up:2"]),
    ],
)
def test_filters_by_label(labelled: httpx.Client, asked: dict[str, str], expected: list[str]) -> None:
    assert keys(page(labelled, **asked)) == expected


def test_what_has_no_label(labelled: httpx.Client) -> None:
    every, none = page(labelled), page(labelled, labelled="none")
    assert none["total"] == every["total"] - 5
    assert "0.attn.o:0" in keys(none)  # stars are no words
    assert refused(labelled, labelled="none", label="foxes")[0] == 422
    assert refused(labelled, labelled="some")[0] == 422


def test_a_label_of_a_delta_is_in_nobodys_way(labelled: httpx.Client) -> None:
    assert keys(page(labelled, sort="label"))[:2] == ["1.glu.up:1", "0.attn.v:0"]


def test_a_cursor_ends_where_a_label_changes(labelled: httpx.Client) -> None:
    first = page(labelled, labelled="model", limit=1)
    assert keys(page(labelled, labelled="model", limit=1, cursor=first["next_cursor"])) == ["1.glu.up:2"]
    body = {"version": 0, "name": "by me", "text": "", "rating": None, "author": "me"}
    saved = labelled.put("/api/runs/llama/labels/0.attn.v:0", json=body).json()
    try:
        assert refused(labelled, labelled="model", limit=1, cursor=first["next_cursor"])[0] == 404
    finally:
        undo = {"key": "0.attn.v:0", "version": saved["version"], "author": "me"}
        assert labelled.post("/api/runs/llama/labels:undo", json=undo).is_success


def test_labels_that_cannot_be_read_are_not_no_labels(runs_folder: Path, tmp_path: Path) -> None:
    database = tmp_path / "no database.sqlite3"
    database.write_bytes(b"this is no database" * 100)
    with served(Settings(runs=runs_folder, database=database)) as client:
        assert client.get("/api/runs/llama/components").status_code == 200
        assert refused(client, labelled="none")[0] == 409
        assert refused(client, label="foxes")[0] == 409


# ---- the strongest source and target ------------------------------------------------------------


def ends(client: httpx.Client, column: str, run: str = "llama") -> dict[str, dict[str, Any]]:
    """Component → its strongest end, of those that have one."""
    rows = page(client, run=run, sort=f"-{column}")["components"]
    return {row["key"]: row[column] for row in rows if row[column] is not None}


@pytest.mark.parametrize("run", ["llama", "gpt2"])
@pytest.mark.parametrize("column", COLUMNS)
def test_every_end_finds_its_components(client: httpx.Client, column: str, run: str) -> None:
    strongest = ends(client, column, run)
    every = keys(page(client, run=run))
    for end in {one["key"] for one in strongest.values()}:
        found = page(client, run=run, **{column: end})
        assert keys(found) == [key for key in every if key in strongest and strongest[key]["key"] == end]
        assert all(row[column] == strongest[row["key"]] for row in found["components"])
        assert found[column] == {"kind": "key", "text": end, "tokens": []}
        assert found["scan_seconds"] > 0


@pytest.mark.parametrize("run", ["llama", "gpt2"])
@pytest.mark.parametrize("column", COLUMNS)
def test_sites_and_layers_gather_what_is_in_them(client: httpx.Client, column: str, run: str) -> None:
    strongest = ends(client, column, run)
    every = keys(page(client, run=run))
    addresses = {key: one["key"].rsplit(":", 1)[0] for key, one in strongest.items()}
    kinds = {address.rsplit(".", 1)[0] for address in addresses.values() if "." in address}
    blocks = {kind.split(".")[0] for kind in kinds}
    assert len(set(addresses.values())) > 2
    for text in {*addresses.values(), *kinds, *blocks}:
        inside = [key for key in every if key in addresses and f"{addresses[key]}.".startswith(f"{text}.")]
        found = page(client, run=run, **{column: f" {text} "})
        assert keys(found) == inside
        assert found[column]["kind"] == ("layer" if text in kinds | blocks else "site")
    assert sum(page(client, run=run, **{column: block})["total"] for block in blocks) == sum(
        "." in address for address in addresses.values()
    )


@pytest.mark.parametrize(
    ("column", "address"), [("strongest_source", "embed"), ("strongest_target", "output")]
)
def test_tokens_by_their_text(client: httpx.Client, column: str, address: str) -> None:
    strongest = {key: end for key, end in ends(client, column).items() if end["key"].startswith(address)}
    assert strongest
    for end in strongest.values():
        text = end["label"]
        # The toy tokens are bytes and a few words: all may be quoted, words need not.
        found = page(client, **{column: f'"{text}"'})
        ids = {token["id"] for token in found[column]["tokens"]}
        assert all(
            token["text"].strip().casefold() == text.strip().casefold() for token in found[column]["tokens"]
        )
        expected = [key for key, one in strongest.items() if int(one["key"].split(":")[1]) in ids]
        assert end["key"] in {f"{address}:{number}" for number in ids}
        assert sorted(keys(found)) == sorted(expected)
        if text.strip().isalpha() and text.strip() not in ("embed", "position", "output"):
            assert keys(page(client, **{column: text.upper()})) == keys(found)
    nothing = page(client, **{column: "nosuchtoken"})
    assert (nothing["total"], nothing[column]) == (
        0,
        {"kind": "token", "text": "nosuchtoken", "tokens": []},
    )


def test_filters_hold_together(client: httpx.Client) -> None:
    sources, targets = (ends(client, column) for column in COLUMNS)
    both = {key: (sources[key]["key"], targets[key]["key"]) for key in sources if key in targets}
    key, (source, target) = next(iter(both.items()))
    found = page(client, strongest_source=source, strongest_target=target, sort="-strongest_target")
    assert set(keys(found)) == {one for one, pair in both.items() if pair == (source, target)}
    row = next(row for row in found["components"] if row["key"] == key)
    assert (row["strongest_source"], row["strongest_target"]) == (sources[key], targets[key])
    cursor = page(client, strongest_source=source.rsplit(":")[0], limit=1)["next_cursor"]
    assert cursor is None or refused(client, cursor=cursor)[0] == 404


@pytest.mark.parametrize(
    ("column", "text", "status"),
    [
        ("strongest_source", "output", 422),
        ("strongest_source", "output:3", 422),
        ("strongest_source", "position", 422),  # a rotary model has none
        ("strongest_target", "embed:3", 422),
        ("strongest_target", "0.attn.q:delta", 422),
        ("strongest_source", "0.atn.q:3", 422),
        ("strongest_source", "0.attn.q:03", 422),
        ("strongest_source", "12.5", 422),
        ("strongest_source", " ", 422),
        ("strongest_source", "", 422),
        ("strongest_source", "x" * 201, 422),
        ("strongest_source", "0.attn.q:999", 404),
        ("strongest_source", "7.attn.q", 404),
        ("strongest_source", "7", 404),
        ("strongest_target", "0.mlp", 404),
    ],
)
def test_ends_that_cannot_be(client: httpx.Client, column: str, text: str, status: int) -> None:
    found = refused(client, **{column: text})
    assert found[0] == status
    assert found[1]
    assert found[2]
    if status == 422 and 0 < len(text) < 200:
        assert found[1].startswith(column.replace("_", " "))
        assert "Write a key" in found[2]
    if text == "7":
        assert "has no layer 7" in found[1]
        assert "0.attn" in found[2]


def test_an_end_needs_attributions(client: httpx.Client) -> None:
    status, _, hint = refused(client, run="bare", strongest_source="0")
    assert status == 409
    assert "tributary attribute bare" in hint


# ---- what the shares rest on --------------------------------------------------------------------


def test_table_and_card_say_over_how_many_tokens(llama: RunDirectory, tmp_path: Path) -> None:
    """Where statistics and harvest read the same windows, the shares are equal to the last digit."""
    shutil.copytree(llama.path, tmp_path / "llama")
    run, harvest = RunDirectory.open(tmp_path / "llama"), llama.harvest()
    statistics = ComponentStatistics(load_decomposition(run))
    for group in range(GROUPS):
        for window in run.corpus().group(group, GROUPS).long().split(harvest.settings.window):
            statistics.add(window[None])
    shutil.rmtree(run.path / "statistics")
    arrays = {name: values.numpy() for name, values in statistics.arrays().items()}
    write_statistics(run.path, arrays, {"made_by": "tests"})
    with served(Settings(runs=tmp_path)) as client:
        listed = page(client)
        assert listed["tokens"] == harvest.tokens
        for row in listed["components"]:
            card = client.get(f"/api/runs/llama/components/{row['key']}").json()
            evidence = client.get(f"/api/runs/llama/components/{row['key']}/evidence").json()
            assert card["statistics_tokens"] == evidence["tokens"] == harvest.tokens
            assert card["summary"]["density"] == row["density"] == evidence["density"]
        assert client.get("/api/runs/llama/components/embed:3").json()["statistics_tokens"] is None


def test_they_may_rest_on_different_numbers_of_tokens(client: httpx.Client, llama: RunDirectory) -> None:
    statistics = llama.statistics(llama.statistics_subruns()[0])
    card = client.get("/api/runs/llama/components/0.attn.q:1").json()
    assert card["statistics_tokens"] == page(client)["tokens"] == statistics.tokens
