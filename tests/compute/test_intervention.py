"""Interventions: what the four regimes are at their ends, single nodes, and edges that hold what they say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from compute.address import EMBED, OUTPUT, POSITION, TARGET, Address, NodeKey, parse_address, parse_node_key
from compute.attribution.definition import DefinitionDelta, importance_on_target
from compute.attribution.prompt import CustomTarget, OutputTerm, PromptSettings, prompt_graph
from compute.decomposition.model import Decomposition
from compute.intervention import (
    REGIMES,
    Adversary,
    NodeChange,
    change,
    check_edge,
    intervene,
    kl_by_position,
)
from compute.progress import Cancelled
from tests.compute.attribution.models import Case

CASES = {
    "llama": Case(n_heads=4, n_kv_heads=2),
    "gpt2": Case(family="gpt2", n_kv_heads=2, activation="gelu"),
}
Masks = dict[Address, Tensor]


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[Decomposition, Tensor]:
    decomposition, tokens = CASES[request.param].build()
    return decomposition, tokens[0]


def alive_in(decomposition: Decomposition, tokens: Tensor) -> Masks:
    return {a: ci[0] > 0 for a, ci in importance_on_target(decomposition, tokens[None]).items()}


def every(decomposition: Decomposition, tokens: Tensor) -> Masks:
    shape = len(tokens)
    return {a: torch.ones(shape, c, dtype=torch.bool) for a, c in decomposition.n_components.items()}


def half_of(alive: Masks, seed: int = 0) -> Masks:
    generator = torch.Generator().manual_seed(seed)
    return {a: mask & (torch.rand(mask.shape, generator=generator) < 0.5) for a, mask in alive.items()}


def target_logits(decomposition: Decomposition, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return decomposition.target(tokens[None])[0]


# ---- sets of components -------------------------------------------------------------------------


def test_everything_selected_is_the_components_only_model(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    everything = every(decomposition, tokens)
    result = intervene(decomposition, tokens, everything, alive_in(decomposition, tokens), regimes=["ci"])
    with torch.no_grad():
        expected = decomposition.target(tokens[None], site=decomposition.site_function())[0]
    torch.testing.assert_close(result["ci"], expected, rtol=0, atol=1e-12)


def test_target_sans_with_everything_alive_selected_is_the_target(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    alive = alive_in(decomposition, tokens)
    expected = target_logits(decomposition, tokens)
    for selected in (alive, every(decomposition, tokens)):
        result = intervene(decomposition, tokens, selected, alive, regimes=["target_sans"])
        torch.testing.assert_close(result["target_sans"], expected, rtol=0, atol=1e-12)
    without = intervene(decomposition, tokens, {}, alive, regimes=["target_sans"])["target_sans"]
    removed = [
        NodeChange(address, int(p), int(c), 0.0)
        for address, mask in alive.items()
        for p, c in mask.nonzero().tolist()
    ]
    torch.testing.assert_close(without, change(decomposition, tokens, removed), rtol=0, atol=1e-11)


def test_nothing_alive_leaves_the_adversary_nothing(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    one = intervene(decomposition, tokens, {}, {}, regimes=["adversarial"], adversary=Adversary(1))
    many = intervene(decomposition, tokens, {}, {}, regimes=["adversarial"], adversary=Adversary(5))
    assert torch.equal(one["adversarial"], many["adversarial"])


def test_regimes_together_equal_each_alone_and_depend_on_the_seed_only(
    case: tuple[Decomposition, Tensor],
) -> None:
    decomposition, tokens = case
    alive = alive_in(decomposition, tokens)
    selected = half_of(alive)
    together = intervene(decomposition, tokens, selected, alive, seed=3)
    torch.manual_seed(99)  # global random numbers play no part
    for regime in reversed(REGIMES):
        alone = intervene(decomposition, tokens, selected, alive, regimes=[regime], seed=3)
        assert torch.equal(alone[regime], together[regime])
    other = intervene(decomposition, tokens, selected, alive, seed=4)
    for regime in REGIMES:
        assert torch.equal(other[regime], together[regime]) == (regime in ("ci", "target_sans"))


def test_the_stochastic_masks_are_one_where_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    decomposition, tokens = CASES["llama"].build()
    alive = alive_in(decomposition, tokens[0])
    selected = half_of(alive)
    seen: list[tuple[Masks, Masks]] = []
    original = Decomposition.site_function

    def spy(self: Decomposition, masks: Any = None, deltas: Any = None, routing: Any = None) -> Any:
        seen.append((masks, deltas))
        return original(self, masks, deltas, routing)

    monkeypatch.setattr(Decomposition, "site_function", spy)
    intervene(decomposition, tokens[0], selected, alive, regimes=["stochastic"])
    intervene(decomposition, tokens[0], selected, alive, regimes=["adversarial"])
    (stochastic, deltas), start, *_, last = seen
    for address, mask in selected.items():
        assert (stochastic[address][0][mask] == 1).all()
        rest = stochastic[address][0][~mask]
        assert ((rest > 0) & (rest < 1)).all()
        assert ((deltas[address] > 0) & (deltas[address] < 1)).all()
        movable = alive[address] & ~mask
        before, after = start[0][address][0].detach(), last[0][address][0].detach()
        assert torch.equal(before[~movable], after[~movable])
        assert ((after >= 0) & (after <= 1)).all()
        assert torch.equal(start[1][address], last[1][address])
    assert any((start[0][a] != last[0][a]).any() for a in selected)


def test_the_adversary_is_no_weaker_than_its_start_and_than_fewer_steps(
    case: tuple[Decomposition, Tensor],
) -> None:
    decomposition, tokens = case
    alive = every(decomposition, tokens)
    selected = half_of(alive)
    expected = target_logits(decomposition, tokens)
    reached = []
    for steps in (1, 4, 12):
        logits = intervene(
            decomposition,
            tokens,
            selected,
            alive,
            regimes=["adversarial"],
            adversary=Adversary(steps, 0.2),
        )["adversarial"]
        reached.append(kl_by_position(expected, logits).sum().item())
    assert reached == sorted(reached)
    frozen = intervene(decomposition, tokens, selected, {}, regimes=["adversarial"])["adversarial"]
    assert reached[-1] > 1.5 * kl_by_position(expected, frozen).sum().item()


def test_progress_counts_every_pass_and_can_stop() -> None:
    decomposition, tokens = CASES["llama"].build()
    alive = alive_in(decomposition, tokens[0])
    calls: list[tuple[str, int, int]] = []

    def note(phase: str, done: int, total: int) -> None:
        calls.append((phase, done, total))

    intervene(decomposition, tokens[0], {}, alive, report=note)
    assert calls == [("interventions", i, 9) for i in range(10)]

    def stop(phase: str, done: int, total: int) -> None:
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        intervene(decomposition, tokens[0], {}, alive, report=stop)


def test_the_model_is_left_as_it_was(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    decomposition.requires_grad_(True)
    before = copy.deepcopy(decomposition.state_dict())
    intervene(decomposition, tokens, {}, alive_in(decomposition, tokens))
    change(decomposition, tokens, [NodeChange(decomposition.addresses[0], 0, 0, 0.0)])
    check_edge(
        decomposition, tokens, NodeKey(EMBED, 0, int(tokens[0])), NodeKey(decomposition.addresses[0], 0, 0)
    )
    for name, parameter in decomposition.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ({parse_address("7.attn.q"): torch.ones(5, 3)}, "7.attn.q is not a decomposed site"),
        ({parse_address("0.attn.q"): torch.ones(4, 3)}, "selected of 0.attn.q has shape"),
    ],
)
def test_selections_that_do_not_fit_are_refused(selected: Masks, message: str) -> None:
    decomposition, tokens = CASES["llama"].build()
    with pytest.raises(ValueError, match=message):
        intervene(decomposition, tokens[0], selected, {})


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"step_size": 0.0}, {"step_size": 1.5}])
def test_adversaries_that_do_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="adversary"):
        Adversary(**wrong)


# ---- single nodes -------------------------------------------------------------------------------


def nodes_of(decomposition: Decomposition, tokens: Tensor) -> list[tuple[Address, int, Any]]:
    nodes: list[tuple[Address, int, Any]] = [(EMBED, p, int(t)) for p, t in enumerate(tokens.tolist())]
    for address in decomposition.addresses:
        nodes += [(address, 1, 0), (address, 2, "delta")]
        if decomposition.bias(address) is not None:
            nodes.append((address, 4, "bias"))
    if decomposition.target.position_embedding is not None:
        nodes.append((POSITION, 3, 3))
    return nodes


def test_factor_one_changes_nothing(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    changes = [NodeChange(*node, 1.0) for node in nodes_of(decomposition, tokens)]
    assert torch.equal(change(decomposition, tokens, changes), target_logits(decomposition, tokens))
    for node in nodes_of(decomposition, tokens):
        moved = change(decomposition, tokens, [NodeChange(*node, 0.0)])
        assert (moved - target_logits(decomposition, tokens)).abs().max() > 1e-7, node
        # Nothing before the node can be touched.
        torch.testing.assert_close(moved[: node[1]], target_logits(decomposition, tokens)[: node[1]])


@pytest.mark.parametrize("factor", [0.0, -1.5])
def test_a_component_scaled_everywhere_is_a_change_of_the_weight(
    case: tuple[Decomposition, Tensor], factor: float
) -> None:
    decomposition, tokens = case
    for address in decomposition.addresses:
        edited = copy.deepcopy(decomposition.target)
        rank_one = torch.outer(decomposition.U(address)[1], decomposition.V(address)[:, 1])
        with torch.no_grad():
            edited.linear(address).weight += (factor - 1) * rank_one
            expected = edited(tokens[None])[0]
        changes = [NodeChange(address, p, 1, factor) for p in range(len(tokens))]
        torch.testing.assert_close(change(decomposition, tokens, changes), expected, rtol=1e-10, atol=1e-10)


def test_deltas_and_all_components_ablated_leave_the_bias(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    address = decomposition.addresses[-1]
    edited = copy.deepcopy(decomposition.target)
    with torch.no_grad():
        edited.linear(address).weight.zero_()
        expected = edited(tokens[None])[0]
    parts: list[Any] = [*range(decomposition.n_components[address]), "delta"]
    changes = [NodeChange(address, p, part, 0.0) for p in range(len(tokens)) for part in parts]
    torch.testing.assert_close(change(decomposition, tokens, changes), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("0.attn.q:5:0", "outside the prompt"),
        ("0.attn.q:0:99", "components"),
        ("0.attn.q:0:bias", "has no bias"),
        ("embed:0:10", "the prompt has token"),
        ("position:0:0", "not a learned position"),
        ("output:0:0", "neither a component nor an embedding"),
        ("target:0:0", "neither a component nor an embedding"),
    ],
)
def test_nodes_that_cannot_be_scaled_are_refused(node: str, message: str) -> None:
    decomposition, tokens = CASES["llama"].build()
    tokens[0, 0] = 3
    key = parse_node_key(node)
    with pytest.raises(ValueError, match=message):
        change(decomposition, tokens[0], [NodeChange(key.address, key.position, key.index, 0.0)])


def test_a_node_changed_twice_is_refused() -> None:
    decomposition, tokens = CASES["llama"].build()
    twice = [NodeChange(decomposition.addresses[0], 0, 0, f) for f in (0.0, 2.0)]
    with pytest.raises(ValueError, match=r"0\.attn\.q:0:0 is changed twice"):
        change(decomposition, tokens[0], twice)


# ---- edges --------------------------------------------------------------------------------------


def edges_of(
    decomposition: Decomposition, tokens: Tensor, delta: DefinitionDelta
) -> list[tuple[NodeKey, NodeKey]]:
    """One edge of every kind of source into every site, and into the output; across positions too."""
    edges: list[tuple[NodeKey, NodeKey]] = []
    topology = decomposition.topology
    last = len(tokens) - 1
    for target in (*decomposition.addresses, OUTPUT):
        for source in topology.sources_of(target):
            positions = [last]
            if topology.read_point_of[target].operation == "attention":
                # Queries act at their own position, keys and values at every earlier one too.
                positions = [last] if source.projection == "q" else [0, last]
            for position in positions:
                if source == EMBED:
                    ends: list[Any] = [int(tokens[position])]
                elif source == POSITION:
                    ends = [position]
                else:
                    ends = [0, *(["delta"] if delta == "node" else [])]
                    ends += ["bias"] if decomposition.bias(source) is not None else []
                edges += [(NodeKey(source, position, end), NodeKey(target, last, 1)) for end in ends]
    return edges


@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_every_edge_predicts_what_a_small_perturbation_does(
    case: tuple[Decomposition, Tensor], delta: DefinitionDelta
) -> None:
    decomposition, tokens = case
    for source, target in edges_of(decomposition, tokens, delta):
        errors = []
        for epsilon in (1e-3, 1e-5):
            check = check_edge(decomposition, tokens, source, target, delta=delta, epsilon=epsilon)
            assert abs(check.predicted) > 1e-12, (source, target)
            assert check.after == pytest.approx(check.before + check.actual)
            errors.append(abs(check.actual / check.predicted - 1))
        # The error is the curvature's: it shrinks with epsilon, down to what float64 resolves.
        noise = 1e-14 * max(1.0, abs(check.before)) / abs(check.predicted)
        assert errors[1] < 0.05 * errors[0] + 10 * noise + 1e-9, (str(source), str(target), errors)
        assert errors[1] < 1e-2 + 10 * noise, (str(source), str(target), errors)


def test_in_mode_through_edges_jump_over_sites(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    source = NodeKey(decomposition.addresses[0], 1, 0)
    target = NodeKey(decomposition.addresses[-1], 4, 0)
    none = check_edge(decomposition, tokens, source, target, delta="node")
    assert none.predicted == none.actual == 0
    assert none.total != 0
    jump = check_edge(decomposition, tokens, source, target, delta="through", epsilon=1e-6)
    assert jump.actual / jump.predicted == pytest.approx(1, rel=1e-3)
    assert jump.actual != pytest.approx(jump.total, rel=1e-3)


def test_custom_targets_are_sums_of_logits(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    source = NodeKey(decomposition.addresses[-1], 4, 1)
    terms = (OutputTerm(4, 2, 1.0), OutputTerm(4, 7, -0.5))
    whole = check_edge(decomposition, tokens, source, NodeKey(TARGET, 4, 0), terms=terms)
    first, second = (check_edge(decomposition, tokens, source, NodeKey(OUTPUT, 4, token)) for token in (2, 7))
    for name in ("predicted", "actual", "total", "before"):
        expected = getattr(first, name) - 0.5 * getattr(second, name)
        assert getattr(whole, name) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("delta", ["node", "off", "through"])
def test_edges_of_a_prompt_graph_predict_what_is_checked(
    case: tuple[Decomposition, Tensor], delta: DefinitionDelta
) -> None:
    decomposition, tokens = case
    terms = (OutputTerm(3, 2, 1.0), OutputTerm(4, 7, -1.0))
    settings = PromptSettings(
        delta=delta, output_probability=0.1, targets=(CustomTarget("difference", terms),)
    )
    graph = prompt_graph(decomposition, tokens, settings)
    keys = [parse_node_key(key) for key in graph.nodes.keys()]  # noqa: SIM118 (not a mapping)
    edges = graph.edges
    largest = abs(edges.attr).max()
    for edge in range(0, len(edges.attr), max(1, len(edges.attr) // 60)):
        source, target = keys[edges.source[edge]], keys[edges.target[edge]]
        check = check_edge(decomposition, tokens, source, target, delta=delta, epsilon=0.1, terms=terms)
        assert check.predicted / 0.1 == pytest.approx(edges.attr[edge], rel=1e-6, abs=1e-9 * largest)
    assert any(key.address == TARGET for key in keys)


def test_the_total_effect_is_that_of_the_changed_model(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    source = NodeKey(decomposition.addresses[0], 1, 0)
    check = check_edge(decomposition, tokens, source, NodeKey(OUTPUT, 4, 2), epsilon=0.5)
    moved = change(decomposition, tokens, [NodeChange(source.address, 1, 0, 1.5)])
    expected = (moved - target_logits(decomposition, tokens))[4, 2].item()
    assert check.total == pytest.approx(expected, rel=1e-9)
    assert check.before == pytest.approx(target_logits(decomposition, tokens)[4, 2].item(), rel=1e-9)


def test_the_whole_source_of_a_linear_edge_is_moved_exactly() -> None:
    """The o site reads the values linearly, so that prediction and outcome agree at any epsilon."""
    decomposition, tokens = CASES["gpt2"].build()
    source, target = NodeKey(parse_address("0.attn.v"), 1, 0), NodeKey(parse_address("0.attn.o"), 4, 1)
    check = check_edge(decomposition, tokens[0], source, target, epsilon=-1.0)
    assert check.actual == pytest.approx(check.predicted, rel=1e-10)
    assert check.total == pytest.approx(check.predicted, rel=1e-10)


def test_weak_edges_of_float32_models_are_resolved() -> None:
    decomposition, tokens = CASES["llama"].build()
    decomposition.float()
    source, target = NodeKey(parse_address("0.attn.v"), 0, 0), NodeKey(parse_address("0.attn.o"), 4, 0)
    check = check_edge(decomposition, tokens[0], source, target, epsilon=1e-7)
    assert check.actual / check.predicted == pytest.approx(1, rel=1e-5)
    assert decomposition.V(source.address).dtype == torch.float32


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        ("0.attn.q:0:delta", "0.attn.o:0:0", {"delta": "off"}, "deltas are nodes in mode node only"),
        ("0.attn.q:0:delta", "0.attn.o:0:0", {"delta": "through"}, "deltas are nodes in mode node only"),
        ("0.attn.q:0:0", "0.attn.o:0:0", {"epsilon": 0.0}, "epsilon must not be 0"),
        ("0.attn.q:0:0", "0.attn.o:0:delta", {}, "is not a target"),
        ("0.attn.q:0:0", "embed:0:3", {}, "is not a target"),
        ("0.attn.q:0:0", "target:0:0", {}, "terms of the custom target"),
        ("0.attn.q:0:0", "output:0:11", {}, "outside the vocabulary"),
        ("output:0:1", "0.attn.o:0:0", {}, "neither a component nor an embedding"),
        ("0.attn.q:0:0", "0.attn.o:0:77", {}, "components"),
    ],
)
def test_ends_that_make_no_edge_are_refused(
    source: str, target: str, options: dict[str, Any], message: str
) -> None:
    decomposition, tokens = CASES["llama"].build()
    with pytest.raises(ValueError, match=message):
        check_edge(decomposition, tokens[0], parse_node_key(source), parse_node_key(target), **options)
