"""Training: exact resumption, every kind of importance function, and that it does decompose."""

from typing import Any

import pytest
import torch

from compute.decomposition.config import DecompositionConfig
from compute.decomposition.evaluation import evaluate
from compute.decomposition.training import DecompositionTrainer
from compute.schedule import generator_at, sample_windows
from compute.statistics import ComponentStatistics
from compute.targets.model import TargetModel
from tests.support.tiny_run import tiny_decomposition


def config(**changes: Any) -> DecompositionConfig:
    return DecompositionConfig.model_validate(
        {"steps": 8, "batch_size": 4, "length": 10,
         "components": dict.fromkeys(["q", "k", "v", "o", "gate", "up", "down"], 20),
         "importance_kind": "shared_mlp", "importance_hidden": (8,), "faithfulness": 10.0,
         "importance_minimality": {"coefficient": 1e-3, "p_start": 1.0, "p_end": 0.5, "frequency": 0.1},
         "reconstruction": [
             {"masks": "ci", "routing": "all", "sequences": 1, "coefficient": 0.5},
             {"masks": "ci", "routing": "block", "sequences": 1, "coefficient": 0.5},
             {"masks": "stochastic", "routing": "layerwise", "sequences": 1, "coefficient": 0.5},
             {"masks": "stochastic", "routing": "subset", "sequences": 1, "coefficient": 0.5}],
         "components_rate": {"peak": 2e-3}, "importance_rate": {"peak": 5e-3}} | changes
    )  # fmt: skip


@pytest.fixture
def target() -> TargetModel:
    return tiny_decomposition().target


TOKENS = torch.randint(270, (400,), generator=torch.Generator().manual_seed(5), dtype=torch.int32)


def test_resumed_training_is_the_uninterrupted_training(target: TargetModel) -> None:
    whole = DecompositionTrainer(target, config(), TOKENS)
    reports = list(whole.run())
    first = DecompositionTrainer(target, config(), TOKENS)
    for report in first.run():
        if report.step == 3:
            break
    second = DecompositionTrainer(target, config(), TOKENS)
    second.load_state(first.state())
    rest = list(second.run())
    assert [r.step for r in rest] == [4, 5, 6, 7, 8]
    assert rest == reports[3:]
    expected = whole.decomposition.export_tensors()
    assert all(torch.equal(t, expected[n]) for n, t in second.decomposition.export_tensors().items())


@pytest.mark.parametrize("kind", ["mlp", "vector_mlp", "shared_mlp"])
def test_every_kind_of_importance_function_learns(target: TargetModel, kind: str) -> None:
    trainer = DecompositionTrainer(
        target, config(importance_kind=kind, autocast_bf16=kind == "shared_mlp"), TOKENS
    )
    before = {name: tensor.clone() for name, tensor in trainer.decomposition.export_tensors().items()}
    list(trainer.run())
    after = trainer.decomposition.export_tensors()
    for name, tensor in after.items():
        fixed = name.startswith("target.") or name.endswith((".mean", ".scale"))
        assert torch.equal(tensor, before[name]) == fixed, name


def test_faithfulness_warm_up_approaches_the_weights(target: TargetModel) -> None:
    trainer = DecompositionTrainer(
        target,
        config(initialisation="random", faithfulness_warmup={"steps": 60, "learning_rate": 1e-2}),
        TOKENS,
    )
    losses = list(trainer.warm_up())
    assert losses[-1] < losses[0] / 20
    assert list(trainer.warm_up()) == []


def test_the_penalty_trades_components_for_divergence(target: TargetModel) -> None:
    batches = [sample_windows(TOKENS, 8, 20, generator_at(9, 0))]
    unigram = torch.full((270,), 1 / 270)
    results = []
    for coefficient in (0.0, 3e-2):
        penalty = {"coefficient": coefficient, "p_start": 1.0, "p_end": 0.7}
        trainer = DecompositionTrainer(target, config(steps=80, importance_minimality=penalty), TOKENS)
        start = evaluate(trainer.decomposition, batches, unigram)
        list(trainer.run())
        results.append(evaluate(trainer.decomposition, batches, unigram))
        assert evaluate(trainer.decomposition, batches, unigram).kl == results[-1].kl  # nothing unseeded
    free, sparse = results
    l0 = [sum(v[0.0] for v in r.l0.values()) for r in (free, sparse)]
    assert l0[1] < 0.7 * l0[0]
    assert free.kl["ci"] < 0.7 * start.kl["ci"]
    assert sparse.kl["ci"] > free.kl["ci"]


def test_evaluation_by_hand(target: TargetModel) -> None:
    trainer = DecompositionTrainer(target, config(), TOKENS)
    decomposition = trainer.decomposition
    windows = sample_windows(TOKENS, 3, 12, generator_at(2, 0))
    result = evaluate(decomposition, windows.split(2), torch.full((270,), 1 / 270))
    logits, inputs = decomposition.clean_pass(windows[:, :-1])
    log_probability = logits.log_softmax(-1).gather(-1, windows[:, 1:, None]).mean().item()
    assert result.tokens == 36
    assert result.cross_entropy["target"] == pytest.approx(-log_probability, rel=1e-5)
    assert result.cross_entropy["components"] == pytest.approx(-log_probability, rel=1e-4)  # exact start
    assert result.unigram_cross_entropy == pytest.approx(torch.tensor(270.0).log().item())
    ci = decomposition.causal_importance(inputs)
    for address, value in ci.items():
        assert result.l0[address][0.0] == pytest.approx((value > 0).float().sum(-1).mean().item())
        torch.testing.assert_close(result.max_ci[address], value.amax((0, 1)))
    assert result.share_recovered("target", 9.0) == 1.0


def test_statistics_by_hand(target: TargetModel) -> None:
    decomposition = DecompositionTrainer(target, config(), TOKENS).decomposition
    windows = TOKENS[:60].long().view(3, 20)
    statistics = ComponentStatistics(decomposition)
    statistics.add(windows[:1])
    statistics.add(windows[1:])
    arrays = statistics.arrays()
    _, inputs = decomposition.clean_pass(windows)
    ci = decomposition.causal_importance(inputs)
    assert arrays["tokens"].item() == 60
    assert arrays["token_count"].sum() == 60
    for address, value in ci.items():
        flat = value.flatten(0, 1).double()
        torch.testing.assert_close(arrays[f"ci_sum/{address}"], flat.sum(0), rtol=1e-5, atol=1e-6)
        assert torch.equal(arrays[f"alive_count/{address}"], (flat > 0).sum(0))
        best = arrays[f"top_token/{address}"][:, 0]
        mass = torch.stack(
            [flat[windows.flatten() == token, c].sum() for c, token in enumerate(best.tolist())]
        )
        torch.testing.assert_close(
            arrays[f"top_token_ci/{address}"][:, 0].double(), mass, rtol=1e-5, atol=1e-6
        )
        assert (arrays[f"top_token_ci/{address}"].diff(dim=1) <= 0).all()
