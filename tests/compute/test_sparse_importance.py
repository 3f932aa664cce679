"""Sparse circuits: the sweep against one slow row at a time, and what must never change."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from compute.address import Address
from compute.attribution.definition import importance_on_target
from compute.decomposition.importance_config import ImportanceKind, SigmoidKind
from compute.decomposition.losses import importance_minimality
from compute.decomposition.model import Decomposition
from compute.decomposition.sigmoids import lower_leaky, upper_leaky
from compute.progress import Cancelled
from compute.schedule import generator_at
from compute.sparse_importance import EPS, Circuit, CircuitSettings, Snapshot, optimise
from tests.compute.attribution.models import Case
from tests.support.tiny_run import tiny_decomposition

FAMILIES = {
    "llama": Case(n_heads=4, n_kv_heads=2, n_sequences=1),
    "gpt2": Case(family="gpt2", n_kv_heads=2, activation="gelu", n_sequences=1),
}
BASE = CircuitSettings(coefficients=(0.3,), steps=25)
#: Importance functions that see later tokens, that are never 0, and that go above 1.
KINDS: dict[str, tuple[ImportanceKind, SigmoidKind]] = {
    "ahead": ("global_shared_transformer", "leaky_hard"),
    "smooth": ("shared_mlp", "normal"),
    "above one": ("global_shared_mlp", "upper_leaky_hard"),
}
VARIANTS = {
    "kl": {},
    "ce": {"loss": "ce", "token": 3},
    "logit": {"loss": "logit"},
    "p below one": {"p": 0.4},
    "importances as masks": {"masks": "ci"},
    "an earlier position": {"position": 2},
    "adversary": {"adversary_steps": 2},
}


@pytest.fixture(params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> tuple[Decomposition, Tensor]:
    decomposition, tokens = FAMILIES[request.param].build()
    return decomposition, tokens[0]


def alive_in(decomposition: Decomposition, tokens: Tensor) -> dict[Address, Tensor]:
    return {a: ci[0] > 0 for a, ci in importance_on_target(decomposition, tokens[None]).items()}


def same(one: Circuit, other: Circuit, *, tolerance: float) -> None:
    for address, importance in one.importance.items():
        torch.testing.assert_close(importance, other.importance[address], rtol=0, atol=tolerance)
    assert one.alive == other.alive
    for name in ("loss", "kl", "probability", "kl_alone", "probability_alone"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6, abs=tolerance)


# ---- the objective, slowly ----------------------------------------------------------------------


def by_hand(decomposition: Decomposition, tokens: Tensor, settings: CircuitSettings) -> dict[Address, Tensor]:
    """The same optimisation of one row, with a dense z per site and everything written out."""
    position = settings.position % len(tokens)
    with torch.no_grad():
        expected = decomposition.target(tokens[None])[0, position]
    token = int(expected.argmax()) if settings.token is None else settings.token
    found = {a: g.clamp(max=1) for a, g in importance_on_target(decomposition, tokens[None]).items()}
    start = {a: found[a] for a in decomposition.addresses}  # the order of the random numbers
    before = (torch.arange(len(tokens)) <= position)[None, :, None]
    alive = {a: (ci > 0) & before for a, ci in start.items()}

    def task(masks: dict[Address, Tensor], deltas: dict[Address, Tensor] | None) -> Tensor:
        site = decomposition.site_function(masks, deltas)
        logits = decomposition.target(tokens[None], site=site)[0, position]
        if settings.loss == "kl":
            return F.kl_div(logits.log_softmax(-1), expected.softmax(-1), reduction="sum")
        if settings.loss == "ce":
            return F.cross_entropy(logits[None], torch.tensor([token]))
        return -logits[token]

    z = {a: ci.clone().requires_grad_() for a, ci in start.items()}
    optimiser = torch.optim.AdamW(list(z.values()), lr=settings.learning_rate, weight_decay=0)
    for step in range(settings.steps):
        generator = generator_at(settings.seed, step, 8)
        noise = {a: torch.zeros_like(ci) for a, ci in start.items()}
        deltas = {a: torch.zeros_like(ci[..., :1]) for a, ci in start.items()}
        if settings.masks == "stochastic":
            # Drawn for the positions up to the chosen one, which alone matter.
            for n in (*noise.values(), *deltas.values()):
                n[:, : position + 1] = torch.rand(1, position + 1, n.shape[2], generator=generator)
        given = deltas if settings.masks == "stochastic" else None
        g = {a: torch.where(alive[a], lower_leaky(z[a]), 0.0) for a in z}
        for _ in range(settings.adversary_steps):
            moving = {a: n.clone().requires_grad_() for a, n in noise.items()}
            masks = {a: g[a].detach() + (1 - g[a].detach()) * n for a, n in moving.items()}
            ascent = torch.autograd.grad(task(masks, given), list(moving.values()))
            for (a, n), gradient in zip(noise.items(), ascent, strict=True):
                noise[a] = torch.where(alive[a], (n + gradient.sign()).clamp(0, 1), n)
        loss = task({a: g[a] + (1 - g[a]) * noise[a] for a in z}, given)
        powered = {
            a: torch.where(alive[a], (upper_leaky(z[a]) + EPS) ** settings.p, 0.0).sum((0, 1)) for a in z
        }
        penalty = importance_minimality(powered, position + 1, 0.0)
        optimiser.zero_grad()
        (loss + settings.coefficients[0] * penalty).backward()
        optimiser.step()
    return {a: torch.where(alive[a], z[a].detach().clamp(0, 1), 0.0)[0] for a in z}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_optimisation_is_what_it_says(case: tuple[Decomposition, Tensor], variant: str) -> None:
    decomposition, tokens = case
    settings = replace(BASE, **VARIANTS[variant])
    (circuit,) = optimise(decomposition, tokens, settings)
    expected = by_hand(decomposition, tokens, settings)
    assert list(circuit.importance) == list(expected)
    for address, importance in expected.items():
        torch.testing.assert_close(circuit.importance[address], importance, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", list(KINDS))
def test_every_importance_function_is_started_from_and_left(name: str) -> None:
    """The prompt goes on after the chosen position, and where all pairs are alive all can be turned off."""
    kind, sigmoid = KINDS[name]
    decomposition = tiny_decomposition(importance=kind, sigmoid=sigmoid, n_blocks=1).double()
    if name == "above one":
        function = decomposition.global_importance
        assert function is not None
        with torch.no_grad():
            function.get_parameter("biases.1").add_(1)
    tokens = torch.tensor([3, 88, 7, 140, 9])
    settings = CircuitSettings(coefficients=(0.05,), steps=20, position=2)
    (circuit,) = optimise(decomposition, tokens, settings)
    expected = by_hand(decomposition, tokens, settings)
    for address, importance in expected.items():
        torch.testing.assert_close(circuit.importance[address], importance, rtol=0, atol=1e-7)
    whole = importance_on_target(decomposition, tokens[None])
    start = torch.cat([g[0, :3].flatten() for g in whole.values()])
    cut = importance_on_target(decomposition, tokens[None, :3])
    moved = max((whole[a][:, :3] - cut[a]).abs().max().item() for a in cut)
    assert (moved > 1e-3) == (name == "ahead")  # so that starting from the cut prompt would be noticed
    assert (int((start == 0).sum()) == 0) == (name == "smooth")
    assert (start.max() > 1) == (name == "above one")
    left = torch.cat([g.flatten() for g in circuit.importance.values()])
    assert 0 < int((left > 0).sum()) == circuit.alive < int((start > 0).sum())
    assert left.max() <= 1


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_row_of_a_sweep_is_its_own_run(case: tuple[Decomposition, Tensor], variant: str) -> None:
    decomposition, tokens = case
    coefficients = (0.0, 0.05, 1.0)
    settings = replace(BASE, **VARIANTS[variant], coefficients=coefficients, seed=5)
    sweep = optimise(decomposition, tokens, settings)
    assert tuple(circuit.coefficient for circuit in sweep) == coefficients
    for circuit in sweep:
        (alone,) = optimise(decomposition, tokens, replace(settings, coefficients=(circuit.coefficient,)))
        same(circuit, alone, tolerance=1e-7)
        assert [point.alive for point in circuit.history] == [point.alive for point in alone.history]


@pytest.mark.parametrize("variant", ["kl", "importances as masks", "adversary"])
def test_a_sweep_too_large_for_one_batch_is_the_same_sweep(
    monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    decomposition, tokens = FAMILIES["llama"].build()
    settings = replace(BASE, **VARIANTS[variant], coefficients=(0.0, 0.05, 0.3, 0.5, 1.0))
    whole = optimise(decomposition, tokens[0], settings)
    for limit in (2 * tokens.shape[1], 1):
        monkeypatch.setattr("compute.sparse_importance.ROWS_TIMES_POSITIONS", limit)
        for one, other in zip(whole, optimise(decomposition, tokens[0], settings), strict=True):
            same(one, other, tolerance=1e-7)


def test_results_depend_on_the_seed_only() -> None:
    decomposition, tokens = FAMILIES["llama"].build()
    (first,) = optimise(decomposition, tokens[0], BASE)
    torch.manual_seed(1234)
    (again,) = optimise(decomposition, tokens[0], BASE)
    (other,) = optimise(decomposition, tokens[0], replace(BASE, seed=1))
    same(first, again, tolerance=0)
    assert any(not torch.equal(first.importance[a], other.importance[a]) for a in first.importance)


# ---- what must never change ---------------------------------------------------------------------


def test_what_was_not_alive_stays_exactly_off(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    alive = alive_in(decomposition, tokens)
    settings = replace(BASE, loss="logit", coefficients=(0.0, 0.1), learning_rate=0.5, position=3)
    for circuit in optimise(decomposition, tokens, settings):
        found = 0
        for address, importance in circuit.importance.items():
            assert importance.shape == (len(tokens), decomposition.n_components[address])
            assert (importance[~alive[address]] == 0).all()
            assert (importance[4:] == 0).all()
            assert ((importance >= 0) & (importance <= 1)).all()
            found += int((importance > 0).sum())
        assert found == circuit.alive


def test_earlier_positions_are_part_of_the_result(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    start = importance_on_target(decomposition, tokens[None])
    settings = replace(BASE, position=3, steps=1, learning_rate=1e-9)
    (circuit,) = optimise(decomposition, tokens, settings)
    # A step of nothing leaves everything: at all positions up to the chosen one and at every depth.
    for address, importance in circuit.importance.items():
        torch.testing.assert_close(importance[:4], start[address][0, :4], rtol=0, atol=1e-8)
        assert torch.equal(importance[:4] > 0, start[address][0, :4] > 0)


def test_later_tokens_play_no_part(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    (whole,) = optimise(decomposition, tokens, replace(BASE, position=2))
    (cut,) = optimise(decomposition, tokens[:3], BASE)
    for address, importance in cut.importance.items():
        assert torch.equal(whole.importance[address][:3], importance)
    assert (whole.loss, whole.kl, whole.alive) == (cut.loss, cut.kl, cut.alive)


@pytest.mark.parametrize("trainable", [False, True])
def test_the_shared_model_is_never_touched(trainable: bool) -> None:
    decomposition, tokens = FAMILIES["llama"].build()
    decomposition.requires_grad_(trainable)
    before = copy.deepcopy(decomposition.state_dict())
    with torch.no_grad():  # whatever the caller's mode is
        optimise(decomposition, tokens[0], replace(BASE, adversary_steps=1, steps=3))
    for name, parameter in decomposition.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad == trainable
        assert parameter.grad is None


# ---- what comes out -----------------------------------------------------------------------------


def test_a_higher_coefficient_leaves_less(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    settings = replace(BASE, masks="ci", coefficients=(0.0, 0.3, 1000.0), steps=100)
    free, some, none = optimise(decomposition, tokens, settings)
    assert free.alive > some.alive > none.alive == 0
    assert free.kl < some.kl
    assert free.kl < none.kl
    # Free to do so, it comes closer to the target than the importances that it started from.
    assert free.kl < free.history[0].loss


def test_figures_are_those_of_the_returned_importances(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    with torch.no_grad():
        expected = decomposition.target(tokens[None])[0, -1].log_softmax(-1)
        for masks in ("ci", "stochastic"):
            (circuit,) = optimise(decomposition, tokens, replace(BASE, masks=masks, loss="ce"))
            importance = {a: value[None] for a, value in circuit.importance.items()}
            logits = decomposition.target(tokens[None], site=decomposition.site_function(importance))
            actual = logits[0, -1].log_softmax(-1)
            token = int(expected.argmax())
            assert circuit.probability_alone == pytest.approx(actual[token].exp().item())
            kl = (expected.exp() * (expected - actual)).sum().item()
            assert circuit.kl_alone == pytest.approx(kl)
            if masks == "ci":
                assert circuit.loss == pytest.approx(-actual[token].item())
                assert (circuit.kl, circuit.probability) == (circuit.kl_alone, circuit.probability_alone)
            else:
                assert circuit.kl != circuit.kl_alone


def test_the_chosen_token_becomes_more_probable(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    with torch.no_grad():
        probabilities = decomposition.target(tokens[None])[0, -1].softmax(-1)
    token = int(probabilities.argmin())
    settings = replace(BASE, token=token, coefficients=(0.0,), masks="ci", steps=60)
    by_loss = {
        loss: optimise(decomposition, tokens, replace(settings, loss=loss))[0].probability
        for loss in ("ce", "logit")
    }
    (kept,) = optimise(decomposition, tokens, replace(settings, loss="kl"))
    assert min(by_loss.values()) > 2 * probabilities[token].item()
    assert kept.history[0].probability == pytest.approx(by_start(decomposition, tokens, token))


def by_start(decomposition: Decomposition, tokens: Tensor, token: int) -> float:
    """The token's probability in the CI-masked model, where every optimisation with masks ``ci`` starts."""
    importance = importance_on_target(decomposition, tokens[None])
    with torch.no_grad():
        logits = decomposition.target(tokens[None], site=decomposition.site_function(importance))
    return logits[0, -1].softmax(-1)[token].item()


