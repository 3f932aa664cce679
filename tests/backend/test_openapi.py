"""The specification: committed, fresh, and what the server really does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from backend.openapi import render

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = json.loads(render())


def test_the_committed_document_is_fresh() -> None:
    committed = (ROOT / "frontend" / "openapi.json").read_text(encoding="utf-8")
    assert committed == render(), "run: python -m backend.openapi > frontend/openapi.json"


def test_the_server_sends_the_same_document(client: httpx.Client) -> None:
    assert client.get("/api/openapi.json").json() == DOCUMENT


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_operations_have_short_names_and_descriptions() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert sorted(names) == [
        "attribution_get",
        "circuits_compute",
        "circuits_delete",
        "circuits_get",
        "circuits_list",
        "clusters_export",
        "clusters_get",
        "clusters_history",
        "clusters_list",
        "components_batch",
        "components_get",
        "components_list",
        "components_sources",
        "components_targets",
        "evidence_document",
        "evidence_examples",
        "evidence_fire",
        "evidence_get",
        "graphs_compute",
        "graphs_delete",
        "graphs_edges",
        "graphs_estimate",
        "graphs_export",
        "graphs_get",
        "graphs_import",
        "graphs_list",
        "graphs_node_edges",
        "graphs_save_workspace",
        "graphs_update",
        "graphs_workspace",
        "health_get",
        "interventions_check_edge",
        "interventions_compute",
        "interventions_delete",
        "interventions_get",
        "interventions_list",
        "jobs_cancel",
        "jobs_events",
        "jobs_get",
        "jobs_list",
        "label_sets_compare",
        "label_sets_delete",
        "label_sets_export",
        "label_sets_get",
        "label_sets_list",
        "label_sets_origin",
        "labelling_estimate",
        "labelling_get",
        "labelling_start",
        "labels_delete",
        "labels_export",
        "labels_get",
        "labels_import",
        "labels_imports",
        "labels_list",
        "labels_redo",
        "labels_redo_import",
        "labels_save",
        "labels_undo",
        "labels_undo_import",
        "predictions_predict",
        "prompts_add",
        "prompts_delete",
        "prompts_get",
        "prompts_list",
        "prompts_openings",
        "prompts_update",
        "runs_get",
        "runs_list",
        "search_build",
        "search_find",
        "search_index",
        "tokens_search",
        "toys_answer",
        "toys_component",
        "toys_evaluation",
        "toys_get",
        "toys_response",
    ]
    assert all(operation["description"] for _, _, operation in operations())


@pytest.mark.parametrize(("path", "method", "operation"), operations(), ids=lambda value: str(value)[:40])
def test_every_error_is_an_error_body(path: str, method: str, operation: dict[str, Any]) -> None:
    assert {"400", "401", "403", "500"} <= operation["responses"].keys()
    for status, response in operation["responses"].items():
        if status < "300":
            continue
        schema = response["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorBody"}


#: What is a file, a stream, what its reader sends back, or how the server was started.
_WITHOUT_TIME = {
    "clusters_export",
    "graphs_edges",
    "graphs_export",
    "jobs_events",
    "graphs_workspace",
    "graphs_save_workspace",
    "labels_export",
    "labelling_get",
    "label_sets_export",
}


def test_every_answer_says_how_long_it_took() -> None:
    for _, _, operation in operations():
        if operation["operationId"] in _WITHOUT_TIME:
            continue
        for status, response in operation["responses"].items():
            if status in ("200", "201", "202"):
                reference = response["content"]["application/json"]["schema"]["$ref"]
                model = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
                assert "seconds" in model["properties"], operation["operationId"]


def test_answers_of_computations_say_what_memory_they_took() -> None:
    for name in (
        "Predictions",
        "GraphDetail",
        "GraphEstimate",
        "Intervention",
        "EdgeCheck",
        "Circuit",
        "Firings",
        "DocumentPage",
    ):
        assert {"seconds", "peak_bytes"} <= DOCUMENT["components"]["schemas"][name]["properties"].keys()


# ---- the whole specification against the server -------------------------------------------------

#: Values that exist, so that generated requests also get past "unknown run".
_KNOWN = {
    "run": ["llama", "gpt2", "bare"],
    "key": [
        "0.attn.q:0",
        "1.glu.down:2",
        "1.mlp.up:1",
        "embed:5",
        "output:9",
        "0.attn.o:delta",
        "position:1",
    ],
    "source": ["embed:5", "0.attn.o:1"],
    "target": ["1.attn.q:1", "output:5"],
    "site": ["0.attn.q", "1.glu.down"],
}


def with_known_values(document: dict[str, Any]) -> dict[str, Any]:
    """The specification narrowed to runs and keys that exist."""
    narrowed = copy.deepcopy(document)
    for methods in narrowed["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in _KNOWN:
                    parameter["schema"] = {"type": "string", "enum": _KNOWN[parameter["name"]]}
    return narrowed


def allowing_contradictions(schema: Any) -> Any:
    """A body may fit the specification and contradict itself or the prompt (422), or be too long (413)."""
    schema.config.checks.positive_data_acceptance.expected_statuses = [
        "2xx", "401", "403", "404", "409", "413", "422", "503"
    ]  # fmt: skip
    # A body that breaks a limit can also be too large to be read at all.
    schema.config.checks.negative_data_rejection.expected_statuses = [
        "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "503"
    ]  # fmt: skip
    return schema


def stop_computing(client: httpx.Client) -> None:
    """Cancel what was started: some of it would take long."""
    for job in client.get("/api/jobs").json()["jobs"]:
        if job["state"] in ("queued", "running"):
            assert client.delete(f"/api/jobs/{job['id']}").json()["state"] in ("cancelled", "done", "failed")


anything = allowing_contradictions(schemathesis.openapi.from_dict(DOCUMENT))
existing = allowing_contradictions(schemathesis.openapi.from_dict(with_known_values(DOCUMENT)))
bounded = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@anything.parametrize()
@bounded
def test_whatever_is_asked(case: Any, client: httpx.Client) -> None:
    """Requests that the specification allows, and many that it does not."""
    case.call_and_validate(base_url=str(client.base_url), timeout=30)
    if case.operation.method == "post":
        stop_computing(client)


def _records(client: httpx.Client) -> dict[str, Any]:
    """A prompt, a graph, an intervention and a circuit that exist, made anew where they were deleted."""
    answer = client.post(
        "/api/runs/llama/graphs", json={"token_ids": [70, 71], "settings": {"max_edges": 50}}
    )
    job = _done(client, answer.json())
    graph = job["result"]["graph_id"]
    detail = client.get(f"/api/graphs/{graph}").json()
    found = {"job": job["id"], "graph": graph, "prompt": detail["prompt_id"]}
    for noun, request in (
        ("interventions", {"regimes": ["ci"], "selected": []}),
        ("circuits", {"steps": 1, "coefficients": [0.1]}),
    ):
        listed = client.get(f"/api/graphs/{graph}/{noun}").json()[noun]
        if not listed:
            _done(client, client.post(f"/api/graphs/{graph}/{noun}", json=request).json())
            listed = client.get(f"/api/graphs/{graph}/{noun}").json()[noun]
        found[noun.removesuffix("s")] = listed[0]["id"]
    return found


def _done(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    while job["state"] in ("queued", "running"):
        job = client.get(f"/api/jobs/{job['id']}").json()
    assert job["state"] == "done", job
    return job


@existing.parametrize()
@bounded
def test_whatever_is_asked_of_what_exists(case: Any, client: httpx.Client) -> None:
    # Other names are no violation of the specification proper: they get a 404.
    path = case.operation.path
    if "{id}" in path and case.meta.generation.mode.is_positive:
        noun = path.split("{id}")[0].rstrip("/").rpartition("/")[2].removesuffix("s")
        known = _records(client)
        if noun in known:  # label sets are made by a language model, of which there is none here
            case.path_parameters["id"] = str(known[noun])
        if noun == "prompt":
            case.path_parameters["run"] = "llama"
    case.call_and_validate(base_url=str(client.base_url), timeout=30)
    if case.operation.method == "post":
        stop_computing(client)
