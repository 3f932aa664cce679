"""A run of which a part is decomposed, its attention fused, over HTTP: lists, graphs and what is done with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from backend.settings import Settings
from tests.backend.conftest import served
from tests.backend.test_graph_routes import compute, finished, keys_of, ok, read_edges, refused
from tests.support.tiny_run import make_tiny_run

SITES = ("0.attn_fused.qkv", "0.mlp.down", "1.attn_fused.o", "1.mlp.up")
TEXT = "the quick fox"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("partial")
    make_tiny_run(folder / "llama", "gpt2", sites=SITES, fused=True, sums="engine", harvest=True)
    with served(Settings(runs=folder)) as client:
        client.base_url = client.base_url.join("/api/")
        yield client


def test_lists_of_a_component_and_the_metric_that_is_not_there(api: httpx.Client) -> None:
    run = ok(api.get("runs/llama"))
    assert run["attributions"]["metrics"] == ["attr", "attr_abs"]
    assert run["attributions"]["method"] == "fallback"
    for site in SITES:
        key = f"{site}:1"
        card = ok(api.get(f"runs/llama/components/{key}"))
        sources = ok(api.get(f"runs/llama/components/{key}/sources", params={"sign": "positive"}))
        assert sources["entries"]
        assert not any(entry["scale_free"] for entry in sources["entries"] if site != "0.attn_fused.qkv")
        assert card["key"] == key
        body = refused(
            api.get(
                f"runs/llama/components/{key}/sources", params={"metric": "attr_frozen", "sign": "positive"}
            ),
            409,
            "not_computed",
        )
        assert "left whole" in body["message"]
    # A component acts on all that lies behind matrices left whole.
    entries = [
        ok(api.get("runs/llama/components/0.attn_fused.qkv:1/targets", params={"sign": sign, "k": 100}))[
            "entries"
        ]
        for sign in ("positive", "negative")
    ]
    reached = {entry["key"].rpartition(":")[0] for some in entries for entry in some}
    assert reached == {"0.mlp.down", "1.attn_fused.o", "1.mlp.up", "output"}


@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_graphs_checks_and_exports(api: httpx.Client, delta: str) -> None:
    target = {"name": "t", "terms": [{"position": 1, "token_id": 7}, {"position": 0, "token_id": 9}]}
    number = compute(api, text=TEXT, settings={"delta": delta, "targets": [target]})
    graph = ok(api.get(f"graphs/{number}"))
    assert graph["method"] == "fallback"
    assert ("deltas" if delta == "through" else "left whole") in graph["method_reason"]
    keys = keys_of(graph)
    _, _, edges = read_edges(api.get(f"graphs/{number}/edges").content)
    pairs = [(keys[s], keys[t]) for s, t in zip(edges["source"], edges["target"], strict=True)]
    wanted = next(
        i for i, (s, t) in enumerate(pairs) if s.startswith("0.attn_fused.qkv:0") and t.startswith("1.mlp")
    )
    for i in (0, wanted, len(pairs) - 1):
        request = {"source": pairs[i][0], "target": pairs[i][1], "epsilon": 1e-4}
        found = ok(api.post(f"graphs/{number}/edges:check", json=request))
        assert found["predicted"] == pytest.approx(1e-4 * edges["attr"][i], rel=1e-3, abs=1e-9)
        assert found["actual"] == pytest.approx(found["predicted"], rel=1e-2, abs=1e-9)
    document: Any = api.get(f"graphs/{number}/export").json()
    document["edges"]["attr"][0] += 0.5  # otherwise it is the graph that is here already
    headers = {"content-type": "application/json"}
    sent = api.post("runs/llama/graphs:import", content=json.dumps(document).encode(), headers=headers)
    assert keys_of(ok(api.get(f"graphs/{ok(sent, 200, 201)['id']}"))) == keys


def test_interventions_and_circuits(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    keys = [key for key in keys_of(ok(api.get(f"graphs/{number}"))) if "." in key and key[-1].isdigit()]
    request = {"selected": keys[::2], "regimes": ["ci", "stochastic", "adversarial", "target_sans"]}
    finished(api, ok(api.post(f"graphs/{number}/interventions", json=request), 202))
    changes = {
        "changes": [{"key": keys[0], "factor": 0.0}, {"key": "0.attn_fused.qkv:1:bias", "factor": 0.0}]
    }
    finished(api, ok(api.post(f"graphs/{number}/interventions", json=changes), 202))
    whole = {"changes": [{"key": "0.attn_fused.o:1:0", "factor": 0.0}]}
    refused(api.post(f"graphs/{number}/interventions", json=whole), 404, "unknown_key")
    circuit = {"coefficients": [0.01], "steps": 5, "position": 1, "loss": "kl", "seed": 4}
    result = finished(api, ok(api.post(f"graphs/{number}/circuits", json=circuit), 202))
    assert ok(api.get(f"circuits/{result['circuit_ids'][0]}"))["alive"] >= 0
