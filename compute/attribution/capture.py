"""One forward pass without gradients, keeping what the closed forms need.

Position-wise tensors are flattened to P = batch × positions rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compute.address import Address
from compute.attribution.sums import DeltaMode
from compute.decomposition.model import Decomposition
from compute.targets.model import Trace


@dataclass
class Capture:
    """The inside of one batch.

    ``activations`` y [P, C] and ``importance`` g [P, C] by site (importance is None without CI
    weighting); ``delta_outputs`` x Δᵀ [P, d_out] (empty without delta nodes); ``logits`` [P, vocab].
    """

    tokens: Tensor
    trace: Trace
    logits: Tensor
    activations: dict[Address, Tensor]
    delta_outputs: dict[Address, Tensor]
    importance: dict[Address, Tensor] | None

    @property
    def n_positions(self) -> int:
        return self.tokens.numel()

    def weighted(self, address: Address) -> Tensor:
        """ã = activation × importance [P, C]: a component in the role of a source."""
        y = self.activations[address]
        return y if self.importance is None else y * self.importance[address]


def deltas(decomposition: Decomposition) -> dict[Address, Tensor]:
    """Δᵀ [d_in, d_out] of every site, formed in float64: it is a small difference of large numbers."""
    result = {}
    for address in decomposition.addresses:
        weight = decomposition.target.linear(address).weight.detach()
        product = decomposition.V(address).detach().double() @ decomposition.U(address).detach().double()
        result[address] = (weight.double().T - product).to(weight.dtype)
    return result


@torch.no_grad()
def capture(
    decomposition: Decomposition,
    tokens: Tensor,
    delta: DeltaMode,
    delta_weights: Mapping[Address, Tensor],
    *,
    need_importance: bool = True,
) -> Capture:
    """Run the attribution forward on ``tokens`` [B, T].

    With delta nodes that is the target's own pass; without, components only, and the causal
    importances come from a second pass, the target's, in either case.
    """
    target = decomposition.target
    inputs: dict[Address, Tensor] = {}
    activations: dict[Address, Tensor] = {}
    trace = Trace()

    def exact(address: Address, x: Tensor) -> Tensor:
        if address not in decomposition.n_components:
            return target.linear(address)(x)
        inputs[address] = x
        activations[address] = x @ decomposition.V(address)
        return target.linear(address)(x)

    def components_only(address: Address, x: Tensor) -> Tensor:
        if address not in decomposition.n_components:
            return target.linear(address)(x)
        activations[address] = x @ decomposition.V(address)
        y = activations[address] @ decomposition.U(address)
        bias = decomposition.bias(address)
        return y if bias is None else y + bias

    logits = target(tokens, site=exact if delta == "node" else components_only, trace=trace)
    importance = None
    if need_importance:
        if delta == "node":
            importance = decomposition.causal_importance(inputs, activations)
        else:
            importance = decomposition.causal_importance(decomposition.clean_pass(tokens)[1])
    delta_outputs = {a: (x @ delta_weights[a]).flatten(0, 1) for a, x in inputs.items()}
    return Capture(
        tokens,
        trace,
        logits.flatten(0, 1),
        {a: y.flatten(0, 1) for a, y in activations.items()},
        delta_outputs,
        None if importance is None else {a: g.flatten(0, 1) for a, g in importance.items()},
    )
