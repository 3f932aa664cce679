"""One prompt's forward pass without gradients, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compute.address import POSITION, Address
from compute.attribution.definition import DefinitionDelta
from compute.attribution.prompt_data import DELTA_INDEX
from compute.decomposition.model import Decomposition
from compute.targets.model import Trace


@dataclass(frozen=True)
class PromptPass:
    """The attribution forward on one prompt, without gradients.

    ``activations`` y and ``importance`` g [T, C] by site; ``site_outputs`` [T, d_out] of q and k
    where they are normalised per head; ``delta_outputs`` x Δᵀ [T, d_out] (mode ``node`` only);
    ``logits`` of this pass, ``target_logits`` of the target model and ``ci_logits`` of the model
    whose components are masked by g, all [T, vocab]. Tensors in ``trace`` have a batch of one.
    """

    tokens: Tensor
    trace: Trace
    activations: dict[Address, Tensor]
    importance: dict[Address, Tensor]
    site_outputs: dict[Address, Tensor]
    delta_outputs: dict[Address, Tensor]
    logits: Tensor
    target_logits: Tensor
    ci_logits: Tensor


@torch.no_grad()
def run_prompt(
    decomposition: Decomposition,
    tokens: Tensor,
    delta: DefinitionDelta,
    importance: Mapping[Address, Tensor] | None = None,
) -> PromptPass:
    """Run ``tokens`` [T]; ``importance`` [T, C] by site replaces the decomposition's own."""
    target = decomposition.target
    tokens = _checked_tokens(decomposition, tokens)
    inputs: dict[Address, Tensor] = {}
    activations: dict[Address, Tensor] = {}
    outputs: dict[Address, Tensor] = {}
    keep_outputs = target.config.qk_norm
    trace = Trace()

    def site(address: Address, x: Tensor) -> Tensor:
        decomposed = address in decomposition.n_components
        if decomposed:
            inputs[address] = x
            activations[address] = x @ decomposition.V(address)
        if decomposed and delta == "off":
            y = activations[address] @ decomposition.U(address)
            bias = decomposition.bias(address)
            y = y if bias is None else y + bias
        else:
            y = target.linear(address)(x)
        if keep_outputs and address.projection in ("q", "k"):
            outputs[address] = y[0]
        return y

    logits = target_logits = target(tokens[None], site=site, trace=trace)
    target_inputs = inputs
    if delta == "off":
        target_logits, target_inputs = decomposition.clean_pass(tokens[None])
    if importance is None:
        known = activations if delta != "off" else None
        batched = decomposition.causal_importance(target_inputs, known)
        importance = {address: g[0] for address, g in batched.items()}
    else:
        importance = _checked_importance(decomposition, importance, len(tokens))
    masked = decomposition.site_function({a: g[None].to(logits) for a, g in importance.items()})
    ci_logits = target(tokens[None], site=masked)
    deltas = {}
    if delta == "node":
        deltas = {a: _delta_output(decomposition, a, x[0]) for a, x in inputs.items()}
    return PromptPass(
        tokens,
        trace,
        {a: y[0] for a, y in activations.items()},
        dict(importance),
        outputs,
        deltas,
        logits[0],
        target_logits[0],
        ci_logits[0],
    )


def _checked_tokens(decomposition: Decomposition, tokens: Tensor) -> Tensor:
    vocabulary = decomposition.target.config.vocab_size
    if tokens.dim() != 1 or not 1 <= len(tokens) <= np.iinfo(np.int16).max:
        raise ValueError(f"a prompt is 1 to {np.iinfo(np.int16).max} tokens in one row")
    if int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary:
        raise ValueError(f"token ids are 0 to {vocabulary - 1}")
    return tokens.to(decomposition.target.token_embedding.weight.device, torch.long)


def _checked_importance(
    decomposition: Decomposition, importance: Mapping[Address, Tensor], length: int
) -> dict[Address, Tensor]:
    device = decomposition.target.token_embedding.weight.device
    result = {}
    for address, count in decomposition.n_components.items():
        g = importance.get(address)
        if g is None or g.shape != (length, count):
            raise ValueError(f"the importance of {address} must be given as [{length}, {count}]")
        result[address] = g.to(device)
    return result


def _delta_output(decomposition: Decomposition, address: Address, x: Tensor) -> Tensor:
    """x Δᵀ, computed in float64: it is a small difference of large numbers. Δ itself is not formed."""
    wide = x.double()
    explained = (wide @ decomposition.V(address).double()) @ decomposition.U(address).double()
    return (wide @ decomposition.target.linear(address).weight.double().T - explained).to(x.dtype)


def vectors_at(decomposition: Decomposition, forward: PromptPass, address: Address, kind: int) -> Tensor:
    """The output of a site's delta, or its bias, at every position: [T, d_out]."""
    if kind == DELTA_INDEX:
        return forward.delta_outputs[address]
    bias = decomposition.bias(address)
    assert bias is not None
    return bias.detach().expand(len(forward.tokens), -1)


def embedded(decomposition: Decomposition, forward: PromptPass, address: Address) -> Tensor:
    """The token embeddings, or the learned positions, of the prompt: [T, d_model]."""
    target, tokens = decomposition.target, forward.tokens
    if address != POSITION:
        return target.token_embedding.weight.detach()[tokens]
    assert target.position_embedding is not None
    return target.position_embedding.weight.detach()[: len(tokens)]
