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
        "components_batch",
        "components_get",
        "components_list",
        "components_sources",
        "components_targets",
        "health_get",
        "runs_get",
        "runs_list",
        "tokens_search",
    ]
    assert all(operation["description"] for _, _, operation in operations())


@pytest.mark.parametrize(("path", "method", "operation"), operations(), ids=lambda value: str(value)[:40])
def test_every_error_is_an_error_body(path: str, method: str, operation: dict[str, Any]) -> None:
    assert {"400", "401", "403", "500"} <= operation["responses"].keys()
    for status, response in operation["responses"].items():
        schema = response["content"]["application/json"]["schema"]
        expected = "#/components/schemas/ErrorBody" if status != "200" else schema.get("$ref")
        assert schema == {"$ref": expected}


def test_every_answer_says_how_long_it_took() -> None:
    for _, _, operation in operations():
        reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        assert "seconds" in DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]["properties"]


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


anything = schemathesis.openapi.from_dict(DOCUMENT)
existing = schemathesis.openapi.from_dict(with_known_values(DOCUMENT))
bounded = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@anything.parametrize()
@bounded
def test_whatever_is_asked(case: Any, client: httpx.Client) -> None:
    """Requests that the specification allows, and many that it does not."""
    case.call_and_validate(base_url=str(client.base_url))


@existing.parametrize()
@bounded
def test_whatever_is_asked_of_runs_that_exist(case: Any, client: httpx.Client) -> None:
    # Other names are no violation of the specification proper: they get a 404.
    case.call_and_validate(base_url=str(client.base_url))
