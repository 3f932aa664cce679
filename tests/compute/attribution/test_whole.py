"""Decompositions of a part of a model's matrices, fused attention, and other departures from the families."""

from __future__ import annotations

import dataclasses

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.attribution.definition import (
    attributions,
)
from compute.attribution.prompt import CustomTarget, OutputTerm, PromptSettings, estimate, prompt_graph
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
cases = st.builds(
    dataclasses.replace,
    st.sampled_from(KINDS),
    n_blocks=st.integers(1, 2),
    whole=st.sampled_from([0.0, 0.2, 0.5, 0.8]),
    n_sequences=st.integers(1, 2),
    length=st.integers(1, 5),
    density=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    seed=st.integers(0, 10_000),
)
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@quick
@given(cases, st.sampled_from(["node", "off"]), st.booleans())
def test_the_engine_agrees_with_the_definition(case: Case, delta: str, weighted: bool):
    decomposition, tokens = case.build()
    complete = not decomposition.topology.whole
    metrics = ("attr", "attr_abs", "attr_frozen") if complete else ("attr", "attr_abs")
    sums = engine_sums(decomposition, tokens, delta=delta, ci_weighted=weighted, output_abs="all")
    assert any(name.startswith("frozen") for name in sums.arrays) == complete
    expected = attributions(decomposition, tokens, delta=delta, metrics=metrics, ci_weighted=weighted)  # type: ignore[arg-type]
    found = blocks_of(decomposition, sums)
    assert found.keys() == expected.keys()
    error, where = worst_error(found, expected)
    assert error <= 1e-9, where


@quick
@given(
    cases,
    st.sampled_from(["node", "off", "through"]),
    st.sampled_from(["auto", "auto", "fallback"]),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 10), st.sampled_from([-1.0, 0.5])), max_size=3),
)
def test_prompt_graphs_agree_with_the_definition(
    case: Case, delta: str, method: str, terms: list[tuple[int, int, float]]
):
    decomposition, tokens = dataclasses.replace(case, n_sequences=1).build()
    tokens = tokens[0]
    target = CustomTarget("sum", tuple(OutputTerm(p % len(tokens), i, w) for p, i, w in terms))
    options = PromptSettings(
        delta=delta,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        targets=(target,) if terms else (),
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


@quick
@given(cases, st.sampled_from(["node", "off"]))
def test_prompt_edges_add_up_to_the_dataset(case: Case, delta: str):
    decomposition, tokens = dataclasses.replace(case, n_sequences=1).build()
    sums = engine_sums(decomposition, tokens, delta=delta, output_abs="all")
    dataset = {e: b for e, b in blocks_of(decomposition, sums).items() if e.metric != "attr_frozen"}
    found = prompt_totals(decomposition, tokens[0], delta, dataset)
    error, where = worst_error(found, {e: b for e, b in dataset.items() if e in found})
    assert error <= 1e-9, where
    assert not any(b.any() for e, b in dataset.items() if e not in found)
