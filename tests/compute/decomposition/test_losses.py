"""Losses against published reference values, and the masks that they are taken under."""

import math

import pytest
import torch

from compute.address import parse_address
from compute.decomposition.config import DecompositionConfig, ImportanceMinimality, ReconstructionTerm
from compute.decomposition.losses import (
    MaskAndPenalty,
    draw_masks,
    faithfulness,
    importance_minimality,
    kl_per_sequence,
)
from compute.decomposition.sigmoids import lower_leaky, upper_leaky
from compute.schedule import generator_at
from tests.support.tiny_run import tiny_decomposition

A, B = parse_address("0.attn.q"), parse_address("0.attn.k")


def penalty(sites: dict, p: float, beta: float = 0.0, eps: float = 1e-12) -> float:
    powered = {a: (torch.tensor(rows) + eps).pow(p).sum(0) for a, rows in sites.items()}
    return importance_minimality(powered, len(next(iter(sites.values()))), beta).item()


def test_importance_minimality_reference_values() -> None:
    assert penalty({A: [[1.0, 2.0, 3.0]], B: [[0.5, 1.5]]}, 1) == pytest.approx(8)
    assert penalty({A: [[2.0, 3.0]]}, 2) == pytest.approx(13)
    assert penalty({A: [[0.0, 1.0]]}, 0.5, eps=1e-6) == pytest.approx(1e-6**0.5 + (1 + 1e-6) ** 0.5)
    assert penalty({A: [[1.0, 2.0], [3.0, 4.0]]}, 1) == pytest.approx(5)
    assert penalty({A: [[1.0, 2.0], [3.0, 4.0]]}, 1, beta=1) == pytest.approx(
        2 * (1 + math.log2(5)) + 3 * (1 + math.log2(7))
    )


def test_p_annealing_and_coefficient_warm_up() -> None:
    annealed = ImportanceMinimality(coefficient=4.0, p_start=2, p_end=1, anneal=(0.0, 0.5), warmup=0.5)
    assert annealed.p_at(25, 100) == 1.5
    assert annealed.p_at(0, 100) == 2
    assert annealed.p_at(70, 100) == 1
    assert annealed.coefficient_at(25, 100) == 2.0
    assert annealed.coefficient_at(50, 100) == 4.0


def test_faithfulness_is_the_mean_square_of_the_delta() -> None:
    decomposition = tiny_decomposition()
    deltas = [decomposition.delta(a).flatten() for a in decomposition.addresses]
    assert faithfulness(decomposition).item() == pytest.approx(torch.cat(deltas).square().mean().item())


def test_kl_by_hand() -> None:
    target = torch.tensor([[[0.0, math.log(3)]], [[0.0, 0.0]]])
    model = torch.zeros(2, 1, 2)
    by_hand = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert kl_per_sequence(target, model).tolist() == pytest.approx([by_hand, 0.0], abs=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_fused_kernel_is_the_composition_of_its_parts(compiled: bool) -> None:
    if compiled:
        MaskAndPenalty.enable_compilation()
    generator = torch.Generator().manual_seed(0)
    z = (torch.randn(2, 7, 5, generator=generator) * 1.5).requires_grad_()
    noise = torch.rand(2, 7, 5, generator=generator)
    weight = torch.randn(2, 7, 5, generator=generator)
    p = torch.tensor(0.7)
    mask, powered = MaskAndPenalty.apply(z, noise, p, 1e-12)
    (fused,) = torch.autograd.grad((mask * weight).sum() + 0.3 * powered.sum(), z)
    lower = lower_leaky(z)
    plain_mask = lower + (1 - lower) * noise
    plain_powered = (upper_leaky(z) + 1e-12).pow(p).flatten(0, 1).sum(0)
    torch.testing.assert_close(mask, plain_mask)
    torch.testing.assert_close(powered, plain_powered)
    (reference,) = torch.autograd.grad((plain_mask * weight).sum(), z, retain_graph=True)
    inside = (z > 0).float()  # at z ≤ 0 the penalty has no gradient: a dead component is not pushed further
    (sparse,) = torch.autograd.grad(0.3 * plain_powered.sum(), z)
    torch.testing.assert_close(fused, reference + sparse * inside)


def term(masks: str, routing: str, sequences: int, delta: bool = True) -> ReconstructionTerm:
    return ReconstructionTerm.model_validate(
        {"masks": masks, "routing": routing, "sequences": sequences, "coefficient": 1.0, "delta": delta}
    )


def test_what_each_term_draws() -> None:
    decomposition = tiny_decomposition()
    terms = (term("ci", "all", 2), term("stochastic", "all", 2, delta=False), term("stochastic", "all", 1))
    draw = draw_masks(decomposition, terms, 50, generator_at(0, 0))
    for address in decomposition.addresses:
        noise, delta = draw.noise[address], draw.delta_masks[address]
        assert noise[:2].abs().max() == 0
        assert 0.4 < noise[2:].mean() < 0.6
        assert delta[:4].abs().max() == 0
        assert 0.2 < delta[4:].mean() < 0.8
        assert torch.equal(draw.routing[address], torch.ones(5, 50, 1))
    again = draw_masks(decomposition, terms, 50, generator_at(0, 0))
    assert all(torch.equal(again.noise[a], draw.noise[a]) for a in decomposition.addresses)


def test_routings() -> None:
    decomposition = tiny_decomposition(n_blocks=2)
    n = len(decomposition.addresses)
    terms = (term("ci", "subset", 40), term("ci", "layerwise", 40), term("ci", "block", 40))
    draw = draw_masks(decomposition, terms, 100, generator_at(3, 1))
    routes = torch.stack([draw.routing[a] for a in decomposition.addresses]).squeeze(-1)
    subset, layerwise, block = routes.split(40, dim=1)
    sizes = torch.bincount(subset.sum(0).long().flatten(), minlength=n + 1)
    assert sizes[0] == 0  # k is uniform on 1 … n, each with probability 1/n
    assert ((sizes[1:] / 4000 - 1 / n).abs() < 4 * (1 / n / 4000) ** 0.5).all()
    assert torch.equal(layerwise.sum(0), torch.ones(40, 100))
    assert ((layerwise.mean((1, 2)) - 1 / n).abs() < 4 * (1 / n / 4000) ** 0.5).all()
    first, second = block[: n // 2], block[n // 2 :]
    assert torch.equal(first, first[:1, :, :1].expand_as(first))  # whole blocks, whole sequences
    assert torch.equal(second[0], 1 - first[0])


def test_terms_must_fill_the_batch() -> None:
    with pytest.raises(ValueError, match="use 2 sequences, but batch_size is 3"):
        DecompositionConfig.model_validate(
            {"steps": 1, "batch_size": 3, "length": 4, "components": {}, "importance_kind": "mlp",
             "importance_hidden": [], "faithfulness": 1, "importance_minimality": {"coefficient": 1},
             "reconstruction": [term("ci", "all", 2).model_dump()],
             "components_rate": {"peak": 1}, "importance_rate": {"peak": 1}}
        )  # fmt: skip