def test_an_adversary_makes_it_harder(case: tuple[Decomposition, Tensor]) -> None:
    decomposition, tokens = case
    settings = replace(BASE, steps=1, learning_rate=1e-9)
    (mild,) = optimise(decomposition, tokens, settings)
    (harsh,) = optimise(decomposition, tokens, replace(settings, adversary_steps=3))
    assert harsh.loss > mild.loss
    assert harsh.kl_alone == pytest.approx(mild.kl_alone)


# ---- progress -----------------------------------------------------------------------------------


def test_snapshots_are_live_limited_and_end_with_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    decomposition, tokens = FAMILIES["llama"].build()
    clock = iter(range(1000))
    # Only this module's clock: the loops of servers that other tests left running read the real one.
    own = SimpleNamespace(monotonic=lambda: next(clock) * 0.03)
    monkeypatch.setattr("compute.sparse_importance.time", own)
    seen: list[Snapshot] = []
    reports: list[tuple[str, int, int]] = []

    def note(phase: str, done: int, total: int) -> None:
        reports.append((phase, done, total))

    settings = replace(BASE, coefficients=(0.1, 1.0), steps=40)
    circuits = optimise(decomposition, tokens[0], settings, report=note, snapshot=seen.append)
    assert len(seen) < 40 / 3
    assert seen[0].step == 0
    assert seen[-1].step == 40
    for snapshot in seen:
        assert len(snapshot.loss) == len(snapshot.alive) == len(snapshot.probability) == 2
    assert seen[-1].alive == [circuit.alive for circuit in circuits]
    assert seen[-1].loss == [circuit.loss for circuit in circuits]
    assert [call for call in reports if call[0] == "searching"] == [("searching", i, 40) for i in range(41)]
    assert reports[-1] == ("judging", 16, 16)
    for row, circuit in enumerate(circuits):
        assert [point.step for point in circuit.history] == list(range(41))
        assert circuit.history[-1].loss == circuit.loss
        assert circuit.history[0].alive == seen[0].alive[row]


