"""The engine gives what the definition says, on random small models of every kind."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from compute.address import OUTPUT, Address, parse_address
from compute.attribution.definition import Edges, attributions
from compute.attribution.engine import AttributionEngine
from compute.decomposition.importance_config import ImportanceKind, SigmoidKind
from compute.decomposition.model import Decomposition
from tests.compute.attribution.models import Case, blocks_of, engine_sums, worst_error
from tests.support.tiny_run import tiny_decomposition

METRICS = ("attr", "attr_abs", "attr_frozen")

cases = st.builds(
    Case,
    family=st.sampled_from(["llama", "gpt2"]),
    n_blocks=st.integers(1, 2),
    n_heads=st.just(4),
    n_kv_heads=st.sampled_from([1, 2, 4]),
    activation=st.sampled_from(["silu", "gelu", "relu"]),
    qk_norm=st.sampled_from([False, False, False, True]),
    tied=st.booleans(),
    n_sequences=st.integers(1, 3),
    length=st.integers(1, 6),
    density=st.sampled_from([0.0, 0.03, 0.2, 0.6, 1.0]),
    seed=st.integers(0, 10_000),
)
deltas = st.sampled_from(["node", "off"])
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def by_sequence(importance: Mapping[Address, Tensor], tokens: Tensor) -> dict[Address, Tensor]:
    return {address: g.unflatten(0, tokens.shape) for address, g in importance.items()}


@quick
@given(cases, deltas, st.booleans(), st.sampled_from(["auto", "fallback"]), st.data())
def test_agrees_with_the_definition_in_float64(
    case: Case, delta: str, weighted: bool, method: str, data: st.DataObject
):
    decomposition, tokens = case.build()
    sites = list(decomposition.addresses)
    decomposition.silent_sites = frozenset(
        data.draw(st.lists(st.sampled_from(sites), max_size=3), label="silent")
    )
    sums = engine_sums(
        decomposition, tokens, delta=delta, ci_weighted=weighted, output_abs="all", method=method
    )
    expected = attributions(decomposition, tokens, delta=delta, metrics=METRICS, ci_weighted=weighted)
    found = blocks_of(decomposition, sums)
    assert found.keys() == expected.keys()
    error, where = worst_error(found, expected)
    assert error <= 1e-9, where


@quick
@given(cases, deltas)
def test_agrees_with_the_definition_in_float32(case: Case, delta: str):
    # With a single position queries and keys have no effect, and their attributions are rounding noise.
    assume(case.length > 1)
    decomposition, tokens = case.build()
    decomposition.float()
    engine = AttributionEngine(decomposition, delta, output_abs="all")
    captured = engine.capture(tokens)
    sums = engine.new_sums()
    engine.accumulate_capture(sums, captured)
    assert captured.importance is not None
    oracle = copy.deepcopy(decomposition).double()
    importance = {a: g.double() for a, g in by_sequence(captured.importance, tokens).items()}
    expected = attributions(oracle, tokens, delta=delta, metrics=METRICS, importance=importance)
    found = {edges: block.double() for edges, block in blocks_of(decomposition, sums).items()}
    certain = certain_signs(oracle, tokens, delta)
    for edges in expected:
        if edges.metric == "attr_abs":  # it jumps where a target changes sign, and rounding may do that
            found[edges] = found[edges] * certain[edges.target]
            expected[edges] = expected[edges] * certain[edges.target]
    error, where = worst_error(found, expected, floor=1e-2)
    assert error <= 1e-4, where


def certain_signs(decomposition: Decomposition, tokens: Tensor, delta: str) -> dict[Address, Tensor]:
    """1 for targets [n, 1] that are nowhere within 1e-5 of zero, relative to the largest, else 0."""
    captured = AttributionEngine(decomposition, delta, ("attr",)).capture(tokens)  # type: ignore[arg-type]
    centred = captured.logits - captured.logits.mean(-1, keepdim=True)
    return {
        address: (y.abs().amin(0) > 1e-5 * y.abs().max()).to(y)[:, None]
        for address, y in {**captured.activations, OUTPUT: centred}.items()
    }


@quick
@given(cases, st.integers(2, 3))
def test_a_batch_is_the_sum_of_its_sequences(case: Case, n_sequences: int):
    decomposition, tokens = Case(**{**vars(case), "n_sequences": n_sequences}).build()
    engine = AttributionEngine(decomposition, output_abs="all")
    whole, parts = engine.new_sums(), engine.new_sums()
    engine.accumulate(whole, tokens)
    for sequence in tokens:
        one = engine.new_sums()
        engine.accumulate(one, sequence[None])
        parts.add(one)
    for name, array in whole.arrays.items():
        torch.testing.assert_close(parts.arrays[name], array, rtol=1e-9, atol=1e-9, msg=name)


def test_sequences_without_any_alive_component():
    decomposition, tokens = Case(n_sequences=3, n_kv_heads=2).build()
    engine = AttributionEngine(decomposition, output_abs="all")
    captured = engine.capture(tokens)
    assert captured.importance is not None
    for g in captured.importance.values():
        g.view(*tokens.shape, -1)[1] = 0
    sums = engine.new_sums()
    engine.accumulate_capture(sums, captured)
    expected = attributions(decomposition, tokens, importance=by_sequence(captured.importance, tokens))
    error, where = worst_error(blocks_of(decomposition, sums), expected)
    assert error <= 1e-9, where


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_sign_of_zero_is_zero(family: str):
    decomposition, tokens = Case(family=family, n_kv_heads=2).build()
    with torch.no_grad():
        for address in decomposition.addresses:
            decomposition.V(address)[:, 0] = 0  # the first component of every site is 0 everywhere
    found = blocks_of(decomposition, engine_sums(decomposition, tokens, output_abs="all"))
    expected = attributions(decomposition, tokens)
    assert worst_error(found, expected)[0] <= 1e-9
    for edges, block in found.items():
        if edges.metric == "attr_abs" and edges.target.is_site:
            assert not block[0].any(), edges


def test_abs_targets_and_output_tokens_can_be_chosen():
    decomposition, tokens = Case().build()
    q = parse_address("1.attn.q")
    everything = blocks_of(decomposition, engine_sums(decomposition, tokens, output_abs="all"))
    sums = engine_sums(decomposition, tokens, abs_targets={q: [1, 0]}, output_abs=[7, 3])
    assert sums.abs_targets == {q: (1, 0), OUTPUT: (7, 3)}
    for edges, block in blocks_of(decomposition, sums).items():
        rows = {q: [1, 0], OUTPUT: [7, 3]}.get(edges.target) if edges.metric == "attr_abs" else None
        expected = everything[edges] if rows is None else everything[edges][rows]
        torch.testing.assert_close(block, expected)


def test_abs_on_a_part_of_the_batches_has_its_own_statistics():
    decomposition, tokens = Case(n_sequences=4).build()
    engine = AttributionEngine(decomposition)
    sums = engine.new_sums(abs_on_part=True)
    engine.accumulate(sums, tokens[:2], with_abs=False)
    engine.accumulate(sums, tokens[2:])
    part, whole = engine_sums(decomposition, tokens[2:]), engine_sums(decomposition, tokens)
    for name, array in sums.arrays.items():
        plain = name.removeprefix("abs_part/")
        reference = part if plain != name or name.startswith("abs/") else whole
        torch.testing.assert_close(array, reference.arrays[plain], rtol=1e-9, atol=1e-9)
    assert "abs_part/ci_sum/0.attn.q" in sums.arrays
    with pytest.raises(ValueError, match="abs_on_part"):
        engine.accumulate(engine.new_sums(), tokens, with_abs=False)


def test_attr_alone_is_the_same_as_attr_beside_attr_abs():
    decomposition, tokens = Case(family="gpt2").build()
    both = engine_sums(decomposition, tokens)
    alone = engine_sums(decomposition, tokens, metrics={"attr"})
    assert not any(name.startswith("abs/") for name in alone.arrays)
    for name, array in alone.arrays.items():
        torch.testing.assert_close(array, both.arrays[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "sigmoid"),
    [
        ("global_shared_transformer", "leaky_hard"),
        ("global_reverse_residual", "normal"),
        ("shared_mlp", "half_sin"),
        ("global_shared_mlp", "swish_hard"),
        ("mlp", "upper_leaky_hard"),
    ],
)
@pytest.mark.parametrize("method", ["auto", "fallback"])
def test_every_importance_function_weights_as_the_definition_says(
    kind: ImportanceKind, sigmoid: SigmoidKind, method: str
):
    decomposition = tiny_decomposition(n_blocks=1, n_components=3, importance=kind, sigmoid=sigmoid).double()
    tokens = torch.randint(270, (2, 5), generator=torch.Generator().manual_seed(1))
    sums = engine_sums(decomposition, tokens, method=method, output_abs="all")
    expected = attributions(decomposition, tokens)
    found = blocks_of(decomposition, sums)
    assert found.keys() >= expected.keys()
    for edges, block in expected.items():
        torch.testing.assert_close(found[edges], block, rtol=1e-8, atol=1e-8)
    importance = decomposition.causal_importance(decomposition.clean_pass(tokens)[1])
    for address, g in importance.items():
        torch.testing.assert_close(sums.arrays[f"ci_sum/{address}"], g.sum((0, 1)))


def test_statistics():
    decomposition, tokens = Case(family="gpt2", n_sequences=3).build()
    sums = engine_sums(decomposition, tokens, output_abs="all")
    logits, inputs = decomposition.clean_pass(tokens)
    importance = decomposition.causal_importance(inputs)
    for address, x in inputs.items():
        y = x @ decomposition.V(address)
        for name, value in {
            "ci_sum": importance[address],
            "activation_sum": y,
            "activation_abs_sum": y.abs(),
            "activation_square_sum": y.square(),
        }.items():
            torch.testing.assert_close(sums.arrays[f"{name}/{address}"], value.sum((0, 1)))
    centred = logits - logits.mean(-1, keepdim=True)
    torch.testing.assert_close(sums.arrays["logit_sum"], logits.sum((0, 1)))
    torch.testing.assert_close(sums.arrays["logit_square_sum"], logits.square().sum((0, 1)))
    torch.testing.assert_close(sums.arrays["centred_logit_square_sum"], centred.square().sum((0, 1)))
    assert sums.arrays["token_count"].tolist() == torch.bincount(tokens.flatten(), minlength=11).tolist()
    assert sums.arrays["position_count"].tolist() == [3] * 5 + [0] * 3
    assert sums.tokens == tokens.numel()


def test_the_method_is_chosen_and_reported():
    plain, _ = Case().build()
    assert AttributionEngine(plain).method == "closed_form"
    normalised, _ = Case(qk_norm=True).build()
    engine = AttributionEngine(normalised)
    assert engine.method == "fallback"
    assert "normalised" in engine.method_reason
    with pytest.raises(ValueError, match="no closed form"):
        AttributionEngine(normalised, method="closed_form")


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": {"attr_abs"}},
        {"abs_targets": {parse_address("9.attn.q"): [0]}},
        {"abs_targets": {parse_address("0.attn.q"): [99]}},
        {"output_abs": [0, 0]},
    ],
)
def test_impossible_requests_are_refused(options: dict[str, object]):
    decomposition, _ = Case().build()
    with pytest.raises(ValueError):  # noqa: PT011
        AttributionEngine(decomposition, **options)  # type: ignore[arg-type]


def test_the_memory_estimate_covers_the_sums():
    decomposition, tokens = Case().build()
    engine = AttributionEngine(decomposition, output_abs="all")
    arrays = engine.new_sums().arrays.values()
    assert engine.memory_estimate(tokens.numel()) > sum(a.numel() * a.element_size() for a in arrays)


def test_sums_of_other_settings_are_not_added():
    decomposition, tokens = Case().build()
    with pytest.raises(ValueError, match="cannot be added"):
        engine_sums(decomposition, tokens).add(engine_sums(decomposition, tokens, delta="off"))


def test_edges_follow_the_topology():
    decomposition, tokens = Case().build()
    found = blocks_of(decomposition, engine_sums(decomposition, tokens))
    for target in (*decomposition.addresses, OUTPUT):
        sources = {edges.source for edges in found if edges.target == target}
        assert sources == set(decomposition.topology.sources_of(target))
    assert Edges("attr", OUTPUT, parse_address("0.attn.o"), "delta") in found
