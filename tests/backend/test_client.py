"""The notebook client does everything that the page does, against a real server."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.circuit_schemas import CircuitSnapshot
from backend.client import ApiError, Client, JobFailedError, Prompt, logit_difference, read_edges
from backend.job_schemas import Job
from backend.pipelines.load import load_decomposition
from backend.settings import Settings
from compute.attribution.prompt import PromptSettings, prompt_graph
from storage.run_directory import RunDirectory
from tests.backend.conftest import serving
from tests.support.tiny_run import make_tiny_run

TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    make_tiny_run(folder / "tiny", harvest=True)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with (
        serving(Settings(runs=folder, token=TOKEN)) as (http, _),
        Client(str(http.base_url), token=TOKEN) as client,
    ):
        yield client


@pytest.fixture
def prompt(client: Client) -> Prompt:
    return client.run("tiny").prompt("the quick fox")


def test_a_token_is_needed_and_sent(client: Client) -> None:
    assert [run.name for run in client.runs().runs][-1] == "tiny"
    assert client.health().status == "ok"
    stranger = Client(str(client.http.base_url).removesuffix("/api/"))
    with stranger, pytest.raises(ApiError) as refused:
        stranger.runs()
    assert (refused.value.status, refused.value.code) == (401, "token_required")


def test_runs_components_and_dataset_attributions(client: Client) -> None:
    run = client.run("tiny")
    assert run.detail().n_blocks == 2
    page = run.components(site="0.attn.q", limit=2)
    assert len(page.components) == 2
    key = page.components[0].key
    assert run.card(key, k=1).key == key
    assert [card.key for card in run.cards([key, "embed:5"]).cards] == [key, "embed:5"]
    sources = run.sources("1.attn.q:2", k=3)
    assert sources.direction == "sources"
    assert run.targets(key, sign="negative", k=1).sign == "negative"
    found = run.attribution(sources.entries[0].key, "1.attn.q:2")
    assert found.value == pytest.approx(sources.entries[0].value)
    assert run.tokens("e").tokens[0].text == "e"
    assert run.openings(2).run == "tiny"
    with pytest.raises(ApiError) as unknown:
        client.run("nope").detail()
    assert unknown.value.code == "unknown_run"


def test_evidence(client: Client) -> None:
    run = client.run("tiny")
    key = run.components(sort="-density", limit=1).components[0].key
    evidence = run.evidence(key, k=3)
    assert evidence.key == key
    assert len(evidence.cofiring.positive) <= 3
    page = run.examples(key, "strongest", limit=2)
    example = page.examples[0]
    following = run.examples(key, "strongest", limit=2, cursor=page.next_cursor)
    assert following.examples[0] != example
    token = example.tokens[example.left]
    assert token is not None
    assert run.examples(key, "strongest", token=token.id).examples[0] == example
    document = run.document(example.document, start=example.document_position, length=1, key=key)
    assert document.tokens == [token]
    assert document.ci == [pytest.approx(example.ci[example.left])]
    fired = run.fire("the lazy dog", [key], k=2, per_token=1)
    assert [row.key for row in fired.components] == [key]
    assert len(fired.strongest) == 2
    assert run.fire([token.id]).tokens == [token]
    on = run.components(fires_on=token.text, min_density=0.01, max_density=1.0, sort="-fires_on")
    assert all(row.fires_on is not None for row in on.components)
    end = run.components(sort="-strongest_source", limit=1).components[0]
    assert end.strongest_source is not None
    found = run.components(strongest_source=end.strongest_source.key, min_mean_ci=0, labelled="none")
    assert end.key in [row.key for row in found.components]
    assert run.components(strongest_target="output", label="no such label", max_mean_ci=1).total == 0
    assert run.cards([key]).cards[0].evidence is not None


def test_prompts_and_predictions(client: Client) -> None:
    run = client.run("tiny")
    prompt = run.prompt("a dog", title="dog")
    assert "".join(prompt.tokens) == "a dog"
    same = run.prompt(np.array(prompt.token_ids))
    assert same.id == prompt.id
    prompt.rename("a good dog")
    assert {p.id: p.model.title for p in run.prompts()}[prompt.id] == "a good dog"
    top = prompt.predict(k=2, positions="all")
    assert len(top.positions) == len(prompt.tokens)
    assert run.predict("a dog", k=2).positions[0] == top.positions[-1]
    assert prompt.predict(q="e").total < top.total
    prompt.delete()
    assert prompt.id not in {p.id for p in run.prompts()}


def test_a_graph_as_columns(client: Client, folder: Path, prompt: Prompt) -> None:
    seen: list[Job] = []
    target = logit_difference("difference", 2, 5, 6)
    graph = prompt.graph(alive_above=0.1, output_positions=(0, 2), targets=[target], progress=seen.append)
    assert seen[-1].state == "done"
    model = load_decomposition(RunDirectory.open(folder / "tiny"))
    from compute.attribution.prompt import CustomTarget, OutputTerm

    expected = prompt_graph(
        model,
        torch.tensor(prompt.token_ids),
        PromptSettings(
            alive_above=0.1,
            output_positions=(0, 2),
            targets=(CustomTarget("difference", (OutputTerm(2, 5, 1.0), OutputTerm(2, 6, -1.0))),),
        ),
    )
    assert graph.nodes.keys == expected.nodes.keys()
    np.testing.assert_array_equal(graph.nodes["ci"], expected.nodes.ci.astype(float))
    edges = graph.edges
    assert len(edges) == edges.total == graph.detail.n_edges
    np.testing.assert_allclose(edges.attr, expected.edges.attr, rtol=1e-6)
    np.testing.assert_array_equal(edges.source, expected.edges.source)
    best = edges.strongest(5)
    strength = np.abs(edges.strength())
    assert np.abs(best.strength()).tolist() == sorted(strength, reverse=True)[:5]
    assert best.left_out == pytest.approx(1 - np.sort(strength)[-5:].sum() / strength.sum())
    top = graph.top_edges(5)
    assert set(zip(top.source, top.target, strict=True)) == set(zip(best.source, best.target, strict=True))
    assert top.left_out == pytest.approx(best.left_out)
    node = graph.nodes.keys[int(best.target[0])]
    around = graph.node_edges(node, k=1)
    values = [e.value for e in (*around.sources_positive.entries, *around.sources_negative.entries)]
    assert max(map(abs, values)) == pytest.approx(np.abs(best.strength()[0]))
    assert prompt.graph(alive_above=0.1, output_positions=(0, 2), targets=[target]).id == graph.id
    assert prompt.estimate(max_edges=5).fits
    assert graph.id in {summary.id for summary in prompt.graphs()}
    assert graph.id in {summary.id for summary in client.run("tiny").graphs()}
    assert "the| |q" in repr(graph) or "nodes" in repr(graph)


def test_data_frames_where_pandas_is_installed(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = prompt.graph(max_edges=20)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        graph.edges.to_pandas()
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    frame = graph.edges.to_pandas()
    assert frame.keys() == {"source", "target", "attr", "attr_abs", "strength"}
    assert frame["source"][0] == graph.nodes.keys[graph.edges.source[0]]
    nodes = graph.nodes.to_pandas()
    assert {len(column) for column in nodes.values()} == {len(graph.nodes)}


def test_what_is_done_with_a_graph(client: Client, prompt: Prompt, tmp_path: Path) -> None:
    graph = prompt.graph()
    keys = graph.nodes.keys
    graph.update(note="a note", title="a title")
    assert (graph.detail.title, graph.detail.note) == ("a title", "a note")
    graph.save_workspace(pins=keys[:2], groups={"early": keys[:3]}, notes={keys[0]: "first"})
    saved = graph.save_workspace(pins=keys[:1])
    assert (saved.pins, saved.groups[0].members, saved.notes[0].text) == (keys[:1], keys[:3], "first")
    assert graph.workspace() == saved

    file = graph.export(tmp_path / "graph.json")
    assert json.loads(file.read_bytes())["title"] == "a title"
    lines = graph.export(tmp_path / "edges.csv", "csv").read_text().splitlines()
    assert len(lines) == graph.detail.n_edges + 1
    back = client.run("tiny").import_graph(file)
    np.testing.assert_array_equal(back.edges.attr, graph.edges.attr)
    assert back.workspace().pins == saved.pins
    back.delete()
    with pytest.raises(ApiError):
        client.graph(back.id)

    component = next(key for key in keys if key.startswith("1.attn.o"))
    found = graph.intervene(keys, regimes=["ci", "target_sans"], seed=1)
    assert found.after.keys() == {"ci", "target_sans"}
    ablated = graph.ablate(component)
    assert ablated.changes[0].factor == 0
    assert [one.id for one in graph.interventions()] == [ablated.id, found.id]
    graph.delete_intervention(found.id)
    assert [one.id for one in graph.interventions()] == [ablated.id]
    best = graph.edges.strongest(1)
    checked = graph.check_edge(keys[best.source[0]], keys[best.target[0]], 1e-4)
    assert checked.actual == pytest.approx(checked.predicted, rel=1e-2)


def test_circuits_with_live_progress(client: Client, prompt: Prompt) -> None:
    graph = prompt.graph()
    snapshots: list[CircuitSnapshot] = []
    circuits = graph.find_circuits([0.01, 1.0], steps=10, loss="kl", snapshot=snapshots.append)
    assert [circuit.coefficient for circuit in circuits] == [0.01, 1.0]
    assert snapshots[-1].step == 10
    opened = graph.open_circuit(circuits[0].id)
    assert opened.detail.circuit_id == circuits[0].id
    assert {circuit.id for circuit in graph.circuits()} >= {circuit.id for circuit in circuits}
    graph.delete_circuit(circuits[0].id)
    with pytest.raises(ApiError):
        client.graph(opened.id)


def test_waiting_can_be_broken_off(client: Client, prompt: Prompt) -> None:
    graph = prompt.graph()

    def enough(job: Job) -> None:
        if job.phase not in ("waiting", "starting", "loading the model"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graph.find_circuits(steps=100_000, progress=enough)
    newest = client.jobs()[0]
    assert (newest.kind, newest.state) == ("circuits", "cancelled")

    def cancel(job: Job) -> None:
        if job.state == "running":
            client.cancel(job.id)

    with pytest.raises(JobFailedError, match="cancelled") as failed:
        graph.find_circuits(steps=100_000, seed=1, progress=cancel)
    assert failed.value.job.state == "cancelled"
    assert client.job(failed.value.job.id).state == "cancelled"


def test_edges_that_were_cut_short_are_refused(prompt: Prompt, client: Client) -> None:
    graph = prompt.graph()
    content = client.request("GET", f"/graphs/{graph.id}/edges").content
    wrong: list[Any] = [b"", content[:-1], b"X" + content[1:], content + b"\0"]
    for part in wrong:
        with pytest.raises(ValueError, match="edges"):
            read_edges(part, graph.nodes)
