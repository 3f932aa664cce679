"""Sigmoids by hand, and their published gradients."""

from __future__ import annotations

import math

import pytest
import torch

from compute.decomposition.importance_config import SIGMOID_KINDS, ImportanceConfig, SigmoidKind
from compute.decomposition.sigmoids import MASK_SIGMOIDS, lower_leaky, upper_leaky

Z = [-100.0, -1.0, 0.0, 0.25, 0.5, 1.0, 3.0]
CLAMPED = [0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 1.0]


def _sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def _swish(z: float) -> float:
    """As published: a sum of four bumps x σ(±10 x) around the middle, each with its own shift."""
    x = z - 0.5

    def up(t: float) -> float:
        return t * _sigma(10 * t)

    def down(t: float) -> float:
        return t * _sigma(-10 * t)

    return 0.5 + (down(x - 0.5) - up(x)) + (up(x + 0.5) - down(x))


EXPECTED: dict[SigmoidKind, list[float]] = {
    "leaky_hard": CLAMPED,
    "lower_leaky_hard": CLAMPED,
    "upper_leaky_hard": [*CLAMPED[:-1], 1.02],
    "hard": CLAMPED,
    "normal": [0.0, 0.2689414, 0.5, 0.5621765, 0.6224593, 0.7310586, 0.9525741],
    "half_sin": [0.5 + 0.5 * math.sin(z) for z in Z],
    "swish_hard": [_swish(z) for z in Z],
}


@pytest.mark.parametrize("kind", SIGMOID_KINDS)
def test_by_hand(kind: SigmoidKind) -> None:
    found = MASK_SIGMOIDS[kind](torch.tensor(Z, dtype=torch.float64))
    assert found.tolist() == pytest.approx(EXPECTED[kind], abs=1e-6)


def test_ties_are_exact() -> None:
    """0 is off and 1 is fully on: nothing of rounding may decide who is alive."""
    ends = torch.tensor([-5.0, -1e-30, -0.0, 0.0, 1.0, 1.0 + 1e-7, 5.0])
    for kind in ("leaky_hard", "lower_leaky_hard", "hard"):
        assert MASK_SIGMOIDS[kind](ends).tolist() == [0, 0, 0, 0, 1, 1, 1]
    upper = MASK_SIGMOIDS["upper_leaky_hard"](ends).tolist()
    assert upper[:5] == [0, 0, 0, 0, 1]
    assert upper[6] == pytest.approx(1.04)


def test_the_swish_is_half_way_in_the_middle_and_overshoots_a_little() -> None:
    swish = MASK_SIGMOIDS["swish_hard"]
    z = torch.linspace(-4, 5, 9001, dtype=torch.float64)
    assert swish(torch.tensor(0.5)).item() == pytest.approx(0.5)
    assert swish(z).min().item() == pytest.approx(-0.0278, abs=1e-4)
    assert swish(z).max().item() == pytest.approx(1.0278, abs=1e-4)
    # (a number away from the middle and its mirror image add up to 1)
    torch.testing.assert_close(swish(z) + swish(1 - z), torch.ones_like(z))


@pytest.mark.parametrize("kind", SIGMOID_KINDS)
def test_the_configuration_knows_the_range(kind: SigmoidKind) -> None:
    values = MASK_SIGMOIDS[kind](torch.linspace(-2, 3, 4001, dtype=torch.float64))
    config = ImportanceConfig(kind="mlp", hidden=(4,), sigmoid=kind)
    outside = bool(((values < 0) | (values > 1)).any())
    assert config.leaves_unit_interval == outside
    assert config.never_off == ((values > 0).float().mean() > 0.99)
    assert config.never_zero == ((values != 0).float().mean() > 0.99)


def test_published_gradients() -> None:
    z = torch.tensor([-1.0, 0.0, 0.3, 1.0, 2.0], requires_grad=True)
    for direction, expected in ((1.0, [0, 0, 1, 1, 0]), (-1.0, [-0.01, -0.01, -1, -1, 0])):
        (gradient,) = torch.autograd.grad(lower_leaky(z).sum() * direction, z)
        assert gradient.tolist() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(upper_leaky(z).sum(), z)
    assert gradient[2].item() == 1
    assert gradient[4].item() == pytest.approx(0.01)
