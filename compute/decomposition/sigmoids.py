"""Sigmoids that turn a causal-importance network's output into importances.

Named and defined as in the public parameter-decomposition code. There a sigmoid type stands for two
functions of the network's output z: the *lower* one gives the importance that is used as a mask, and
everywhere in Tributary, the *upper* one what the sparsity loss sees. ``leaky_hard`` is
``lower_leaky_hard`` in masks and ``upper_leaky_hard`` in the loss; every other type is one function
for both.

====================  ==================================================================  ============
type                  importance                                                          range
====================  ==================================================================  ============
``leaky_hard``        clamp(z, 0, 1)                                                      [0, 1]
``lower_leaky_hard``  clamp(z, 0, 1)                                                      [0, 1]
``hard``              clamp(z, 0, 1)                                                      [0, 1]
``upper_leaky_hard``  clamp(z, 0, 1), and 1 + (z − 1) / 100 above 1                       [0, ∞)
``normal``            σ(z) = 1 / (1 + e⁻ᶻ)                                                (0, 1)
``half_sin``          (1 + sin z) / 2                                                     [0, 1]
``swish_hard``        z σ(10 z) + (z − 1) σ(10 (1 − z)) − z + 1                           about [0, 1]
====================  ==================================================================  ============

``normal`` and ``half_sin`` are above 0 almost everywhere: whoever takes "above 0" for "alive" finds
every component alive at every position, which is what these functions say. ``swish_hard`` is a little
below 0 where z is, so that a component is alive where z is above 0, but hardly ever exactly 0.
``upper_leaky_hard`` and ``swish_hard`` leave [0, 1]; masks are then what the formula gives, as in the
public code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from compute.decomposition.importance_config import SigmoidKind

SLOPE = 0.01


class _LowerLeaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        (gradient,) = grad_outputs
        # Below zero only a push upwards passes, weakly: a dead component can come back, while a
        # component that is off is not driven further off. z = 0 belongs to this branch.
        below = torch.where(gradient < 0, SLOPE * gradient, 0.0)
        return torch.where(z > 1, 0.0, torch.where(z > 0, gradient, below))


def lower_leaky(z: Tensor) -> Tensor:
    """clamp(z, 0, 1); the gradient leaks by 0.01 at z ≤ 0 where it would raise z, and is 0 above 1."""
    return _LowerLeaky.apply(z)  # type: ignore[no-any-return]


def upper_leaky(z: Tensor) -> Tensor:
    """clamp(z, 0, 1) with slope 0.01 above 1, and the gradient of just that function."""
    return torch.where(z > 1, 1 + SLOPE * (z - 1), z.clamp(0, 1))


def hard(z: Tensor) -> Tensor:
    """clamp(z, 0, 1)."""
    return z.clamp(0, 1)


def half_sin(z: Tensor) -> Tensor:
    """(1 + sin z) / 2: rises and falls again and again."""
    return 0.5 + 0.5 * z.sin()


def swish_hard(z: Tensor) -> Tensor:
    """z σ(10 z) + (z − 1) σ(10 (1 − z)) − z + 1: a hard sigmoid with rounded corners.

    It overshoots a little, between −0.028 and 1.028.
    """
    return z * torch.sigmoid(10 * z) + (z - 1) * torch.sigmoid(10 * (1 - z)) - z + 1


#: The function used for masks, by type.
MASK_SIGMOIDS: Final[dict[SigmoidKind, Callable[[Tensor], Tensor]]] = {
    "leaky_hard": lower_leaky,
    "lower_leaky_hard": lower_leaky,
    "upper_leaky_hard": upper_leaky,
    "hard": hard,
    "normal": torch.sigmoid,
    "swish_hard": swish_hard,
    "half_sin": half_sin,
}
