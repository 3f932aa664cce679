"""Decompositions of a part of a model's matrices, fused attention, and other departures from the families."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from compute.address import EMBED, OUTPUT, Address, NodeKey, parse_address
from compute.attribution.definition import (
    Edges,
    PromptTarget,
    attributions,
    prompt_attributions,
    time_definition,
)
from compute.attribution.engine import AttributionEngine
from compute.attribution.frozen import frozen_rows
from compute.attribution.identities import check_identities
from compute.attribution.prompt import CustomTarget, OutputTerm, PromptSettings, estimate, prompt_graph
from compute.decomposition.importance_config import ImportanceConfig
from compute.decomposition.model import Decomposition
from compute.intervention import check_edge, intervene
from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel
from tests.compute.attribution.models import Case, blocks_of, engine_sums, worst_error
from tests.compute.attribution.prompts import expected_blocks, found_blocks, prompt_totals

KINDS = (
    Case(family="llama", n_heads=4, n_kv_heads=2),
    Case(family="llama", n_heads=2, n_kv_heads=1, head_width=6, activation="gelu_tanh"),
    Case(family="llama", n_heads=4, n_kv_heads=2, gated=False, qkv_bias=True),
    Case(family="llama", n_heads=4, n_kv_heads=2, fused=True),
    Case(family="gpt2", n_heads=2, n_kv_heads=2, fused=True, activation="gelu_tanh"),
    Case(family="gpt2", n_heads=2, n_kv_heads=1, head_width=3),
    Case(family="llama", n_heads=2, n_kv_heads=1, qk_norm=True),
)
every_kind = pytest.mark.parametrize(
    "kind",
    KINDS,
    ids=lambda c: f"{c.family}{'-fused' * c.fused}{'-qk_norm' * c.qk_norm}-{c.head_width}-{c.gated}",
)
quick = settings(
    max_examples=7, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


class Draw(random.Random):
    """All choices from one number: drawn one by one they would often be the same few."""

    def case(self, kind: Case, n_sequences: int) -> Case:
        return dataclasses.replace(
            kind,
            n_blocks=self.choice([1, 2, 2]),
            whole=self.choice([0.0, 0.2, 0.5, 0.8]),
            n_sequences=n_sequences,
            length=self.choice([1, 2, 4, 5]),
            density=self.choice([0.0, 0.1, 0.3, 1.0]),
            seed=self.randrange(10_000),
        )


draws = st.integers(0, 2**32).map(Draw)


@every_kind
@quick
@given(draws)
def test_the_engine_agrees_with_the_definition(kind: Case, draw: Draw):
    decomposition, tokens = draw.case(kind, draw.choice([1, 2])).build()
    delta, weighted = draw.choice(["node", "off"]), draw.choice([True, False])
    complete = not decomposition.topology.whole
    metrics = ("attr", "attr_abs", "attr_frozen") if complete else ("attr", "attr_abs")
    sums = engine_sums(decomposition, tokens, delta=delta, ci_weighted=weighted, output_abs="all")
    assert any(name.startswith("frozen") for name in sums.arrays) == complete
    expected = attributions(decomposition, tokens, delta=delta, metrics=metrics, ci_weighted=weighted)  # type: ignore[arg-type]
    found = blocks_of(decomposition, sums)
    assert found.keys() == expected.keys()
    error, where = worst_error(found, expected)
    assert error <= 1e-9, where


@every_kind
@quick
@given(draws)
def test_prompt_graphs_agree_with_the_definition(kind: Case, draw: Draw):
    decomposition, tokens = draw.case(kind, 1).build()
    tokens = tokens[0]
    delta = draw.choice(["node", "off", "through"])
    method = draw.choice(["auto", "auto", "fallback"])
    terms = [
        OutputTerm(draw.randrange(len(tokens)), draw.randrange(11), draw.choice([-1.0, 0.5]))
        for _ in range(draw.randrange(4))
    ]
    options = PromptSettings(
        delta=delta,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        targets=(CustomTarget("sum", tuple(terms)),) if terms else (),
        output_probability=0.05,
        output_positions="all",
    )
    before = estimate(decomposition, tokens, options)
    graph = prompt_graph(decomposition, tokens, options)
    error, where = worst_error(found_blocks(graph), expected_blocks(decomposition, tokens, graph))
    assert error <= 1e-9, where
    assert before.nodes == len(graph.nodes)
    assert before.edges >= len(graph.edges)
    closed = delta != "through" and decomposition.topology.closed_form_obstacle is None
    assert graph.method == ("closed_form" if closed and method == "auto" else "fallback")


@every_kind
@quick
@given(draws)
def test_prompt_edges_add_up_to_the_dataset(kind: Case, draw: Draw):
    decomposition, tokens = draw.case(kind, 1).build()
    delta = draw.choice(["node", "off"])
    sums = engine_sums(decomposition, tokens, delta=delta, output_abs="all")
    dataset = {e: b for e, b in blocks_of(decomposition, sums).items() if e.metric != "attr_frozen"}
    found = prompt_totals(decomposition, tokens[0], delta, dataset)
    error, where = worst_error(found, {e: b for e, b in dataset.items() if e in found})
    assert error <= 1e-9, where
    assert not any(b.any() for e, b in dataset.items() if e not in found)


# -- by hand ----------------------------------------------------------------------------------------


def only_down() -> tuple[Decomposition, Tensor]:
    """One block of width 2 in which only ``down`` has a component, and importance is 1/2 throughout.

    The token's embedding is (0, 2), whose norm is (0, √2). The whole value and o matrices turn that
    into (2, 0), so that the residual stream is (2, 2) and its norm (1, 1). The whole up matrix takes
    three times the second entry.
    """
    config = TargetConfig(
        family="llama",
        n_blocks=1,
        d_model=2,
        d_ff=1,
        n_heads=1,
        n_kv_heads=1,
        vocab_size=2,
        context=4,
        activation="relu",
        gated_mlp=False,
        norm_eps=1e-30,
    )
    target = TargetModel(config)
    down = parse_address("0.mlp.down")
    decomposition = Decomposition(target, {down: 2}, ImportanceConfig(kind="mlp", hidden=(2,)))
    decomposition.double()
    with torch.no_grad():
        for name, parameter in decomposition.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        target.token_embedding.weight.copy_(torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
        attention = (parse_address("0.attn.v"), parse_address("0.attn.o"))
        target.linear(attention[0]).weight.copy_(torch.tensor([[0, 2**0.5], [0, 0]], dtype=torch.float64))
        target.linear(attention[1]).weight.copy_(torch.eye(2))
        target.linear(parse_address("0.mlp.up")).weight.copy_(torch.tensor([[0.0, 3.0]]))
        decomposition.V(down).copy_(torch.tensor([[2.0, -2.0]]))
        decomposition.importance_function(down).biases[-1].fill_(0.5)
    decomposition.requires_grad_(False)
    return decomposition, torch.tensor([[0, 0]])


def test_a_path_through_whole_matrices_by_hand():
    decomposition, tokens = only_down()
    down = parse_address("0.mlp.down")
    (point, _) = decomposition.topology.read_points
    assert point.readers == (down,)
    assert point.sources == ()
    assert point.through == tuple(
        map(parse_address, ("0.attn.q", "0.attn.k", "0.attn.v", "0.attn.o", "0.mlp.up"))
    )
    # With the embedding times s the stream is (2, 2s): what the values bring does not grow with s, the
    # norm before them takes it out. The second entry of its norm is f(s) = 2s/√(2 + 2s²), f(1) = 1,
    # f'(1) = 1 − ½. So the activations ±2 · 3 f have the slopes ±3, at both of two equal positions, and
    # embeddings are not weighted by importance. The sign of the second turns its attr_abs around.
    expected = {"attr": [6.0, -6.0], "attr_abs": [6.0, 6.0]}
    found = attributions(decomposition, tokens)
    fast = blocks_of(decomposition, engine_sums(decomposition, tokens))
    totals = prompt_totals(decomposition, tokens[0], "node", fast)
    for metric, values in expected.items():
        edges = Edges(metric, down, EMBED, "embed")  # type: ignore[arg-type]
        for blocks in (found, fast, totals):
            assert blocks[edges][:, 0].tolist() == pytest.approx(values)
            assert not blocks[edges][:, 1].any()  # the token that does not occur


def test_what_crosses_positions_by_hand():
    decomposition, tokens = only_down()
    # Position 1 looks at both positions alike, and each embedding brings half of what it did; what both
    # bring together still does not depend on their lengths. So the slope belongs to its own position.
    (rows,) = prompt_attributions(
        decomposition, tokens[0], [PromptTarget.node(parse_address("0.mlp.down"), 1, 0)]
    )
    assert rows[EMBED, "embed"].tolist() == pytest.approx([0, 3], abs=1e-12)
    # With eps = 2 the norm of s · (0, 2) before the values has the second entry 2s/√(2s² + 2): 1 at s = 1,
    # with the slope ½. Position 1 mixes √2 of it to equal halves, c = √2, dc/ds = √2/4. The norm of (c, 2)
    # has the second entry √8/√(c² + 4), so that y = 6 √8/√(c² + 4) has dy/dc = −4/√6, and dy/ds = −1/√3.
    decomposition.target.norm_of("0.attn.input").eps = 2.0
    graph = prompt_graph(decomposition, tokens[0], PromptSettings(outputs_at_most=0, alive_above=-1.0))
    source, target = map(graph.nodes.keys().index, ("embed:0:0", "0.mlp.down:1:0"))
    edge = (graph.edges.source == source) & (graph.edges.target == target)
    assert graph.edges.attr[edge].tolist() == pytest.approx([-(3**-0.5)])


# -- by plain autograd, on the model written out once more -------------------------------------------------


def rotated(x: Tensor, theta: float) -> Tensor:
    """Rotary positions as a product of complex numbers: x [T, d_head], dimensions i and i + d/2 a pair."""
    half = x.shape[1] // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    turn = torch.polar(torch.ones(()).double(), torch.outer(torch.arange(len(x)).double(), frequency))
    z = torch.complex(x[:, :half], x[:, half:]) * turn
    return torch.cat([z.real, z.imag], 1)


def written_out(target: TargetModel, embedded: Tensor, product) -> Tensor:
    """Logits [T, vocab] of a llama model from embeddings [T, d]; ``product(address, x)`` is a matrix's output."""
    c = target.config
    h = embedded

    def normed(norm, x: Tensor) -> Tensor:
        return norm.weight * x / (x.square().mean(1, keepdim=True) + c.norm_eps).sqrt()

    for b, block in enumerate(target.blocks):
        x = normed(block.attn_norm, h)
        if c.fused_qkv:
            qkv = product(Address(b, "attn_fused", "qkv"), x)
            width, kv = c.n_heads * c.d_head, c.n_kv_heads * c.d_head
            q, k, v = qkv[:, :width], qkv[:, width : width + kv], qkv[:, width + kv :]
        else:
            q, k, v = (product(Address(b, "attn", p), x) for p in "qkv")
        heads = []
        for n in range(c.n_heads):
            m = n * c.n_kv_heads // c.n_heads
            mine, shared = slice(n * c.d_head, (n + 1) * c.d_head), slice(m * c.d_head, (m + 1) * c.d_head)
            scores = rotated(q[:, mine], c.rope_theta) @ rotated(k[:, shared], c.rope_theta).T / c.d_head**0.5
            weights = torch.exp(scores).tril()
            heads.append(weights / weights.sum(1, keepdim=True) @ v[:, shared])
        h = h + product(Address(b, c.attention_kind, "o"), torch.cat(heads, 1))
        x = normed(block.mlp_norm, h)
        gate, up = product(Address(b, "glu", "gate"), x), product(Address(b, "glu", "up"), x)
        h = h + product(Address(b, "glu", "down"), gate / (1 + torch.exp(-gate)) * up)
    return normed(target.final_norm, h) @ target.unembedding.weight.T


