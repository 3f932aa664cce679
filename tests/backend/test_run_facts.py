"""What the service says of runs of which parts are left whole or missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.settings import Settings
from storage.run_directory import RunNote
from tests.backend.conftest import served
from tests.support.tiny_run import make_tiny_run

SITES = ("0.attn_fused.qkv", "0.mlp.down", "1.attn_fused.o")
NOTE = RunNote(topic="left_whole", text="3 of the model's 8 matrices have components.")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("facts")
    make_tiny_run(
        folder / "partial",
        "gpt2",
        sites=SITES,
        fused=True,
        importance="global_shared_transformer",
        text=False,
        notes=[NOTE],
        source_paths={"0.mlp.down": "h.0.mlp.c_proj"},
        provenance={"source": "s-1"},
    )
    make_tiny_run(folder / "ids", n_blocks=1, text=False, words=False)
    with served(Settings(runs=folder, page=Path("no page"))) as client:
        yield client


def get(api: httpx.Client, path: str, status: int = 200) -> dict[str, Any]:
    answer = api.get(f"/api/{path}")
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_partial_run_names_its_notes_its_paths_and_what_is_left_whole(api: httpx.Client) -> None:
    detail = get(api, "runs/partial")
    assert detail["notes"] == [{"topic": "left_whole", "text": NOTE.text}]
    assert (detail["n_decomposed"], detail["n_modules"]) == (3, 8)
    assert [site["address"] for site in detail["sites"]] == list(SITES)
    assert [site["source_path"] for site in detail["sites"]] == [None, "h.0.mlp.c_proj", None]
    assert [module["address"] for module in detail["whole"]] == [
        "0.attn_fused.o",
        "0.mlp.up",
        "1.attn_fused.qkv",
        "1.mlp.up",
        "1.mlp.down",
    ]
    fused = next(module for module in detail["whole"] if module["address"] == "1.attn_fused.qkv")
    assert (fused["d_out"], fused["d_in"]) == (48, 16)
    assert detail["importance"]["kind"] == "global_shared_transformer"
    assert detail["importance"]["sees_later_tokens"] is True
    assert detail["provenance"] == {"source": "s-1"}


def test_capabilities_in_the_list_of_runs(api: httpx.Client) -> None:
    runs = {run["name"]: run for run in get(api, "runs")["runs"]}
    assert runs["partial"]["capabilities"] == {
        "model": True,
        "tokenizer": True,
        "text": False,
        "attributions": False,
        "harvest": False,
    }
    assert runs["ids"]["capabilities"]["tokenizer"] is False
    assert runs["ids"]["kind"] == "model"


def test_a_component_of_a_matrix_left_whole_is_told_from_one_that_cannot_be(api: httpx.Client) -> None:
    whole = get(api, "runs/partial/components/0.attn_fused.o:0", 404)
    assert whole["message"] == "0.attn_fused.o is left whole in partial: it has no components"
    unknown = get(api, "runs/partial/components/0.attn.q:0", 404)
    assert unknown["message"] == "partial has no 0.attn.q"


def test_what_is_missing_names_what_brings_it(api: httpx.Client) -> None:
    document = get(api, "runs/partial/documents/0", 409)
    assert (document["code"], document["hint"]) == (
        "not_computed",
        "Give it one: tributary text partial FILE",
    )
    assert get(api, "runs/partial/search?q=fox", 409)["hint"] == document["hint"]
    assert get(api, "runs/ids/documents/0", 409)["hint"] == "Import it again with --tokenizer and --text."
