"""Leaky hard sigmoids that turn a causal-importance network's output into importances.

The network's output z is squashed twice: ``lower_leaky`` gives the importance used in masks,
``upper_leaky`` the one that the sparsity loss sees. Both follow the public parameter-decomposition
code (sigmoid type ``leaky_hard``, slope 0.01).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
