"""Graphs of a prompt on an imported run: edges by the published definition, one target after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compute.attribution.prompt import PromptGraph, PromptSettings, prompt_graph
from compute.intervention import NodeChange, change, intervene
from tests.importing.published import Imported, assert_close, import_public
from tests.support.public import write_public_run
from tests.support.public.attributions import prompt_attributions

LENGTH = 6
CASES: dict[str, dict[str, Any]] = {
    "plain mlp": {},
    "gated mlp with biases": {"family": "LlamaSimple", "model": {"attn_bias": True, "mlp_bias": True}},
    "fused": {"family": "GPT2", "importance": "global_shared_transformer"},
    "hf gpt2": {"family": "GPT2LMHeadModel"},
    "adjacent pairs": {"model": {"rotary_adjacent_pairs": True, "rotary_base": 50}},
    "some matrices": {"sites": {"h.0.attn.q_proj": 5, "h.0.attn.o_proj": 6, "h.1.mlp.*": 5}},
    "values whose outputs are whole": {"sites": {"h.*.attn.v_proj": 5, "h.*.mlp.down_proj": 6}},
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def imported(request: pytest.FixtureRequest, tmp_path: Path) -> Imported:
    return import_public(write_public_run(tmp_path / "s-1", **request.param))


@pytest.fixture
def prompt(imported: Imported) -> Tensor:
    return imported.public.tokens[:1, :LENGTH]


def edges_into(graph: PromptGraph, node: str) -> dict[str, float]:
    """Values of the edges into one node, by the source's key."""
    keys = graph.nodes.keys()
    here = np.flatnonzero(graph.edges.target == keys.index(node))
    return {keys[int(graph.edges.source[e])]: float(graph.edges.attr[e]) for e in here}


def test_edges_are_the_published_ones(imported: Imported, prompt: Tensor):
    public = imported.public
    token = int(public.target_logits(prompt)[0, -1].argmax())
    settings = PromptSettings(delta="through", alive_above=-1.0, output_probability=0.0, outputs_at_most=3)
    graph = prompt_graph(imported.decomposition, prompt[0], settings)
    last = public.paths[-1]
    targets = [
        *((path, c, p) for path in public.paths for c, p in ((1, LENGTH - 1), (3, 2))),
        *((last, 0, p) for p in range(LENGTH)),
        ("output", token, LENGTH - 1),
    ]
    for path, component, position in targets:
        expected, tokens = prompt_attributions(
            public.model, prompt, path, component, position, embed=public.embed, unembed=public.unembed
        )
        address = "output" if path == "output" else str(imported.addresses[path])
        found = edges_into(graph, f"{address}:{position}:{component}")
        scale = max(value.abs().max().item() for value in (*expected.values(), tokens))
        if path != "output":
            # Through a first norm alone everything cancels: rounding noise of the activation's size.
            activation = public.activations(prompt)[path][0, position, component].abs().item()
            scale = max(scale, 0.03 * activation)
        for source, value in expected.items():
            mine = torch.zeros_like(value)
            for p in range(LENGTH):
                for c in range(value.shape[1]):
                    mine[p, c] = found.get(f"{imported.addresses[source]}:{p}:{c}", 0.0)
            assert_close(mine, value, f"{source} → {path}:{position}:{component}", scale)
        ids = prompt[0].tolist()
        embedded = torch.tensor([found.get(f"embed:{p}:{ids[p]}", 0.0) for p in range(LENGTH)])
        assert_close(embedded, tokens, f"embedding → {path}:{position}:{component}", scale)
        known = {str(imported.addresses[source]) for source in expected}
        components = {key.split(":")[0] for key, value in found.items() if abs(value) > 1e-4 * scale}
        assert {a for a in components if a not in ("embed", "position")} <= known


def test_outputs_of_the_graph_are_those_of_the_masked_model(imported: Imported, prompt: Tensor):
    public = imported.public
    graph = prompt_graph(
        imported.decomposition, prompt[0], PromptSettings(output_probability=0.0, outputs_at_most=5)
    )
    logits = public.target_logits(prompt)[0, -1]
    masked = public.masked_logits(public.importance(prompt), tokens=prompt)[0, -1]
    chosen = [i for i, key in enumerate(graph.nodes.keys()) if key.startswith(f"output:{LENGTH - 1}:")]
    tokens = torch.from_numpy(graph.nodes.index[chosen].astype(np.int64))
    assert sorted(tokens.tolist()) == sorted(logits.topk(5).indices.tolist())
    for column, expected in (
        (graph.nodes.logit, logits),
        (graph.nodes.probability, logits.softmax(-1)),
        (graph.nodes.ci_logit, masked),
        (graph.nodes.ci_probability, masked.softmax(-1)),
    ):
        assert_close(torch.from_numpy(column[chosen]), expected[tokens], "outputs of the prompt")


def test_interventions_are_masked_passes_of_the_reference(imported: Imported, prompt: Tensor):
    public, decomposition = imported.public, imported.decomposition
    generator = torch.Generator().manual_seed(3)
    alive = {path: g[0] > 0 for path, g in public.importance(prompt).items()}
    selected = {path: a & (torch.rand(a.shape, generator=generator) < 0.5) for path, a in alive.items()}
    found = intervene(
        decomposition, prompt[0], imported.ours(selected), imported.ours(alive), regimes=("ci", "target_sans")
    )
    chosen = {path: mask[None].float() for path, mask in selected.items()}
    expected = public.masked_logits(chosen, tokens=prompt)[0]
    assert_close(found["ci"], expected, "the selection alone")
    rest = {path: (selected[path] | ~alive[path])[None].float() for path in alive}
    whole = {path: torch.ones(prompt.shape) for path in alive}
    expected = public.masked_logits(rest, whole, tokens=prompt)[0]
    assert_close(found["target_sans"], expected, "all but what is alive and not selected")

    path, place, component = public.paths[-1], 2, 1
    ablated = {p: torch.ones_like(mask) for p, mask in chosen.items()}
    ablated[path][0, place, component] = 0
    changes = [NodeChange(imported.addresses[path], place, component, 0.0)]
    expected = public.masked_logits(ablated, whole, tokens=prompt)[0]
    assert (expected - public.target_logits(prompt)[0]).abs().max() > 1e-3
    assert_close(change(decomposition, prompt[0], changes), expected, "one component ablated")
