"""Runs whose importances see later tokens, or are never 0: what the service says of them is still right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from backend.autolabel.silence import fires
from backend.pipelines.load import load_decomposition
from backend.settings import Settings
from compute.address import parse_key
from compute.decomposition.importance_config import ImportanceKind, SigmoidKind
from compute.decomposition.model import Decomposition
from storage.run_directory import RunDirectory
from tests.backend.conftest import served
from tests.backend.test_graph_routes import compute, finished, keys_of, ok
from tests.support.tiny_run import make_tiny_run

KEY = "0.glu.down:2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")

    def make(name: str, importance: ImportanceKind, sigmoid: SigmoidKind, *, harvest: bool = True) -> None:
        make_tiny_run(
            folder / name,
            n_blocks=1,
            n_components=3,
            attributions=False,
            statistics=False,
            harvest=harvest,
            importance=importance,
            sigmoid=sigmoid,
        )

    make("ahead", "global_shared_transformer", "leaky_hard")
    make("smooth", "shared_mlp", "normal")
    make("above", "global_shared_mlp", "upper_leaky_hard", harvest=False)
    return folder


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[httpx.Client]:
    with served(Settings(runs=folder)) as client:
        client.base_url = client.base_url.join("/api/")
        yield client


def _model(folder: Path, run: str) -> Decomposition:
    return load_decomposition(RunDirectory.open(folder / run))


@torch.no_grad()
def _importance(model: Decomposition, ids: list[int], key: str = KEY) -> np.ndarray:
    found = parse_key(key)
    assert isinstance(found.index, int)
    importance = model.causal_importance(model.clean_pass(torch.tensor([ids]))[1])
    return importance[found.address][0, :, found.index].numpy()


@pytest.mark.parametrize("run", ["ahead", "smooth"])
def test_documents_show_the_importances_of_the_examples(api: httpx.Client, run: str) -> None:
    """A part of a document is read in whole windows, so that its last tokens see what follows them."""
    shown = 0
    for kind in ("random", "strongest"):
        answer = ok(api.get(f"runs/{run}/components/{KEY}/examples", params={"kind": kind}))
        for example in answer["examples"][:4]:
            places = [i for i, token in enumerate(example["tokens"]) if token is not None]
            start = example["document_position"] - example["left"] + places[0]
            where = {"start": start, "length": len(places), "key": KEY}
            page = ok(api.get(f"runs/{run}/documents/{example['document']}", params=where))
            np.testing.assert_allclose(page["ci"], [example["ci"][i] for i in places], atol=1e-5)
            assert ("later ones too" in page["windows"]) == (run == "ahead")
            shown += 1
    assert shown > 5


def test_the_whole_text_decides_about_its_first_tokens(api: httpx.Client, folder: Path) -> None:
    model = _model(folder, "ahead")
    keys = [f"{address}:{i}" for address, n in model.n_components.items() for i in range(n)][:20]
    body = {"text": "the quick brown fox jumps", "keys": keys, "k": 3, "per_token": 2}
    found = ok(api.post("runs/ahead/firings", json=body))
    ids = [token["id"] for token in found["tokens"]]
    whole = [_importance(model, ids, key) for key in keys]
    for row, expected in zip(found["components"], whole, strict=True):
        np.testing.assert_allclose(row["ci"], expected, atol=1e-6)
    moved = [ci[:3] - _importance(model, ids[:3], key) for key, ci in zip(keys, whole, strict=True)]
    assert np.abs(moved).max() > 1e-3  # what the first three tokens alone would give is something else
    np.testing.assert_array_equal(fires(model, keys, np.array(ids)), np.stack(whole, 1) > 0)


def test_graphs_and_circuits_take_the_whole_prompt(api: httpx.Client, folder: Path) -> None:
    model = _model(folder, "ahead")
    number = compute(api, "ahead", text="the quick brown fox")
    graph = ok(api.get(f"graphs/{number}"))
    ids = [token["id"] for token in graph["tokens"]]
    ci = dict(zip(keys_of(graph), graph["nodes"]["ci"], strict=True))
    for address, n in model.n_components.items():
        for i in range(n):
            for position, value in enumerate(_importance(model, ids, f"{address}:{i}").tolist()):
                assert ci.get(f"{address}:{position}:{i}", 0.0) == pytest.approx(value, abs=1e-5)
    request = {"coefficients": [0.0], "steps": 1, "position": 1, "learning_rate": 1e-9, "masks": "ci"}
    job = ok(api.post(f"graphs/{number}/circuits", json=request), 202)
    (circuit,) = finished(api, job)["circuit_ids"]
    opened = ok(api.get(f"graphs/{compute(api, 'ahead', prompt_id=graph['prompt_id'], circuit_id=circuit)}"))
    left = dict(zip(keys_of(opened), opened["nodes"]["ci"], strict=True))
    before = {key: value for key, value in ci.items() if "." in key and int(key.split(":")[1]) <= 1}
    assert before
    for key, value in before.items():
        if value is not None:
            assert left[key] == pytest.approx(min(value, 1.0), abs=1e-5), key


def test_where_everything_is_alive_circuits_can_still_turn_it_off(api: httpx.Client, folder: Path) -> None:
    number = compute(api, "smooth", text="the quick brown fox")
    graph = ok(api.get(f"graphs/{number}"))
    n_tokens = len(graph["tokens"])
    components = [k for k in keys_of(graph) if "." in k and k[-1].isdigit()]
    assert len(components) == n_tokens * _model(folder, "smooth").total_components
    request = {"coefficients": [3.0], "steps": 60, "position": -1}
    (circuit,) = finished(api, ok(api.post(f"graphs/{number}/circuits", json=request), 202))["circuit_ids"]
    kept = ok(api.get(f"circuits/{circuit}"))["alive"]
    assert kept < len(components) / 2
    opened = ok(api.get(f"graphs/{compute(api, 'smooth', prompt_id=graph['prompt_id'], circuit_id=circuit)}"))
    assert len([k for k in keys_of(opened) if "." in k and k[-1].isdigit()]) == kept


def test_evidence_of_components_that_fire_everywhere(api: httpx.Client, folder: Path) -> None:
    harvest = RunDirectory.open(folder / "smooth").harvest()
    found = ok(api.get(f"runs/smooth/components/{KEY}/evidence"))
    assert found["density"] == 1
    assert found["firing_count"] == harvest.tokens
    # What is always there says nothing of anything.
    assert not found["input_tokens"]["positive"]
    assert not found["cofiring"]["positive"]
    assert ok(api.get(f"runs/smooth/components/{KEY}/examples", params={"kind": "random"}))["examples"]


def test_importances_above_one_survive_export_and_import(api: httpx.Client) -> None:
    number = compute(api, "above", text="the quick brown fox")
    document: dict[str, Any] = ok(api.get(f"graphs/{number}/export"))
    at = next(i for i, value in enumerate(document["nodes"]["ci"]) if value is not None)
    document["nodes"]["ci"][at] = 1.03
    document["title"] = "changed"
    answer = api.post("runs/above/graphs:import", json=document)
    assert answer.status_code == 201, answer.text
    document["nodes"]["ci"][at] = -0.5
    assert "from 0" in api.post("runs/above/graphs:import", json=document).json()["message"]
