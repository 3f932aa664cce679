"""Prompt graphs give what the definition says, and account for every edge."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from compute.address import OUTPUT, Address, parse_address, parse_node_key
from compute.attribution import prompt_adjoint, prompt_blocks
from compute.attribution.definition import Edges, cut_pass
from compute.attribution.prompt import (
    CustomTarget,
    OutputTerm,
    PromptGraph,
    PromptSettings,
    TooLargeError,
    estimate,
    prompt_graph,
)
from compute.decomposition.model import Decomposition
from compute.progress import Cancelled
from tests.compute.attribution.models import Case, blocks_of, engine_sums, worst_error
from tests.compute.attribution.prompts import (
    expected_blocks,
    found_blocks,
    given_importance,
    numbers_by_block,
    prompt_totals,
)

cases = st.builds(
    Case,
    family=st.sampled_from(["llama", "gpt2"]),
    n_blocks=st.integers(1, 2),
    n_heads=st.just(4),
    n_kv_heads=st.sampled_from([1, 2, 4]),
    activation=st.sampled_from(["silu", "gelu", "relu"]),
    qk_norm=st.sampled_from([False, False, False, True]),
    tied=st.booleans(),
    n_sequences=st.just(1),
    length=st.integers(1, 6),
    density=st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]),
    seed=st.integers(0, 10_000),
)
deltas = st.sampled_from(["node", "off", "through"])
terms = st.lists(
    st.builds(
        OutputTerm,
        st.integers(0, 6),
        st.integers(0, 10),
        st.floats(-2, 2, allow_subnormal=False),
    ),
    min_size=1,
    max_size=4,
)
quick = settings(
    max_examples=28, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
EVERY_OUTPUT = {"output_probability": 0.0, "outputs_at_most": 11, "output_positions": "all"}


def settings_of(**options: Any) -> PromptSettings:
    return PromptSettings(**options)


def built(case: Case) -> tuple[Decomposition, Tensor]:
    decomposition, tokens = case.build()
    return decomposition, tokens[0]


def within(targets: list[list[OutputTerm]], length: int) -> tuple[CustomTarget, ...]:
    return tuple(
        CustomTarget(f"t{i}", tuple(OutputTerm(t.position % length, t.token, t.weight) for t in some))
        for i, some in enumerate(targets)
    )


@quick
@given(cases, deltas, st.sampled_from(["auto", "fallback"]), st.lists(terms, max_size=2))
def test_agrees_with_the_definition_in_float64(
    case: Case, delta: str, method: str, targets: list[list[OutputTerm]]
):
    decomposition, tokens = built(case)
    options = settings_of(
        delta=delta,
        method=method,
        targets=within(targets, len(tokens)),
        output_probability=0.05,
        output_positions="all",
    )
    graph = prompt_graph(decomposition, tokens, options)
    assert graph.edges.attr.dtype == np.float64
    error, where = worst_error(found_blocks(graph), expected_blocks(decomposition, tokens, graph))
    assert error <= 1e-9, where


@quick
@given(cases, deltas)
def test_agrees_with_the_definition_in_float32(case: Case, delta: str):
    # With a single position queries and keys have no effect, and their attributions are rounding noise.
    assume(case.length > 1)
    decomposition, tokens = built(case)
    oracle = copy.deepcopy(decomposition)
    graph = prompt_graph(
        decomposition.float(),
        tokens,
        settings_of(delta=delta, **EVERY_OUTPUT),
        importance=given_importance(oracle, tokens),
    )
    assert graph.edges.attr.dtype == np.float32
    found = {edges: block.double() for edges, block in found_blocks(graph).items()}
    expected = expected_blocks(oracle, tokens, graph)
    for edges in expected:
        if edges.metric == "attr_abs":  # it jumps where a target changes sign, and rounding may do that
            certain = certain_signs(oracle, tokens, graph, edges.target)
            found[edges], expected[edges] = found[edges] * certain, expected[edges] * certain
    error, where = worst_error(found, expected, floor=1e-2)
    assert error <= 1e-4, where


def certain_signs(oracle: Decomposition, tokens: Tensor, graph: PromptGraph, target: Address) -> Tensor:
    """1 for target nodes [n, 1] not within 1e-5 of zero, relative to the largest, else 0."""
    y = cut_pass(oracle, tokens[None], graph.settings.delta).targets[target][0].detach()
    if target == OUTPUT:
        y = y - y.mean(-1, keepdim=True)
    here = numbers_by_block(graph)[target, "component"]
    chosen = y[torch.from_numpy(graph.nodes.position[here].astype(int)), graph.nodes.index[here].astype(int)]
    return (chosen.abs() > 1e-5 * y.abs().max()).to(y)[:, None]


@quick
@given(cases, st.sampled_from(["node", "off"]))
def test_edges_add_up_to_the_dataset_attributions_of_the_prompt(case: Case, delta: str):
    decomposition, tokens = built(case)
    sums = engine_sums(decomposition, tokens[None], delta=delta, output_abs="all")
    dataset = {e: b for e, b in blocks_of(decomposition, sums).items() if e.metric != "attr_frozen"}
    found = prompt_totals(decomposition, tokens, delta, dataset)
    error, where = worst_error(found, {e: b for e, b in dataset.items() if e in found})
    assert error <= 1e-9, where
    assert not any(b.any() for e, b in dataset.items() if e not in found)


@quick
@given(cases, deltas, terms)
def test_a_custom_target_is_the_sum_of_its_tokens(case: Case, delta: str, some: list[OutputTerm]):
    decomposition, tokens = built(case)
    (target,) = within([some], len(tokens))
    graph = prompt_graph(decomposition, tokens, settings_of(delta=delta, targets=(target,), **EVERY_OUTPUT))
    dense = {name: np.zeros((len(graph.nodes),) * 2) for name in ("attr", "attr_abs")}
    for name, matrix in dense.items():
        matrix[graph.edges.target, graph.edges.source] = getattr(graph.edges, name)
    keys = graph.nodes.keys()
    row = keys.index(f"target:{target.position}:0")
    expected = sum(
        t.weight * dense["attr"][keys.index(f"output:{t.position}:{t.token}")] for t in target.terms
    )
    scale = max(
        np.abs(dense["attr"][[keys.index(f"output:{t.position}:{t.token}") for t in target.terms]]).max(), 1
    )
    assert np.abs(dense["attr"][row] - expected).max() <= 1e-12 * scale
    value = sum(
        t.weight * graph.nodes.logit[keys.index(f"output:{t.position}:{t.token}")] for t in target.terms
    )
    if delta != "off":
        assert graph.nodes.activation[row] == pytest.approx(value, abs=1e-4)


def test_a_logit_difference_has_one_sign_for_both_metrics():
    decomposition, tokens = built(Case(n_sequences=1))
    target = CustomTarget("difference", (OutputTerm(4, 3, 1.0), OutputTerm(4, 7, -1.0)))
    graph = prompt_graph(decomposition, tokens, settings_of(targets=(target,)))
    row = graph.nodes.keys().index("target:4:0")
    here = graph.edges.target == row
    sign = np.sign(graph.nodes.activation[row])
    np.testing.assert_allclose(graph.edges.attr_abs[here], sign * graph.edges.attr[here], atol=1e-12)
    assert here.sum() > 3


@pytest.mark.parametrize("delta", ["node", "through"])
def test_batches_of_any_size_give_the_same(delta: str, monkeypatch: pytest.MonkeyPatch):
    decomposition, tokens = built(Case(n_sequences=1, length=6, density=0.6))
    options = settings_of(delta=delta, output_positions="all", targets=within([[OutputTerm(3, 1, 1.0)]], 6))
    seen: dict[str, list[int]] = {"whole": [], "parts": []}

    def graph(name: str) -> PromptGraph:
        return prompt_graph(
            decomposition, tokens, options, report=lambda _, done, total: seen[name].append(done)
        )

    whole = graph("whole")
    for module in (prompt_blocks, prompt_adjoint):
        monkeypatch.setattr(module, "BLOCK_ELEMENTS", 40)
    parts = graph("parts")
    assert len(seen["parts"]) > 2 * len(seen["whole"])
    assert seen["parts"][2:] == sorted(seen["parts"][2:])
    np.testing.assert_array_equal(parts.edges.source, whole.edges.source)
    np.testing.assert_array_equal(parts.edges.target, whole.edges.target)
    np.testing.assert_allclose(parts.edges.attr, whole.edges.attr, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(parts.edges.attr_abs, whole.edges.attr_abs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"method": "fallback"}, {"delta": "through"}])
def test_alive_components_may_be_spread_unevenly(options: dict[str, Any]):
    """All of them at one position, none at the next, one at a third."""
    decomposition, tokens = built(Case(n_sequences=1, length=6))
    importance = {a: torch.zeros(6, n) for a, n in decomposition.n_components.items()}
    for i, g in enumerate(importance.values()):
        g[i % 6] = 1
        g[(i + 2) % 6, 0] = 0.5
        g[(i + 3) % 6, :3] = 0.5
    graph = prompt_graph(decomposition, tokens, settings_of(**options), importance=importance)
    error, where = worst_error(found_blocks(graph), expected_blocks(decomposition, tokens, graph))
    assert error <= 1e-9, where


# -- identities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_sums_over_all_sources(family: str):
    """Values and gated ups carry the whole activation; a norm's sources cancel but for eps."""
    decomposition, tokens = built(Case(family=family, n_sequences=1, n_kv_heads=2, length=6))
    graph = prompt_graph(decomposition, tokens, settings_of(alive_above=-1.0, **EVERY_OUTPUT))
    blocks, numbers = found_blocks(graph), numbers_by_block(graph)
    nodes = graph.nodes

    def total(metric: str, target: str, *projections: str) -> Tensor:
        address = parse_address(target)
        return sum(
            block.sum(1)
            for edges, block in blocks.items()
            if edges.metric == metric and edges.target == address and edges.source.projection in projections
        )  # type: ignore[return-value]

    for target, projection in [("1.attn.o", "v"), *([("1.glu.down", "up")] if family == "llama" else [])]:
        here = numbers[parse_address(target), "component"]
        y = torch.from_numpy((nodes.activation / nodes.scale)[here]).double()
        torch.testing.assert_close(total("attr", target, projection), y, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(total("attr_abs", target, projection), y.abs(), rtol=1e-5, atol=1e-6)
    queries, keys = total("attr", "1.attn.o", "q"), total("attr", "1.attn.o", "k")
    torch.testing.assert_close(queries, keys, rtol=1e-9, atol=1e-12)
    cancelled = total("attr", "1.attn.q", "o", "down", "")
    largest = max(b.abs().max() for e, b in blocks.items() if e.target == parse_address("1.attn.q"))
    assert cancelled.abs().max() < 1e-3 * largest


def test_the_lone_embedding_is_exact_in_float32():
    """As a difference of two equal terms it would be rounding noise."""
    decomposition, tokens = built(Case(n_sequences=1))
    wide = prompt_graph(decomposition, tokens, settings_of())
    for options in (settings_of(), settings_of(method="fallback"), settings_of(delta="through")):
        importance = given_importance(decomposition.double(), tokens)
        narrow = prompt_graph(decomposition.float(), tokens, options, importance=importance)
        edges = Edges("attr", parse_address("0.attn.q"), parse_address("embed"), "embed")
        expected = found_blocks(wide)[edges]
        found = found_blocks(narrow)[edges].double()
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


# -- nodes ------------------------------------------------------------------------------------------


def test_nodes():
    decomposition, tokens = built(Case(family="gpt2", n_sequences=1))
    graph = prompt_graph(decomposition, tokens, settings_of(alive_above=0.05, output_positions=(1, 4)))
    nodes, keys = graph.nodes, graph.nodes.keys()
    parsed = [parse_node_key(key) for key in keys]
    assert [str(key) for key in parsed] == keys
    assert parsed == sorted(parsed)
    logits, inputs = decomposition.clean_pass(tokens[None])
    importance = decomposition.causal_importance(inputs)
    expected = {
        f"{address}:{p}:{c}" for address, g in importance.items() for p, c in (g[0] > 0.05).nonzero().tolist()
    }
    assert {k for k, n in zip(keys, parsed, strict=True) if n.address.is_site and n.key.index not in ("delta", "bias")} == expected  # fmt: skip
    masked = decomposition.target(tokens[None], site=decomposition.site_function(importance))
    target = decomposition.target
    for n, key in enumerate(parsed):
        p, index = key.position, key.index
        if key.address.is_site and isinstance(index, int):
            y = inputs[key.address][0, p] @ decomposition.V(key.address)[:, index]
            scale = decomposition.U(key.address)[index].norm()
            assert nodes.ci[n] == pytest.approx(float(importance[key.address][0, p, index]), rel=1e-5)
            assert nodes.scale[n] == pytest.approx(float(scale), rel=1e-5)
            assert nodes.activation[n] == pytest.approx(float(y * scale), rel=1e-4)
            continue
        assert np.isnan(nodes.ci[n])
        assert nodes.scale[n] == 1
        if key.address == OUTPUT:
            assert p in (1, 4)
            for shown, probability, logit in (
                (logits, nodes.probability, nodes.logit),
                (masked, nodes.ci_probability, nodes.ci_logit),
            ):
                assert logit[n] == pytest.approx(float(shown[0, p, index]), rel=1e-5)
                assert probability[n] == pytest.approx(float(shown[0, p].softmax(-1)[index]), rel=1e-5)
            assert nodes.probability[n] >= 0.01
            assert nodes.activation[n] == nodes.logit[n]
        elif index == "delta":
            vector = inputs[key.address][0, p] @ decomposition.delta(key.address).T
            assert nodes.activation[n] == pytest.approx(float(vector.norm()), rel=1e-4)
        elif index == "bias":
            bias = decomposition.bias(key.address)
            assert bias is not None
            assert nodes.activation[n] == pytest.approx(float(bias.norm()), rel=1e-5)
        elif key.address.kind == "embed":
            assert index == tokens[p]
            assert nodes.activation[n] == pytest.approx(float(target.token_embedding.weight[index].norm()))
        else:
            assert index == p
    assert {(n.address, n.position) for n in parsed if n.key.index == "delta"} == {
        (a, p) for a in decomposition.addresses for p in range(5)
    }


def test_outputs_by_probability_and_cap():
    decomposition, tokens = built(Case(n_sequences=1))
    probability = decomposition.clean_pass(tokens[None])[0][0].softmax(-1)

    def outputs(**options: Any) -> set[str]:
        graph = prompt_graph(decomposition, tokens, settings_of(**options))
        return {key for key in graph.nodes.keys() if key.startswith("output")}  # noqa: SIM118 (not a dict)

    assert outputs(outputs_at_most=0) == set()
    top = probability[-1].topk(2).indices.tolist()
    assert outputs(output_probability=0.0, outputs_at_most=2) == {f"output:4:{t}" for t in top}
    likely = {f"output:{p}:{t}" for p, t in (probability >= 0.2).nonzero().tolist()}
    assert outputs(output_probability=0.2, output_positions="all", outputs_at_most=99) == likely


def test_importance_can_be_given():
    decomposition, tokens = built(Case(n_sequences=1))
    importance = {a: torch.zeros(5, n) for a, n in decomposition.n_components.items()}
    importance[parse_address("1.attn.o")][2, 1] = 0.25
    graph = prompt_graph(decomposition, tokens, settings_of(), importance=importance)
    alive = [key for key, ci in zip(graph.nodes.keys(), graph.nodes.ci, strict=True) if ci > 0]
    assert alive == ["1.attn.o:2:1"]
    with pytest.raises(ValueError, match=r"importance of 0\.attn\.q"):
        prompt_graph(decomposition, tokens, settings_of(), importance={})


# -- what is left out, and what is refused --------------------------------------------------------------


@quick
@given(
    cases,
    deltas,
    st.sampled_from([0.0, 1e-3, 0.05, 10.0]),
    st.none() | st.integers(1, 400),
    st.sampled_from([1.0, 1e-30]),
)
def test_kept_and_omitted_make_the_whole(
    case: Case, delta: str, threshold: float, max_edges: int | None, unit: float
):
    decomposition, tokens = built(case)
    decomposition.float()
    whole = prompt_graph(decomposition, tokens, settings_of(delta=delta))
    part = prompt_graph(
        decomposition, tokens, settings_of(delta=delta, threshold=threshold * unit, max_edges=max_edges)
    )
    strength = np.abs(whole.edges.attr) * whole.nodes.scale[whole.edges.target]
    strength_abs = np.abs(whole.edges.attr_abs) * whole.nodes.scale[whole.edges.target]
    kept = strength >= threshold * unit
    if max_edges is not None and kept.sum() > max_edges:
        kept &= strength >= np.sort(strength[kept])[-max_edges]
        assert len(part.edges) == max_edges
    else:
        assert len(part.edges) == kept.sum()
    assert len(part.edges) + part.omitted.edges == len(whole.edges)
    number = {pair: i for i, pair in enumerate(zip(whole.edges.target, whole.edges.source, strict=True))}
    found = np.array([number[pair] for pair in zip(part.edges.target, part.edges.source, strict=True)], int)
    assert kept[found].all()
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(part.edges.attr, whole.edges.attr[found])
    left = np.ones(len(strength), bool)
    left[found] = False
    for share, values in ((part.omitted.share, strength), (part.omitted.share_abs, strength_abs)):
        total = values.sum(dtype=np.float64)
        assert share == pytest.approx(values[left].sum(dtype=np.float64) / total if total else 0, abs=1e-9)


def test_edges_are_sorted_and_distinct_and_not_zero():
    decomposition, tokens = built(Case(n_sequences=1, activation="relu"))
    targets = (CustomTarget("two", (OutputTerm(4, 0, 1.0), OutputTerm(1, 0, -1.0))),)
    edges = prompt_graph(decomposition, tokens, settings_of(targets=targets, delta="through")).edges
    order = edges.target.astype(np.int64) << 32 | edges.source
    assert (np.diff(order) > 0).all()
    assert ((edges.attr != 0) | (edges.attr_abs != 0)).all()


@quick
@given(cases, deltas, st.none() | st.integers(1, 50))
def test_the_estimate_is_an_upper_bound(case: Case, delta: str, max_edges: int | None):
    decomposition, tokens = built(case)
    settings = settings_of(delta=delta, max_edges=max_edges)
    before = estimate(decomposition, tokens, settings)
    graph = prompt_graph(decomposition, tokens, settings)
    assert before.nodes == len(graph.nodes)
    assert before.edges >= len(graph.edges) + graph.omitted.edges
    columns = (graph.edges.source, graph.edges.target, graph.edges.attr, graph.edges.attr_abs)
    assert before.bytes >= sum(column.nbytes for column in columns)


def test_too_large_a_graph_is_refused_with_what_would_fit():
    decomposition, tokens = built(Case(n_sequences=1, length=8, density=0.6))
    limit = estimate(decomposition, tokens, settings_of(delta="through")).bytes - 1
    with pytest.raises(TooLargeError, match=r"nodes and [\d,]+ edges and need .* are allowed") as refused:
        prompt_graph(decomposition, tokens, settings_of(delta="through"), memory_limit=limit)
    message = str(refused.value)
    assert "the first 7 of the 8 tokens" in message
    alive_above = float(message.rpartition("alive_above ")[2])
    prompt_graph(
        decomposition, tokens, settings_of(delta="through", alive_above=alive_above), memory_limit=limit
    )
    prompt_graph(decomposition, tokens[:7], settings_of(delta="through"), memory_limit=limit)
    with pytest.raises(TooLargeError):
        prompt_graph(decomposition, tokens, settings_of(), memory_limit=1)


def test_cancelling_stops_it():
    decomposition, tokens = built(Case(n_sequences=1))
    seen: list[tuple[str, int, int]] = []

    def report(phase: str, done: int, total: int) -> None:
        seen.append((phase, done, total))
        if len(seen) == 7:
            raise Cancelled

    with pytest.raises(Cancelled):
        prompt_graph(decomposition, tokens, settings_of(), report=report)
    assert len(seen) == 7
    assert [phase for phase, _, _ in seen][:3] == ["forward pass", "forward pass", "edges"]
    done = [done for phase, done, total in seen if phase == "edges" and done <= total]
    assert done == sorted(done)


def test_the_method_is_chosen_and_reported():
    plain, tokens = built(Case(n_sequences=1))
    normalised, _ = built(Case(n_sequences=1, qk_norm=True))
    assert prompt_graph(plain, tokens, settings_of()).method == "closed_form"
    through = prompt_graph(plain, tokens, settings_of(delta="through"))
    assert through.method == "fallback"
    assert "deltas" in through.method_reason
    other = prompt_graph(normalised, tokens, settings_of())
    assert other.method == "fallback"
    assert "normalised" in other.method_reason
    for decomposition, options in ((plain, {"delta": "through"}), (normalised, {})):
        with pytest.raises(ValueError, match="no closed form"):
            prompt_graph(decomposition, tokens, settings_of(method="closed_form", **options))


@pytest.mark.parametrize(
    "options",
    [
        {"alive_above": float("nan")},
        {"threshold": -1.0},
        {"max_edges": 0},
        {"outputs_at_most": -1},
        {"output_positions": (5,)},
        {"targets": (CustomTarget("empty", ()),)},
        {"targets": (CustomTarget("far", (OutputTerm(5, 0, 1.0),)),)},
        {"targets": (CustomTarget("unknown", (OutputTerm(0, 11, 1.0),)),)},
        {"targets": (CustomTarget("endless", (OutputTerm(0, 1, float("inf")),)),)},
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any]):
    decomposition, tokens = built(Case(n_sequences=1))
    with pytest.raises(ValueError):  # noqa: PT011
        prompt_graph(decomposition, tokens, settings_of(**options))


@pytest.mark.parametrize("tokens", [torch.zeros(0, dtype=torch.long), torch.tensor([11]), torch.zeros(1, 2)])
def test_impossible_prompts_are_refused(tokens: Tensor):
    decomposition, _ = built(Case(n_sequences=1))
    with pytest.raises(ValueError, match="token"):
        prompt_graph(decomposition, tokens, settings_of())


def test_a_prompt_longer_than_the_learned_positions_is_refused():
    decomposition, _ = built(Case(family="gpt2", n_sequences=1))
    with pytest.raises(ValueError, match="9 tokens exceed the model's 8"):
        prompt_graph(decomposition, torch.zeros(9, dtype=torch.long), settings_of())
