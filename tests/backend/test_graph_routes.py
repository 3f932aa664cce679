"""Prompts, graphs and what is done with them, over HTTP, against what the compute room says directly."""

from __future__ import annotations

import http.client
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from backend.pipelines.load import load_decomposition
from backend.settings import Settings
from compute.attribution.prompt import PromptGraph, PromptSettings, prompt_graph
from compute.decomposition.model import Decomposition
from storage.run_directory import RunDirectory
from tests.backend.conftest import served
from tests.support.tiny_run import make_tiny_run

TEXT = "the quick fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    make_tiny_run(folder / "llama", attributions=False, statistics=False)
    make_tiny_run(folder / "gpt2", family="gpt2", attributions=False, statistics=False)
    return folder


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[httpx.Client]:
    with served(Settings(runs=folder)) as client:
        client.base_url = client.base_url.join("/api/")
        yield client


@pytest.fixture(scope="module")
def run(folder: Path) -> RunDirectory:
    return RunDirectory.open(folder / "llama")


@pytest.fixture(scope="module")
def model(run: RunDirectory) -> Decomposition:
    return load_decomposition(run)


def ok(answer: httpx.Response, *statuses: int) -> Any:
    assert answer.status_code in (statuses or (200,)), answer.text
    return answer.json()


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert body.keys() == {"code", "message", "hint"}
    return body