@pytest.mark.parametrize("adversary_steps", [0, 2])
def test_a_report_that_raises_stops_it(adversary_steps: int) -> None:
    decomposition, tokens = FAMILIES["llama"].build()
    calls = 0

    def stop(phase: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        optimise(
            decomposition,
            tokens[0],
            replace(BASE, steps=10**6, adversary_steps=adversary_steps),
            report=stop,
        )
    assert calls == 5


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coefficients": ()}, "at least one coefficient"),
        ({"coefficients": (0.1, -0.1)}, "not negative"),
        ({"coefficients": (float("nan"),)}, "finite"),
        ({"steps": 0}, "at least one step"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"p": 0.0}, "p must be"),
        ({"adversary_steps": -1}, "adversary"),
        ({"adversary_steps": 1, "masks": "ci"}, "nothing to move"),
    ],
)
def test_settings_that_cannot_work_cannot_exist(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CircuitSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"position": 5}, "position 5 is outside the prompt of 5 tokens"),
        ({"position": -6}, "position -6 is outside"),
        ({"token": 11}, "token 11 is outside the vocabulary of 11"),
        ({"token": -1}, "token -1 is outside"),
    ],
)
def test_what_the_prompt_does_not_have_is_refused(wrong: dict[str, Any], message: str) -> None:
    decomposition, tokens = FAMILIES["llama"].build()
    with pytest.raises(ValueError, match=message):
        optimise(decomposition, tokens[0], replace(BASE, **wrong))


def test_a_prompt_where_nothing_is_alive_is_refused() -> None:
    decomposition, tokens = FAMILIES["llama"].build()
    decomposition.silent_sites = frozenset(decomposition.addresses)
    with pytest.raises(ValueError, match="no component is alive"):
        optimise(decomposition, tokens[0], BASE)
