"""A run of attributions without their model, over HTTP: what can be asked of it, and what refuses."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import torch

from backend.importing.attribution_files import import_attributions
from backend.importing.options import ImportOptions
from backend.settings import Settings
from tests.backend.conftest import served
from tests.support import published_files as files
from tests.support.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("served")
    for name, content in (("four", files.four_edge_file()), ("two", files.two_matrix_file())):
        torch.save(content, folder / f"{name}.pt")
        import_attributions(folder / f"{name}.pt", ImportOptions(runs=folder / "runs", name=name))
    make_tiny_run(folder / "runs" / "whole")
    with served(Settings(runs=folder / "runs", page=folder, database=folder / "graphs.sqlite3")) as client:
        yield client


def test_it_is_listed_and_described(client: httpx.Client) -> None:
    listed = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    assert (listed["four"]["kind"], listed["whole"]["kind"]) == ("attributions", "model")
    assert listed["four"]["vocab_size"] == files.VOCAB
    assert listed["four"]["n_components"] == sum(files.COUNTS.values())
    detail = client.get("/api/runs/four").json()
    assert detail["problems"] == []
    assert not detail["capabilities"]["model"]
    assert (detail["attributions"]["unit"], detail["attributions"]["groups"]) == ("normalised", 0)
    assert detail["attributions"]["metrics"] == ["attr", "attr_abs"]
    two = client.get("/api/runs/two").json()["attributions"]
    assert (two["unit"], two["imported_from"], two["metrics"]) == ("mean", "two-matrix", ["attr"])


def test_cards_lists_and_edges(client: httpx.Client) -> None:
    content = files.four_edge_file()
    card = client.get("/api/runs/four/components/1.glu.up:1", params={"k": 3}).json()
    assert (card["unit"], card["normalised"]) == ("normalised", True)
    assert any("no standard errors" in note for note in card["notes"])
    row = np.concatenate([files.normalised(content, s, "1.glu.up")[1] for s in files.SOURCES["1.glu.up"]])
    shown = card["sources_positive"]
    assert [entry["value"] for entry in shown["entries"]] == pytest.approx(
        sorted(row[row > 0])[-3:][::-1], rel=1e-5
    )
    assert shown["total"] == np.count_nonzero(row > 0)
    assert {entry["standard_error"] for entry in shown["entries"]} == {None}
    assert {entry["support"] for entry in shown["entries"]} == {None}
    assert card["targets_positive"]["status"] == "unavailable"
    assert "holds no edges from 1.glu.up" in card["targets_positive"]["reason"]
    # A token without a tokenizer is known by its id.
    targets = client.get("/api/runs/four/components/embed:3/targets").json()
    assert {"#3"} == {client.get("/api/runs/four/components/embed:3").json()["label"]}
    assert targets["entries"]
    params = {"source": "0.attn.o:1", "target": "output:2", "raw": True}
    edge = client.get("/api/runs/four/attribution", params=params).json()
    assert edge["value"] == pytest.approx(files.raw_sum(content, "0.attn.o", "output")[2, 1], rel=1e-5)
    assert (edge["unit"], edge["normalised"]) == ("raw", False)


def test_means_are_never_called_normalised(client: httpx.Client) -> None:
    params = {"source": "embed:2", "target": "0.glu.up:1"}
    edge = client.get("/api/runs/two/attribution", params=params).json()
    expected = files.raw_sum(files.two_matrix_file(), "embed", "0.glu.up")[1, 2]
    assert (edge["unit"], edge["normalised"]) == ("mean", False)
    assert edge["value"] == pytest.approx(expected / files.TOKENS, rel=1e-6)
    assert edge["raw"] == pytest.approx(expected, rel=1e-6)
    card = client.get("/api/runs/two/components/0.glu.up:1").json()
    assert any("neither weighted by causal importance nor normalised" in note for note in card["notes"])


def test_the_table_and_its_strongest_columns(client: httpx.Client) -> None:
    # Mean CI is known from what the file normalises by; nothing is made up where it is not.
    params = {"sort": "-mean_ci", "limit": 50}
    rows = client.get("/api/runs/four/components", params=params).json()["components"]
    ci = {
        f"{layer}:{i}": float(v) / files.TOKENS
        for layer, values in files.four_edge_file()["ci_sum"].items()
        for i, v in enumerate(values)
    }
    assert [row["key"] for row in rows] == sorted(ci, key=lambda key: -ci[key])
    assert rows[0]["mean_ci"] == pytest.approx(ci[rows[0]["key"]])
    rows = client.get("/api/runs/two/components", params=params).json()["components"]
    assert {row["mean_ci"] for row in rows} == {None}
    params = {"sort": "-strongest_source", "limit": 50}
    page = client.get("/api/runs/four/components", params=params).json()
    assert page["total"] == sum(files.COUNTS.values())
    assert page["components"][0]["strongest_source"]["key"]
    assert page["components"][0]["activation_rms"] is None
    params = {"strongest_target": "1.glu.up", "limit": 50}
    found = client.get("/api/runs/two/components", params=params).json()["components"]
    assert {row["address"] for row in found} <= {"0.attn.o", "0.glu.down"}
    # The site into which nothing flows from components is listed too.
    assert (
        client.get("/api/runs/four/tokens", params={"q": "#3"}).json()["tokens"][0]["embed_key"] == "embed:3"
    )


_BODY = {"text": "Once upon"}
_NEEDS_A_MODEL = {
    "predictions": _BODY,
    "prompts": _BODY,
    "graphs": _BODY,
    "graphs:estimate": _BODY,
    "firings": _BODY,
}


@pytest.mark.parametrize("route", _NEEDS_A_MODEL)
@pytest.mark.parametrize("form", [{"text": "Once upon"}, {"token_ids": [1, 2]}])
def test_what_needs_a_model_says_so(client: httpx.Client, route: str, form: dict[str, object]) -> None:
    answer = client.post(f"/api/runs/four/{route}", json=form)
    assert answer.status_code == 409, answer.text
    assert answer.json()["code"] == "no_model"
    assert "holds attributions without their model" in answer.json()["message"]


@pytest.mark.parametrize(
    ("route", "code"),
    [
        ("components/0.glu.up:0/evidence", "no_model"),
        ("components/0.glu.up:0/examples", "no_model"),
        ("documents/0", "not_computed"),
        ("search?q=a", "not_computed"),
        ("components/9.glu.up:0", "unknown_key"),
        ("components/0.glu.up:99", "unknown_key"),
        ("components/0.glu.up:0/sources?metric=attr_frozen", "not_computed"),
        ("components/output:0/sources?metric=attr_abs", "not_computed"),
    ],
)
def test_what_it_does_not_have_is_refused_by_name(client: httpx.Client, route: str, code: str) -> None:
    answer = client.get(f"/api/runs/four/{route}")
    assert answer.status_code in (404, 409), answer.text
    assert answer.json()["code"] == code
    assert answer.json()["message"]


def test_nothing_of_it_fails(client: httpx.Client) -> None:
    for path in ("openings", "clusters", "prompts", "graphs", "labels", "label-sets", "search-index", "toy"):
        for run in ("four", "two"):
            assert client.get(f"/api/runs/{run}/{path}").status_code < 500, path
