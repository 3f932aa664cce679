"""Openings are how documents of the run's own corpus begin."""

from __future__ import annotations

import httpx

from storage.run_directory import RunDirectory
from tests.backend.test_routes import get


def test_openings_begin_documents(client: httpx.Client, llama: RunDirectory) -> None:
    found = get(client, "/runs/llama/openings", n=3)["openings"]
    corpus = llama.corpus()
    assert 1 <= len(found) <= 3
    # No document twice, even where fewer are held out than are asked for.
    assert len({opening["document"] for opening in found}) == len(found)
    assert found == get(client, "/runs/llama/openings", n=3)["openings"]
    for opening in found:
        number = corpus.titles.index(opening["document"])
        beginning = corpus.document(number)[1 : 1 + len(opening["token_ids"])].tolist()
        assert opening["token_ids"] == beginning
        assert llama.tokenizer().decode(beginning, skip_special_tokens=False) == opening["text"]


def test_more_than_there_are(client: httpx.Client) -> None:
    assert len(get(client, "/runs/llama/openings", n=20)["openings"]) <= 20
    assert client.get("/api/runs/llama/openings", params={"n": 0}).status_code == 422
