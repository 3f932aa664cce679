"""Toy runs over HTTP: what they are, how they answer, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from backend.client import ApiError, Client
from backend.settings import Settings
from compute.address import Address
from compute.toys.decomposition import ToyDecomposition
from compute.toys.response import answer, single_features
from tests.backend.conftest import served
from tests.support.tiny_run import make_tiny_run
from tests.support.toy_run import DOWN, UP, shuffled, solved_mlp, solved_tms, write_toy_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toys")


@pytest.fixture(scope="module")
def toys(folder: Path, page: Path) -> Iterator[httpx.Client]:
    whole = solved_mlp()
    part = ToyDecomposition(
        whole.target, {a: n for a, n in whole.n_components.items() if a != DOWN}, whole.importance
    )
    part.import_tensors({n: t for n, t in whole.export_tensors().items() if n in part.export_tensors()})
    write_toy_run(folder / "part", part)
    write_toy_run(folder / "tms", solved_tms())
    write_toy_run(folder / "mlp", solved_mlp())
    make_tiny_run(folder / "llama", attributions=False, statistics=False)
    with served(Settings(runs=folder, page=page)) as client:
        yield client


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_toy_run_is_listed_and_described(toys: httpx.Client) -> None:
    listed = {run["name"]: run for run in ok(toys.get("/api/runs"))["runs"]}
    assert listed["tms"]["kind"] == "toy"
    assert listed["tms"]["n_components"] == 16
    assert ok(toys.get("/api/runs/tms"))["sites"][0]["source_path"] == "linear1"
    found = ok(toys.get("/api/runs/tms/toy"))
    assert (found["kind"], found["n_features"], found["n_hidden"], found["tied"]) == ("tms", 5, 2, True)
    assert [(m["address"], m["path"], m["n_components"]) for m in found["matrices"]] == [
        ("0.mlp.up", "linear1", 8),
        ("0.mlp.down", "linear2", 8),
    ]
    assert found["matrices"][0]["expected"] == {"pattern": "identity", "k": 5}
    assert found["inputs"]["feature_probability"] == 0.05
    assert found["standard_value"] == 0.75
    mlp = ok(toys.get("/api/runs/mlp/toy"))
    assert [m["path"] for m in mlp["matrices"]] == [
        "layers.0.mlp_in", "layers.0.mlp_out", "layers.1.mlp_in", "layers.1.mlp_out"
    ]  # fmt: skip
    assert (mlp["activation"], mlp["label"], len(mlp["label_coefficients"])) == ("relu", "act_plus_resid", 6)


def test_a_partly_decomposed_toy_says_so(toys: httpx.Client) -> None:
    run = ok(toys.get("/api/runs/part"))
    assert (run["n_decomposed"], run["n_modules"], run["whole"]) == (3, 4, [])
    matrices = ok(toys.get("/api/runs/part/toy"))["matrices"]
    assert [m["n_components"] for m in matrices] == [9, 0, 9, 9]
    # What reads past the block's neurons is the next block, through the residual stream.
    found = ok(toys.get(f"/api/runs/part/toy/components/0.mlp.up:{shuffled(9, 0)[0]}"))
    assert found["targets"] == []
    assert toys.get("/api/runs/part/toy/matrices/0.mlp.down").status_code == 404


def test_a_run_whose_toy_makes_no_sense_is_listed_as_damaged(toys: httpx.Client, folder: Path) -> None:
    info = json.loads((folder / "tms" / "run.json").read_text())
    info["target"]["n_hidden"] = 0
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text(json.dumps(info))
    listed = ok(toys.get("/api/runs"))
    assert [run["name"] for run in listed["damaged"]] == ["broken"]
    assert toys.get("/api/runs/broken/toy").json()["code"] == "run_damaged"
    shutil.rmtree(folder / "broken")


@pytest.mark.parametrize("site", [UP, DOWN])
def test_the_identity_comes_out_of_shuffled_components(toys: httpx.Client, site: Address) -> None:
    found = ok(toys.get(f"/api/runs/tms/toy/matrices/{site}"))
    seed = 1 if site == UP else 2
    assert found["components"][:5] == shuffled(8, seed)[:5]
    assert found["permuted"]
    assert found["errors"] == [{"tolerance": 0.1, "wrong": 0}, {"tolerance": 0.2, "wrong": 0}]
    importance = np.array(found["importance"])
    assert importance.shape == (5, 8)
    np.testing.assert_array_equal(importance[:, :5], np.eye(5))
    assert found["alive"] == 5
    stored = ok(toys.get(f"/api/runs/tms/toy/matrices/{site}", params={"order": "index"}))
    assert not stored["permuted"]
    np.testing.assert_array_equal(np.array(stored["importance"])[:, found["components"]], importance)
    expected = answer(solved_tms(), single_features(solved_tms(), 0.75))
    np.testing.assert_allclose(stored["activation"], expected.activation[site].numpy(), atol=1e-6)


def test_another_value_and_a_part_of_the_matrix(toys: httpx.Client) -> None:
    weak = ok(toys.get("/api/runs/tms/toy/matrices/0.mlp.up", params={"value": 0.05}))
    np.testing.assert_allclose(np.diag(np.array(weak["importance"])[:, :5]), 0.4, atol=1e-6)
    assert weak["errors"][0]["wrong"] == 5
    part = ok(
        toys.get(
            "/api/runs/tms/toy/matrices/0.mlp.up", params={"first_feature": 3, "features": 9, "components": 2}
        )
    )
    assert np.array(part["importance"]).shape == (2, 2)
    assert (part["total_components"], part["total_features"], part["first_feature"]) == (8, 5, 3)


def test_a_component_reads_its_feature_and_writes_its_direction(toys: httpx.Client) -> None:
    index = shuffled(8, 1)[2]
    found = ok(toys.get(f"/api/runs/tms/toy/components/0.mlp.up:{index}"))
    assert found["path"] == "linear1"
    assert found["V"] == found["reads_features"] == [0, 0, 1, 0, 0]
    weight = solved_tms().target.linear(UP).weight
    np.testing.assert_allclose(found["U"], weight[:, 2].numpy())
    # It reaches outputs by the products of directions: cosines of multiples of 72°.
    cosines = torch.cos(2 * torch.pi * (torch.arange(5) - 2) / 5)
    np.testing.assert_allclose(found["writes_outputs"], cosines.numpy(), atol=1e-6)
    assert found["importance"] == [0, 0, 1, 0, 0]
    assert found["sources"] == []
    best = found["targets"][0]
    assert best["key"] == f"0.mlp.down:{shuffled(8, 2)[2]}"
    assert best["weight"] == pytest.approx(1)
    back = ok(toys.get(f"/api/runs/tms/toy/components/{best['key']}", params={"k": 1}))
    assert [link["key"] for link in back["sources"]] == [f"0.mlp.up:{index}"]


def test_neurons_have_no_linear_path_but_links(toys: httpx.Client) -> None:
    place = shuffled(9, 0)[1]
    found = ok(toys.get(f"/api/runs/mlp/toy/components/0.mlp.up:{place}"))
    assert found["writes_outputs"] is None
    assert found["reads_features"] == [0, 0, 1, 0, 0, 0]
    assert [link["key"] for link in found["targets"]] == [f"0.mlp.down:{place}"]
    down = ok(toys.get(f"/api/runs/mlp/toy/components/0.mlp.down:{place}"))
    assert down["reads_features"] is None
    assert down["writes_outputs"] == [0, 0, 1, 0, 0, 0]


def test_any_input_is_answered(toys: httpx.Client) -> None:
    found = ok(toys.post("/api/runs/mlp/toy/answers", json={"inputs": [[0.5, 0, 0, -1, 0, 2]]}))
    # act(x) + x: every feature has its neuron, in one of the two blocks.
    np.testing.assert_allclose(found["outputs"], [[1.0, 0, 0, -1.0, 0, 4.0]])
    assert found["label"] == found["outputs"] == found["masked"]
    up = next(site for site in found["sites"] if site["address"] == "0.mlp.up")
    assert up["activation"][0][shuffled(9, 0)[0]] == 0.5


def test_the_evaluation_says_that_the_solution_is_found(toys: httpx.Client) -> None:
    found = ok(toys.get("/api/runs/tms/toy/evaluation"))
    assert found["faithfulness"] == pytest.approx(0, abs=1e-12)
    assert found["errors"] == [{"tolerance": 0.1, "wrong": 0}, {"tolerance": 0.2, "wrong": 0}]
    single, sampled = found["outputs"]
    assert (single["inputs"], single["count"], single["value"]) == ("single_features", 5, 0.75)
    assert (sampled["inputs"], sampled["count"], sampled["value"]) == ("sampled", 2048, None)
    # One at a time each feature has its own two components only: its two neighbours' outputs are lost.
    neighbour = 0.75 * np.cos(2 * np.pi / 5) - 0.1
    assert single["masked"] == pytest.approx(2 * neighbour**2 / 5, rel=1e-5)
    assert single["l0"] == {"0.mlp.up": 1.0, "0.mlp.down": 1.0}
    assert sampled["all_on"] == pytest.approx(0, abs=1e-12)
    assert sampled["nothing"] > sampled["masked"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("llama/toy", 409, "no_model"),
        ("llama/toy/matrices/0.attn.q", 409, "no_model"),
        ("tms/toy/matrices/3.mlp.up", 404, "unknown_key"),
        ("tms/toy/matrices/linear1", 422, "bad_input"),
        ("tms/toy/matrices/0.mlp.up?value=inf", 422, "bad_input"),
        ("tms/toy/matrices/0.mlp.up?value=1e7", 422, "bad_input"),
        ("tms/toy/matrices/0.mlp.up?order=best", 422, "bad_input"),
        ("tms/toy/components/0.mlp.up:8", 404, "unknown_key"),
        ("tms/toy/components/0.mlp.up:delta", 404, "unknown_key"),
        ("tms/toy/components/embed:1", 404, "unknown_key"),
        ("nothing/toy", 404, "unknown_run"),
    ],
)
def test_refusals_say_what_is_wrong(toys: httpx.Client, path: str, status: int, code: str) -> None:
    found = toys.get(f"/api/runs/{path}")
    assert (found.status_code, found.json()["code"]) == (status, code)
    assert found.json()["message"]
    assert found.json()["hint"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([[1.0, 2.0]], "An input has 2 numbers; tms has 5 features"),
        ([], "at least 1 item"),
        ([[0.0] * 5] * 65, "at most 64 items"),
        ([["1", 0, 0, 0, 0]], "valid number"),
        ([[1e300, 0, 0, 0, 0]], "less than or equal to 1000000"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(toys: httpx.Client, inputs: Any, message: str) -> None:
    found = toys.post("/api/runs/tms/toy/answers", json={"inputs": inputs})
    assert found.status_code == 422
    assert message in found.json()["message"]


def test_language_model_routes_refuse_a_toy_run(toys: httpx.Client) -> None:
    found = toys.post("/api/runs/tms/predictions", json={"text": "a"})
    assert (found.status_code, found.json()["code"]) == (409, "no_model")


def test_the_notebook_client_asks_all_of_it(toys: httpx.Client) -> None:
    with Client(str(toys.base_url)) as client:
        run = client.run("mlp")
        toy = run.toy()
        assert toy.kind == "resid_mlp"
        site = toy.matrices[0].address
        found = run.toy_response(site, value=0.5, order="index", first_feature=1, features=2, components=3)
        asked = "value=0.5&order=index&first_feature=1&features=2&components=3"
        assert found.model_dump(mode="json", exclude={"seconds", "peak_bytes"}) == {
            name: value
            for name, value in ok(toys.get(f"/api/runs/mlp/toy/matrices/{site}?{asked}")).items()
            if name not in ("seconds", "peak_bytes")
        }
        assert run.toy_response(site).value == run.toy_evaluation().outputs[0].value == toy.standard_value
        assert run.toy_component(f"{site}:2", value=0.25, k=1).value == 0.25
        inputs = np.eye(toy.n_features)[:2].tolist()
        answered = ok(toys.post("/api/runs/mlp/toy/answers", json={"inputs": inputs}))
        assert run.toy_answer(inputs).outputs == answered["outputs"]
        with pytest.raises(ApiError) as refused:
            client.run("llama").toy()
        assert refused.value.status == 409