def finished(api: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job that must succeed; its result."""
    deadline = time.monotonic() + 60
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
        job = ok(api.get(f"jobs/{job['id']}"))
    assert job["state"] == "done", job
    return job["result"]


def add_prompt(api: httpx.Client, text: str = TEXT, run: str = "llama") -> dict[str, Any]:
    return ok(api.post(f"runs/{run}/prompts", json={"text": text}), 200, 201)


def compute(api: httpx.Client, run: str = "llama", **request: Any) -> int:
    request = request or {"text": TEXT}
    return finished(api, ok(api.post(f"runs/{run}/graphs", json=request), 200, 202))["graph_id"]


def keys_of(graph: dict[str, Any]) -> list[str]:
    names = {-1: "delta", -2: "bias"}
    nodes = graph["nodes"]
    return [
        f"{graph['addresses'][site]}:{position}:{names.get(index, index)}"
        for site, position, index in zip(nodes["site"], nodes["position"], nodes["index"], strict=True)
    ]


def read_edges(content: bytes) -> tuple[int, float, dict[str, np.ndarray]]:
    """Total, share left out, and the columns: as docs/graph-format.md says."""
    assert content[:8] == b"TRIBGRF1"
    n, total, share = struct.unpack("<IId", content[8:24])
    assert len(content) == 24 + 16 * n
    columns = {}
    for i, (name, kind) in enumerate(
        (("source", "<u4"), ("target", "<u4"), ("attr", "<f4"), ("attr_abs", "<f4"))
    ):
        columns[name] = np.frombuffer(content, kind, n, 24 + 4 * n * i)
    return total, share, columns


def directly(model: Decomposition, token_ids: list[int], **settings: Any) -> PromptGraph:
    return prompt_graph(model, torch.tensor(token_ids), PromptSettings(**settings))


# ---- prompts ------------------------------------------------------------------------------------


def test_prompts_are_kept_once_as_the_tokens_the_model_sees(api: httpx.Client, run: RunDirectory) -> None:
    text = " a lazy\tdog\n"
    answer = api.post("runs/llama/prompts", json={"text": text, "title": "dog"})
    prompt = ok(answer, 201)
    assert prompt["token_ids"] == run.tokenizer().encode(text).ids
    assert "".join(prompt["tokens"]) == text == prompt["text"]
    again = api.post("runs/llama/prompts", json={"token_ids": prompt["token_ids"], "title": "other"})
    assert ok(again, 200)["id"] == prompt["id"]
    assert again.json()["title"] == "dog"
    path = f"runs/llama/prompts/{prompt['id']}"
    assert ok(api.patch(path, json={"title": "named"}))["title"] == "named"
    assert ok(api.get(path))["graphs"] == []
    assert prompt["id"] in {p["id"] for p in ok(api.get("runs/llama/prompts"))["prompts"]}
    assert prompt["id"] not in {p["id"] for p in ok(api.get("runs/gpt2/prompts"))["prompts"]}
    refused(api.get(f"runs/gpt2/prompts/{prompt['id']}"), 404, "unknown_record")
    assert api.delete(path).status_code == 204
    refused(api.get(path), 404, "unknown_record")
    refused(api.delete(path), 404, "unknown_record")


def test_any_text_comes_back_exactly(api: httpx.Client) -> None:
    for text in ("  ", "\t\n", "héllo 🙂 世", "\u0000 nul", "e\u0301"):
        assert add_prompt(api, text)["text"] == text


def test_tokens_that_no_text_gives_are_used_as_given(api: httpx.Client, run: RunDirectory) -> None:
    a, b = (run.tokenizer().token_to_id(letter) for letter in "th")
    ids = [a, b]
    assert run.tokenizer().encode("th").ids != ids, "the tokenizer joins the two"
    prompt = ok(api.post("runs/llama/prompts", json={"token_ids": ids}), 201)
    assert prompt["token_ids"] == ids
    graph = ok(api.get(f"graphs/{compute(api, prompt_id=prompt['id'])}"))
    assert [token["id"] for token in graph["tokens"]] == ids
    assert "embed:1:" + str(b) in keys_of(graph)


def test_prompts_that_cannot_be(api: httpx.Client) -> None:
    path = "runs/llama/prompts"
    body = refused(api.post(path, json={"token_ids": [1] * 33}), 413, "too_large")
    assert "33" in body["message"]
    assert "32" in body["message"]
    refused(api.post(path, json={"text": ""}), 422, "bad_input")
    refused(api.post(path, json={"token_ids": []}), 422, "bad_input")
    refused(api.post(path, json={}), 422, "bad_input")
    refused(api.post(path, json={"text": "a", "token_ids": [1]}), 422, "bad_input")
    refused(api.post(path, json={"token_ids": ["1"]}), 422, "bad_input")
    refused(api.post(path, json={"token_ids": [10**6]}), 404, "unknown_key")
    refused(api.post("runs/nope/prompts", json={"text": "a"}), 404, "unknown_run")
    refused(api.get("runs/llama/prompts/99999"), 404, "unknown_record")
    body = refused(
        api.post("runs/llama/graphs", json={"text": "a", "settings": {"delta": "x"}}), 422, "bad_input"
    )
    assert "settings.delta" in body["message"]
    half = api.post(path, content=b'{"text": "\\ud800"}', headers={"content-type": "application/json"})
    refused(half, 422, "bad_input")


# ---- predictions --------------------------------------------------------------------------------


def test_predictions_are_the_target_models(api: httpx.Client, model: Decomposition) -> None:
    found = ok(api.post("runs/llama/predictions", json={"text": TEXT, "k": 4, "positions": "all"}))
    logits = model.target(torch.tensor([found["token_ids"]]))[0].detach().double()
    for position in found["positions"]:
        row = logits[position["position"]]
        top = position["top"]
        assert [t["token_id"] for t in top] == row.argsort(descending=True, stable=True)[:4].tolist()
        expected = torch.softmax(row, -1)
        for token in top:
            assert token["probability"] == pytest.approx(expected[token["token_id"]].item(), rel=1e-6)
            assert token["logit"] == pytest.approx(row[token["token_id"]].item(), rel=1e-6)
    assert [p["position"] for p in found["positions"]] == list(range(len(found["token_ids"])))
    assert found["seconds"] > 0
    assert found["context"] == 32


def test_tokens_are_searched_by_text_and_ordered_by_probability(api: httpx.Client) -> None:
    found = ok(api.post("runs/llama/predictions", json={"text": TEXT, "k": 1000, "q": "E"}))
    (position,) = found["positions"]
    assert found["total"] == len(position["top"]) > 1
    assert all("e" in token["text"].lower() for token in position["top"])
    shares = [token["probability"] for token in position["top"]]
    assert shares == sorted(shares, reverse=True)
    whole = ok(api.post("runs/llama/predictions", json={"text": TEXT, "k": 1000}))
    by_id = {token["token_id"]: token for token in whole["positions"][0]["top"]}
    assert sum(token["probability"] for token in by_id.values()) == pytest.approx(1)
    assert all(by_id[token["token_id"]] == token for token in position["top"])


# ---- graphs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_a_graph_is_what_the_compute_room_says(api: httpx.Client, model: Decomposition, delta: str) -> None:
    target = {"name": "a − b", "terms": [
        {"position": 1, "token_id": 5, "weight": 1.0}, {"position": 2, "token_id": 6, "weight": -1.0}
    ]}  # fmt: skip
    settings = {"delta": delta, "targets": [target], "output_positions": [2, 0, 2], "alive_above": 0.1}
    number = compute(api, text=TEXT, settings=settings)
    graph = ok(api.get(f"graphs/{number}"))
    from compute.attribution.prompt import CustomTarget, OutputTerm

    expected = directly(
        model,
        [token["id"] for token in graph["tokens"]],
        delta=delta,
        alive_above=0.1,
        output_positions=(0, 2),
        targets=(CustomTarget("a − b", (OutputTerm(1, 5, 1.0), OutputTerm(2, 6, -1.0))),),
    )
    assert keys_of(graph) == expected.nodes.keys()
    for name in ("ci", "activation", "scale", "probability", "logit", "ci_probability", "ci_logit"):
        column = np.array(graph["nodes"][name], dtype=float)
        np.testing.assert_array_equal(column, getattr(expected.nodes, name).astype(float))
    total, share, edges = read_edges(api.get(f"graphs/{number}/edges").content)
    assert (total, share) == (len(expected.edges), 0.0)
    for name, column in edges.items():
        np.testing.assert_allclose(column, getattr(expected.edges, name), rtol=1e-6)
    assert graph["method"] == expected.method
    assert graph["settings"]["output_positions"] == [0, 2]
    last = len(keys_of(graph)) - 1
    assert graph["labels"][str(last)] == "a − b"
    assert graph["labels"]["0"] == graph["tokens"][0]["text"]
    assert graph["provenance"]["model_sha256"]
    assert graph["seconds"] > 0


def test_the_same_request_is_answered_from_what_is_stored(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    prompt = add_prompt(api)
    answer = api.post("runs/llama/graphs", json={"prompt_id": prompt["id"]})
    job = ok(answer, 200)
    assert (job["state"], job["result"]["graph_id"]) == ("done", number)
    default = {"delta": "node", "output_positions": "last"}
    assert ok(api.post("runs/llama/graphs", json={"text": TEXT, "settings": default}), 200)
    other = ok(api.post("runs/llama/graphs", json={"text": TEXT, "settings": {"alive_above": 0.2}}), 202)
    assert finished(api, other)["graph_id"] != number
    listed = ok(api.get("runs/llama/graphs", params={"prompt": prompt["id"]}))["graphs"]
    assert number in {graph["id"] for graph in listed}
    assert {graph["prompt_id"] for graph in listed} == {prompt["id"]}
    assert len(ok(api.get(f"runs/llama/prompts/{prompt['id']}"))["graphs"]) == len(listed)


def test_the_strongest_edges_and_what_is_left_out(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    graph = ok(api.get(f"graphs/{number}"))
    scale = np.array(graph["nodes"]["scale"])
    total, _, edges = read_edges(api.get(f"graphs/{number}/edges").content)
    for metric in ("attr", "attr_abs"):
        strength = np.abs(edges[metric].astype(float) * scale[edges["target"]])
        for top in (0, 7, total, total + 5):
            found, share, part = read_edges(
                api.get(f"graphs/{number}/edges", params={"top": top, "metric": metric}).content
            )
            assert found == total
            assert len(part["source"]) == min(top, total)
            kept = np.sort(strength)[::-1][:top].sum()
            assert share == pytest.approx(1 - kept / strength.sum(), abs=1e-9)
            order = part["target"].astype(np.int64) * 10**6 + part["source"]
            assert np.all(np.diff(order) > 0)


def test_edges_of_one_node_come_from_all_that_are_stored(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    graph = ok(api.get(f"graphs/{number}"))
    keys, scale = keys_of(graph), np.array(graph["nodes"]["scale"])
    _, _, edges = read_edges(api.get(f"graphs/{number}/edges").content)
    node = next(i for i, key in enumerate(keys) if key.startswith("0.attn.o:2"))
    found = ok(api.get(f"graphs/{number}/nodes/{node}/edges", params={"k": 3, "metric": "attr_abs"}))
    assert found["key"] == keys[node]
    for direction, here, there in (("sources", "target", "source"), ("targets", "source", "target")):
        chosen = edges[here] == node
        values = edges["attr_abs"][chosen].astype(float) * scale[edges["target"][chosen]]
        ends = edges[there][chosen]
        for sign, mask in (("positive", values > 0), ("negative", values < 0)):
            part = found[f"{direction}_{sign}"]
            assert part["total"] == mask.sum()
            assert part["total_value"] == pytest.approx(values[mask].sum())
            order = np.argsort(-np.abs(values[mask]))[:3]
            assert [e["node"] for e in part["entries"]] == ends[mask][order].tolist()
            assert [e["key"] for e in part["entries"]] == [keys[i] for i in ends[mask][order]]
    refused(api.get(f"graphs/{number}/nodes/{len(keys)}/edges"), 404, "unknown_key")


def test_omitted_edges_are_counted_and_kept_with_the_graph(api: httpx.Client) -> None:
    whole = ok(api.get(f"graphs/{compute(api, text=TEXT)}"))
    capped = ok(api.get(f"graphs/{compute(api, text=TEXT, settings={'max_edges': 50})}"))
    assert capped["n_edges"] == 50
    assert capped["omitted"]["edges"] == whole["n_edges"] - 50
    assert 0 < capped["omitted"]["share"] < 1
    assert whole["omitted"] == {"edges": 0, "share": 0, "share_abs": 0}


def test_graphs_have_titles_and_notes_and_go(api: httpx.Client) -> None:
    number = compute(api, text="a lazy fox", title="first")
    path = f"graphs/{number}"
    assert ok(api.get(path))["title"] == "first"
    assert ok(api.patch(path, json={"note": "why?"}))["title"] == "first"
    assert ok(api.patch(path, json={"title": ""}))["note"] == "why?"
    assert (ok(api.get(path))["title"], ok(api.get(path))["note"]) == ("", "why?")
    assert api.delete(path).status_code == 204
    for answer in (api.get(path), api.get(f"{path}/edges"), api.get(f"{path}/workspace"), api.delete(path)):
        refused(answer, 404, "unknown_record")
    assert ok(api.post("runs/llama/graphs", json={"text": "a lazy fox"}), 202), "it is computed anew"


def test_what_a_graph_cannot_be_asked(api: httpx.Client) -> None:
    def ask(**request: Any) -> httpx.Response:
        return api.post("runs/llama/graphs", json=request)

    refused(ask(), 422, "bad_input")
    refused(ask(text=TEXT, settings={"output_positions": [31]}), 422, "bad_input")
    target = {"name": "t", "terms": [{"position": 0, "token_id": 10**6}]}
    refused(ask(text=TEXT, settings={"targets": [target]}), 404, "unknown_key")
    refused(ask(text=TEXT, settings={"alive_above": 1.5}), 422, "bad_input")
    refused(ask(text=TEXT, circuit_id=999), 404, "unknown_record")
    refused(ask(prompt_id=99999), 404, "unknown_record")
    nan = b'{"text": "a", "settings": {"threshold": NaN}}'
    answer = api.post("runs/llama/graphs", content=nan, headers={"content-type": "application/json"})
    refused(answer, 422, "bad_input")


def test_too_large_a_graph_is_refused_with_what_would_fit(folder: Path, tmp_path: Path) -> None:
    settings = Settings(runs=folder, database=tmp_path / "g.sqlite3", memory_limit=9 << 20)
    with served(settings) as client:
        client.base_url = client.base_url.join("/api/")
        long = {"token_ids": [5] * 32}
        estimate = ok(client.post("runs/llama/graphs:estimate", json=long))
        assert not estimate["fits"]
        assert estimate["bytes"] > estimate["limit_bytes"] == 9 << 20
        assert estimate["advice"]
        body = refused(client.post("runs/llama/graphs", json=long), 413, "too_large")
        assert "9.0 MiB" in body["message"]
        assert "would fit" in body["message"]
        assert ok(client.get("jobs"))["jobs"] == []
        short = {"token_ids": [5], "settings": {"alive_above": 0.5}}
        assert ok(client.post("runs/llama/graphs:estimate", json=short))["fits"]
        assert ok(client.post("runs/llama/graphs", json=short), 202)


def test_a_run_that_was_made_again_does_not_answer_with_old_graphs(tmp_path: Path) -> None:
    import shutil

    make_tiny_run(tmp_path / "tiny", attributions=False, statistics=False)
    with served(Settings(runs=tmp_path)) as client:
        client.base_url = client.base_url.join("/api/")
        prompt = add_prompt(client, run="tiny")
        old = compute(client, "tiny", prompt_id=prompt["id"])
        before = read_edges(client.get(f"graphs/{old}/edges").content)
        shutil.rmtree(tmp_path / "tiny")
        make_tiny_run(tmp_path / "tiny", attributions=False, statistics=False, seed=9)
        refused(client.get(f"graphs/{old}"), 409, "run_changed")
        refused(client.get(f"graphs/{old}/edges"), 409, "run_changed")
        refused(client.get(f"runs/tiny/prompts/{prompt['id']}"), 404, "unknown_record")
        assert ok(client.get("runs/tiny/prompts"))["prompts"] == []
        new = compute(client, "tiny", text=TEXT)
        assert new != old
        after = read_edges(client.get(f"graphs/{new}/edges").content)
        assert before[0] != after[0] or not np.array_equal(before[2]["attr"], after[2]["attr"])
        assert client.delete(f"graphs/{old}").status_code == 204


# ---- workspaces ---------------------------------------------------------------------------------


def test_a_workspace_is_saved_by_versions(api: httpx.Client) -> None:
    number = compute(api, text="a workspace")
    keys = keys_of(ok(api.get(f"graphs/{number}")))
    path = f"graphs/{number}/workspace"
    assert ok(api.get(path)) == {"version": 0, "pins": [], "groups": [], "notes": []}
    content = {
        "pins": keys[:3],
        "groups": [{"id": "g1", "name": "early words", "members": keys[1:4]}],
        "notes": [{"key": keys[0], "text": "begins it"}],
    }
    assert ok(api.put(path, json={"version": 0, **content}))["version"] == 1
    assert ok(api.get(path)) == {"version": 1, **content}
    refused(api.put(path, json={"version": 0, **content}), 409, "changed_meanwhile")
    assert ok(api.put(path, json={"version": 1, "pins": []}))["version"] == 2
    refused(api.put(path, json={"version": 2, "pins": ["embed:0:1"]}), 404, "unknown_key")
    refused(api.put(path, json={"version": 2, "pins": ["nonsense"]}), 422, "bad_input")
    refused(api.put(path, json={"version": 2, "pins": [keys[0], keys[0]]}), 422, "bad_input")
    refused(api.put(path, json={"pins": []}), 422, "bad_input")


# ---- export and import --------------------------------------------------------------------------


def send(api: httpx.Client, document: Any, run: str = "llama") -> httpx.Response:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return api.post(
        f"runs/{run}/graphs:import", content=content, headers={"content-type": "application/json"}
    )


def test_a_graph_comes_back_as_it_was_exported(api: httpx.Client) -> None:
    target = {"name": "t", "terms": [{"position": 2, "token_id": 5, "weight": 2.5}]}
    number = compute(api, text="in and out", settings={"targets": [target], "max_edges": 300}, title="x")
    keys = keys_of(ok(api.get(f"graphs/{number}")))
    content = {"pins": keys[:2], "groups": [], "notes": [{"key": keys[5], "text": "ü"}]}
    ok(api.put(f"graphs/{number}/workspace", json={"version": 0, **content}))
    ok(api.patch(f"graphs/{number}", json={"note": "kept"}))
    answer = api.get(f"graphs/{number}/export")
    assert answer.headers["content-disposition"] == f'attachment; filename="llama-graph-{number}.json"'
    document = answer.json()
    graph, edges = ok(api.get(f"graphs/{number}")), read_edges(api.get(f"graphs/{number}/edges").content)
    assert api.delete(f"runs/llama/prompts/{graph['prompt_id']}").status_code == 204

    summary = ok(send(api, answer.content), 201)
    assert summary["imported"]
    assert ok(send(api, answer.content), 200)["id"] == summary["id"]
    back = ok(api.get(f"graphs/{summary['id']}"))
    varying = {"id", "prompt_id", "created", "provenance", "imported"}
    assert {k: v for k, v in back.items() if k not in varying} == {
        k: v for k, v in graph.items() if k not in varying
    }
    again = read_edges(api.get(f"graphs/{summary['id']}/edges").content)
    assert again[0] == edges[0]
    for name, column in edges[2].items():
        np.testing.assert_array_equal(column, again[2][name])
    assert ok(api.get(f"graphs/{summary['id']}/workspace")) == {"version": 1, **content}
    second = api.get(f"graphs/{summary['id']}/export").json()
    assert {k: v for k, v in second.items() if k not in varying} == {
        k: v for k, v in document.items() if k not in varying
    }
    job = ok(api.post("runs/llama/graphs", json={"text": "in and out", "settings": graph["settings"]}), 202)
    assert finished(api, job)["graph_id"] != summary["id"], "an imported graph answers for no computation"


def test_edges_as_a_table(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    keys = keys_of(ok(api.get(f"graphs/{number}")))
    _, _, edges = read_edges(api.get(f"graphs/{number}/edges").content)
    answer = api.get(f"graphs/{number}/export", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.text.splitlines()
    assert lines[0] == "source,target,attr,attr_abs,target_scale"
    assert len(lines) == len(edges["source"]) + 1
    for i in (0, 17, len(lines) - 2):
        source, target, attr, attr_abs, _ = lines[i + 1].split(",")
        assert (source, target) == (keys[edges["source"][i]], keys[edges["target"][i]])
        assert np.float32(attr) == edges["attr"][i]
        assert np.float32(attr_abs) == edges["attr_abs"][i]


@pytest.fixture(scope="module")
def exported(api: httpx.Client) -> dict[str, Any]:
    return api.get(f"graphs/{compute(api, text=TEXT)}/export").json()


def _set(*path: Any) -> Any:
    """A change of one value in a document."""
    *way, last, value = path

    def change(document: Any) -> None:
        for step in way:
            document = document[step]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "status", "where"),
    [
        (_set("version", 2), 422, "version"),
        (_set("format", "other"), 422, "format"),
        (_set("run_digest", "0" * 64), 409, "another run"),
        (_set("token_ids", [10**6]), 404, "no token"),
        (_set("addresses", 0, "9.attn.q"), 422, "addresses"),
        (_set("addresses", 0, "../../etc"), 422, "addresses"),
        (_set("addresses", 1, "embed"), 422, "addresses"),
        (_set("nodes", "site", 0, 999), 422, "nodes.site"),
        (_set("nodes", "position", 0, 99), 422, "nodes.position"),
        (_set("nodes", "position", 0, -1), 422, "nodes.position"),
        (_set("nodes", "index", 0, 3), 422, "nodes at embed"),
        (_set("nodes", "index", 60, 10**12), 422, "nodes.index"),
        (_set("nodes", "index", 60, 4000), 422, "nodes at"),
        (_set("nodes", "ci", 60, 1.5), 422, "nodes.ci"),
        (_set("nodes", "ci", 60, "x"), 422, "nodes.ci"),
        (_set("nodes", "ci", []), 422, "nodes.ci"),
        (_set("nodes", "scale", 0, None), 422, "nodes.scale"),
        (_set("nodes", "activation", 0, 1e300), 422, "nodes.activation"),
        (_set("edges", "source", 0, 10**6), 422, "edges.source"),
        (_set("edges", "source", 0, -1), 422, "edges.source"),
        (_set("edges", "attr", 0, None), 422, "edges.attr"),
        (_set("edges", "attr", 0, 1e39), 422, "edges.attr"),
        (_set("edges", "attr", [1.0]), 422, "edges.attr"),
        (_set("workspace", "pins", ["embed:0:1"]), 404, "embed:0:1"),
        (_set("workspace", "pins", ["x"]), 422, "workspace.pins"),
        (_set("settings", "output_positions", [99]), 422, "position 99"),
        (_set("extra", 1), 422, "extra"),
    ],
)
def test_an_altered_file_is_refused_by_name(
    api: httpx.Client, exported: dict[str, Any], change: Any, status: int, where: str
) -> None:
    document = json.loads(json.dumps(exported))
    change(document)
    before = len(ok(api.get("runs/llama/graphs"))["graphs"])
    answer = send(api, document)
    assert answer.status_code == status, answer.text
    assert where in answer.json()["message"]
    assert len(ok(api.get("runs/llama/graphs"))["graphs"]) == before


def test_files_that_are_no_graph(api: httpx.Client, exported: dict[str, Any]) -> None:
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000):
        refused(send(api, content), 422, "bad_input")
    document = json.loads(json.dumps(exported))
    document["edges"] = {name: column * 2 for name, column in document["edges"].items()}
    assert "twice" in refused(send(api, document), 422, "bad_input")["message"]
    refused(send(api, exported, "gpt2"), 409, "other_run")
    assert api.base_url.port is not None
    connection = http.client.HTTPConnection("127.0.0.1", api.base_url.port, timeout=10)
    connection.putrequest("POST", "/api/runs/llama/graphs:import")
    connection.putheader("Content-Length", str(200 << 20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


# ---- interventions and edges --------------------------------------------------------------------


def test_interventions_in_four_regimes_and_of_single_nodes(api: httpx.Client, model: Decomposition) -> None:
    from compute.address import parse_address
    from compute.intervention import NodeChange, change, intervene, kl_by_position

    number = compute(api, text=TEXT)
    graph = ok(api.get(f"graphs/{number}"))
    keys = keys_of(graph)
    selected = keys[::3]
    component = next(key for key in keys if key.startswith("1.attn.o:2") and key[-1].isdigit())
    request = {
        "selected": selected,
        "regimes": ["ci", "stochastic", "adversarial", "target_sans"],
        "changes": [{"key": component, "factor": 0.0}],
        "seed": 3,
        "adversary": {"steps": 2, "step_size": 0.5},
    }
    result = finished(api, ok(api.post(f"graphs/{number}/interventions", json=request), 202))
    found = ok(api.get(f"interventions/{result['intervention_id']}"))
    assert {name: found[name] for name in request} == request
    assert ok(api.get(f"graphs/{number}/interventions"))["interventions"][0] == found

    from compute.intervention import Adversary

    tokens = torch.tensor([token["id"] for token in graph["tokens"]])
    masks: list[dict[Any, torch.Tensor]] = [{}, {}]
    ignored = 0
    for i, key in enumerate(keys):
        address, position, index = key.split(":")
        if "." not in address or index in ("delta", "bias"):
            ignored += key in selected
            continue
        site = parse_address(address)
        for mask, on in zip(masks, (i % 3 == 0, True), strict=True):
            mask.setdefault(site, torch.zeros(len(tokens), model.n_components[site], dtype=torch.bool))
            mask[site][int(position), int(index)] = on
    assert found["ignored"] == ignored
    expected: dict[str, torch.Tensor] = dict(
        intervene(model, tokens, masks[0], masks[1], seed=3, adversary=Adversary(2, 0.5))
    )
    address, position, index = component.split(":")
    node = NodeChange(parse_address(address), int(position), int(index), 0.0)
    expected["changes"] = change(model, tokens, [node])
    clean = model.target(tokens[None])[0].detach()
    assert found["after"].keys() == found["kl"].keys() == expected.keys()
    for name, logits in expected.items():
        assert found["kl"][name] == pytest.approx(
            kl_by_position(clean.double(), logits.double()).tolist(), abs=1e-9
        )
        for position_found in found["after"][name]:
            row = logits[position_found["position"]]
            for token in position_found["top"]:
                assert token["logit"] == pytest.approx(row[token["token_id"]].item(), rel=1e-5)
                old = clean[position_found["position"], token["token_id"]].item()
                assert token["logit_before"] == pytest.approx(old, rel=1e-5)
    assert api.delete(f"interventions/{found['id']}").status_code == 204
    refused(api.get(f"interventions/{found['id']}"), 404, "unknown_record")


def test_what_an_intervention_cannot_be(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    graph = ok(api.get(f"graphs/{number}"))
    keys = keys_of(graph)

    def ask(**request: Any) -> httpx.Response:
        return api.post(f"graphs/{number}/interventions", json=request)

    refused(ask(), 422, "bad_input")
    refused(ask(selected=["0.attn.q:0:99"], regimes=["ci"]), 404, "unknown_key")
    refused(ask(selected=keys, regimes=["other"]), 422, "bad_input")
    refused(ask(changes=[{"key": keys[-1], "factor": 0.0}]), 404, "unknown_key")
    refused(ask(changes=[{"key": "embed:0:1", "factor": 0.0}]), 404, "unknown_key")
    refused(ask(changes=[{"key": "0.attn.q:31:0", "factor": 0.0}]), 404, "unknown_key")
    refused(ask(changes=[{"key": "0.attn.q:0:99", "factor": 0.0}]), 404, "unknown_key")
    refused(ask(changes=[{"key": "0.attn.q:0:bias", "factor": 0.0}]), 404, "unknown_key")
    refused(ask(changes=[{"key": "position:0:0", "factor": 0.0}]), 404, "unknown_key")
    refused(ask(changes=[{"key": keys[0], "factor": 0.0}] * 2), 422, "bad_input")
    refused(api.post("graphs/99999/interventions", json={"regimes": ["ci"]}), 404, "unknown_record")


def test_edges_say_what_they_claim(api: httpx.Client) -> None:
    target = {"name": "t", "terms": [{"position": 1, "token_id": 7}, {"position": 0, "token_id": 9}]}
    for delta in ("node", "off", "through"):
        number = compute(api, text=TEXT, settings={"delta": delta, "targets": [target]})
        keys = keys_of(ok(api.get(f"graphs/{number}")))
        _, _, edges = read_edges(api.get(f"graphs/{number}/edges").content)
        for i in (0, len(edges["source"]) // 2, len(edges["source"]) - 1):
            source, end = keys[edges["source"][i]], keys[edges["target"][i]]
            found = ok(api.post(
                f"graphs/{number}/edges:check", json={"source": source, "target": end, "epsilon": 1e-4}
            ))  # fmt: skip
            assert found["predicted"] == pytest.approx(1e-4 * edges["attr"][i], rel=1e-3, abs=1e-9)
            assert found["actual"] == pytest.approx(found["predicted"], rel=1e-2, abs=1e-10)
        assert keys[edges["target"][-1]].startswith("target:1:0")


def test_edges_that_cannot_be_checked(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    keys = keys_of(ok(api.get(f"graphs/{number}")))
    path = f"graphs/{number}/edges:check"
    refused(api.post(path, json={"source": keys[0], "target": "0.attn.q:0:99"}), 404, "unknown_key")
    refused(api.post(path, json={"source": keys[-1], "target": keys[-1]}), 404, "unknown_key")
    refused(api.post(path, json={"source": keys[0], "target": keys[1]}), 404, "unknown_key")
    refused(api.post(path, json={"source": keys[0], "target": keys[-1], "epsilon": 0}), 422, "bad_input")


# ---- circuits -----------------------------------------------------------------------------------


def test_sparse_circuits_are_kept_and_opened_as_graphs(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    graph = ok(api.get(f"graphs/{number}"))
    request = {"coefficients": [0.001, 1.0], "steps": 15, "position": 1, "loss": "kl", "seed": 4}
    job = ok(api.post(f"graphs/{number}/circuits", json=request), 202)
    with api.stream("GET", f"jobs/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    snapshots = [
        json.loads(lines[i + 1].removeprefix("data: "))
        for i, line in enumerate(lines)
        if line == "event: snapshot"
    ]
    assert [len(snapshots[-1][name]) for name in ("loss", "alive", "probability")] == [2, 2, 2]
    ids = finished(api, job)["circuit_ids"]
    circuits = [ok(api.get(f"circuits/{circuit}")) for circuit in ids]
    assert [circuit["coefficient"] for circuit in circuits] == [0.001, 1.0]
    assert circuits[0]["alive"] > circuits[1]["alive"]
    assert {c["id"] for c in ok(api.get(f"graphs/{number}/circuits"))["circuits"]} >= set(ids)
    assert circuits[0]["settings"]["steps"] == 15
    assert circuits[0]["history"][-1]["step"] == 15

    opened = compute(api, prompt_id=graph["prompt_id"], circuit_id=ids[0])
    assert opened != number
    circuit = ok(api.get(f"graphs/{opened}"))
    assert circuit["circuit_id"] == ids[0]
    components = [k for k in keys_of(circuit) if "." in k and k[-1].isdigit()]
    assert len(components) == circuits[0]["alive"]
    assert all(int(key.split(":")[1]) <= 1 for key in components), "nothing after the chosen position"
    assert ok(api.get(f"circuits/{ids[0]}"))["graphs"] == [opened]
    document = api.get(f"graphs/{opened}/export").json()
    assert document["circuit"]["settings"]["position"] == 1
    imported = ok(send(api, document), 201)
    assert imported["circuit_id"] is None

    other = add_prompt(api, "another prompt")
    refused(
        api.post("runs/llama/graphs", json={"prompt_id": other["id"], "circuit_id": ids[0]}), 422, "bad_input"
    )
    assert api.delete(f"circuits/{ids[0]}").status_code == 204
    refused(api.get(f"graphs/{opened}"), 404, "unknown_record")
    refused(api.get(f"circuits/{ids[0]}"), 404, "unknown_record")
    assert ok(api.get(f"graphs/{number}"))


def test_what_circuits_cannot_be_asked(api: httpx.Client) -> None:
    number = compute(api, text=TEXT)
    path = f"graphs/{number}/circuits"
    refused(api.post(path, json={"position": 31}), 422, "bad_input")
    refused(api.post(path, json={"token_id": 10**6}), 404, "unknown_key")
    refused(api.post(path, json={"masks": "ci", "adversary_steps": 1}), 422, "bad_input")
    refused(api.post(path, json={"coefficients": []}), 422, "bad_input")
    refused(api.post(path, json={"steps": 0}), 422, "bad_input")


def test_the_other_family_with_learned_positions_and_biases(api: httpx.Client) -> None:
    number = compute(api, "gpt2", text=TEXT)
    keys = keys_of(ok(api.get(f"graphs/{number}")))
    assert any(key.startswith("position:") for key in keys)
    assert any(key.endswith(":bias") for key in keys)
    document = api.get(f"graphs/{number}/export").json()
    assert ok(send(api, document, "gpt2"), 201)["n_nodes"] == len(keys)
    changes = [{"key": key, "factor": 0.5} for key in keys if key.startswith(("position:", "embed:"))]
    changes += [{"key": next(key for key in keys if key.endswith("bias")), "factor": 2.0}]
    job = ok(api.post(f"graphs/{number}/interventions", json={"changes": changes}), 202)
    assert finished(api, job)["intervention_id"]