@pytest.mark.parametrize(
    ("case", "decomposed"),
    [
        (Case(n_heads=4, n_kv_heads=2, n_blocks=3), ("0.attn.k", "1.glu.gate", "1.attn.v", "2.attn.o")),
        (Case(n_heads=2, n_kv_heads=1, head_width=6), ("0.glu.down", "1.glu.up")),
        (Case(n_heads=4, n_kv_heads=2, fused=True), ("0.attn_fused.qkv", "0.attn_fused.o", "1.glu.down")),
    ],
)
@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_plain_autograd_agrees(case: Case, decomposed: tuple[str, ...], delta: str):
    kind = dataclasses.replace(case, n_sequences=1)
    modules = [str(a) for a in kind.build()[0].topology.modules]
    kind = dataclasses.replace(kind, whole=tuple(name for name in modules if name not in decomposed))
    decomposition, tokens = kind.build()
    target = decomposition.target
    seen: dict[Address, Tensor] = {}
    leaves: dict[Address, Tensor] = {}

    def product(address: Address, x: Tensor) -> Tensor:
        if str(address) not in decomposed:
            return x @ target.linear(address).weight.T
        seen[address] = x @ decomposition.V(address)
        leaves[address] = seen[address].detach().requires_grad_()
        unexplained = x @ target.linear(address).weight.T - x @ decomposition.V(address) @ decomposition.U(
            address
        )
        kept = {"node": unexplained.detach(), "off": 0 * unexplained, "through": unexplained}[delta]
        return leaves[address] @ decomposition.U(address) + kept

    embedded = target.token_embedding.weight[tokens[0]].requires_grad_()
    seen[OUTPUT] = written_out(target, embedded, product)
    if delta != "off":
        torch.testing.assert_close(seen[OUTPUT], target(tokens)[0])
    importance = decomposition.causal_importance(decomposition.clean_pass(tokens)[1])
    found = attributions(decomposition, tokens, delta=delta, metrics=("attr", "attr_abs"))  # type: ignore[arg-type]
    n_checked = 0
    for reader, y in seen.items():
        for metric in ("attr", "attr_abs"):
            values = y - y.mean(1, keepdim=True) if reader == OUTPUT and metric == "attr_abs" else y
            values = values.abs() if metric == "attr_abs" else values
            for t in range(2):
                sources = [embedded, *leaves.values()]
                gradients = torch.autograd.grad(
                    values[:, t].sum(), sources, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                for source, leaf, gradient in zip((EMBED, *leaves), sources, gradients, strict=True):
                    kind_of = "embed" if source == EMBED else "component"
                    block = found.get(Edges(metric, reader, source, kind_of))  # type: ignore[arg-type]
                    if source == EMBED:
                        expected = torch.zeros(target.config.vocab_size).double()
                        expected.index_add_(0, tokens[0], (gradient * leaf).sum(1).detach())
                    else:
                        expected = (gradient * leaf * importance[source][0]).sum(0).detach()
                    if block is None:
                        assert not expected.any(), (reader, source)
                        continue
                    torch.testing.assert_close(block[t], expected, rtol=1e-8, atol=1e-9)
                    n_checked += bool(expected.any())
    assert n_checked >= 12


# -- what else knows sites -----------------------------------------------------------------------------


def test_no_frozen_sums_where_matrices_are_left_whole():
    decomposition, tokens = Case(whole=("0.attn.v",)).build()
    sums = engine_sums(decomposition, tokens)
    with pytest.raises(ValueError, match="left whole"):
        frozen_rows(decomposition, sums, sums.layouts[0])


def test_the_method_says_how_much_of_it_is_the_fallback():
    decomposition, tokens = Case(whole=("1.attn.v",)).build()
    engine = AttributionEngine(decomposition)
    assert engine.method == "fallback"
    assert engine.method_reason == (
        "1 of 14 matrices are left whole, and gradients pass through them: "
        "batched automatic differentiation into 1 of 9 read points, the rest in closed form"
    )
    graph = prompt_graph(decomposition, tokens[0], PromptSettings())
    assert graph.method == "fallback"
    assert "from 1 of 9 read points" in graph.method_reason
    for build in (
        lambda: AttributionEngine(decomposition, method="closed_form"),
        lambda: prompt_graph(decomposition, tokens[0], PromptSettings(method="closed_form")),
    ):
        with pytest.raises(ValueError, match="left whole"):
            build()
    fused, _ = Case(fused=True).build()
    assert AttributionEngine(fused).method == "closed_form"


def test_whole_biases_are_no_sources():
    decomposition, tokens = Case(family="gpt2", whole=("0.attn.o", "1.mlp.up")).build()
    found = attributions(decomposition, tokens)
    biased = {edges.source for edges in found if edges.kind == "bias"}
    assert biased == set(decomposition.addresses)


@pytest.mark.parametrize(
    ("case", "absent"),
    [
        (Case(whole=("0.attn.q", "1.glu.up")), {"frozen norm completeness"}),
        (Case(family="gpt2", whole=("0.attn.o",)), {"frozen norm completeness", "gated MLP"}),
        (Case(fused=True, n_heads=4, n_kv_heads=2), {"values", "queries and keys"}),
        (Case(whole=0.8, dtype=torch.float32, seed=3), {"frozen norm completeness"}),
    ],
)
def test_identities_are_checked_where_they_hold(case: Case, absent: set[str]):
    decomposition, tokens = case.build()
    checks = check_identities(decomposition, tokens)
    for check in checks:
        assert check.holds, check
    names = {check.name for check in checks}
    assert not names & absent
    assert {"exact forward", "batches add", "definition, attr", "definition, attr_abs"} <= names


def test_an_identity_notices_a_wrong_role(monkeypatch: pytest.MonkeyPatch):
    decomposition, tokens = Case(fused=True, n_heads=4, n_kv_heads=2).build()
    from compute.attribution import attention

    right = attention.attention_roles
    monkeypatch.setattr(
        attention, "attention_roles", lambda *a: {s: roles[::2] for s, roles in right(*a).items()}
    )
    broken = {check.name for check in check_identities(decomposition, tokens) if not check.holds}
    assert "definition, attr" in broken


def test_the_definition_is_timed():
    decomposition, tokens = Case(whole=0.5).build()
    timing = time_definition(decomposition, tokens, metric="attr", sample=1)
    assert timing.n_targets == decomposition.total_components + decomposition.target.config.d_model


@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_an_edge_through_whole_matrices_does_what_it_says(delta: str):
    decomposition, tokens = Case(
        n_sequences=1, whole=("0.attn.o", "1.attn.v", "1.attn.k"), density=1.0
    ).build()
    checked = check_edge(
        decomposition,
        tokens[0],
        NodeKey(parse_address("0.attn.v"), 1, 0),
        NodeKey(parse_address("1.attn.o"), 3, 1),
        delta=delta,  # type: ignore[arg-type]
        epsilon=1e-5,
    )
    assert checked.predicted
    assert checked.actual == pytest.approx(checked.predicted, rel=1e-3)


def test_interventions_leave_whole_matrices_alone():
    decomposition, tokens = Case(n_sequences=1, whole=0.5).build()
    everything = {
        a: torch.ones(len(tokens[0]), n, dtype=torch.bool) for a, n in decomposition.n_components.items()
    }
    logits = intervene(decomposition, tokens[0], everything, everything)
    torch.testing.assert_close(logits["target_sans"], decomposition.target(tokens)[0])
    assert (logits["ci"] - logits["target_sans"]).abs().max() > 1e-3
