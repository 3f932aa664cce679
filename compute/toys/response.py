"""How a decomposed toy model answers: to single features, to any inputs, and how far from its target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compute.address import Address
from compute.toys.config import ToyData
from compute.toys.decomposition import ToyDecomposition


@dataclass(frozen=True)
class Answers:
    """What happens on some inputs.

    ``outputs`` [n, F] are the target's, ``masked`` [n, F] those with every component multiplied by its
    importance and no delta. ``importance`` and ``activation`` (x V) are [n, C] for each site.
    """

    outputs: Tensor
    masked: Tensor
    importance: dict[Address, Tensor]
    activation: dict[Address, Tensor]


@torch.no_grad()
def answer(decomposition: ToyDecomposition, inputs: Tensor) -> Answers:
    """Run the target and the masked model on ``inputs`` [n, F]."""
    parts: list[Answers] = []
    for part in decomposition.batches(inputs):
        outputs, read = decomposition.clean_pass(part)
        importance = decomposition.causal_importance(read)
        masked = decomposition.target(part, decomposition.site_function(importance))
        parts.append(Answers(outputs, masked, importance, decomposition.activations(read)))
    sites = decomposition.n_components
    return Answers(
        torch.cat([part.outputs for part in parts]),
        torch.cat([part.masked for part in parts]),
        {site: torch.cat([part.importance[site] for part in parts]) for site in sites},
        {site: torch.cat([part.activation[site] for part in parts]) for site in sites},
    )


def single_features(decomposition: ToyDecomposition, value: float) -> Tensor:
    """Inputs [F, F] of which each has one feature at ``value`` and all others at zero."""
    weight = next(decomposition.target.parameters())
    n = decomposition.target.config.n_features
    return torch.eye(n, dtype=weight.dtype, device=weight.device) * value


def sample_inputs(data: ToyData, n_features: int, count: int, seed: int) -> Tensor:
    """Inputs [count, F] of the kind that the decomposition was trained on; always the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, n_features)
    values = torch.rand(shape, generator=generator) * (data.high - data.low) + data.low
    numbers = ("at_least_zero", "exactly_one", "exactly_two", "exactly_three", "exactly_four", "exactly_five")
    active = numbers.index(data.generation.removesuffix("_active"))
    draws = torch.rand(shape, generator=generator)
    if active == 0:
        on = draws < data.feature_probability
    else:
        chosen = draws.topk(min(active, n_features), dim=1).indices
        on = torch.zeros(shape, dtype=torch.bool).scatter_(
            1, chosen, torch.ones_like(chosen, dtype=torch.bool)
        )
    for group in data.synced if active == 0 else ():
        on[:, list(group)] = on[:, list(group)].any(1, keepdim=True)
    return values * on


@dataclass(frozen=True)
class SiteFit:
    """How well a site's components make up its matrix: ‖Δ‖², ‖W‖² and the number of entries of W.

    ``l0``: the mean number of components with importance above zero, over the inputs.
    """

    delta_square: float
    weight_square: float
    entries: int
    l0: float


@dataclass(frozen=True)
class Fit:
    """Mean squared errors of the outputs against the target's, over the inputs, and every site's own.

    ``nothing`` is the error with all components off, against which the others can be read. ``power``
    is the mean square of the target's outputs.
    """

    all_on: float
    with_deltas: float
    masked: float
    masked_with_deltas: float
    nothing: float
    power: float
    sites: dict[Address, SiteFit]


@torch.no_grad()
def measure(decomposition: ToyDecomposition, inputs: Tensor) -> Fit:
    """Compare the decomposed model with its target on ``inputs`` [n, F]."""
    sites = decomposition.n_components
    sums = torch.zeros(6, dtype=torch.float64)
    l0 = dict.fromkeys(sites, 0.0)
    for part in decomposition.batches(inputs):
        outputs, read = decomposition.clean_pass(part)
        importance = decomposition.causal_importance(read)
        whole = {site: torch.ones_like(part[:, :1]) for site in sites}
        off = {site: torch.zeros_like(value) for site, value in importance.items()}
        regimes = (
            decomposition.site_function(),
            decomposition.site_function(delta_masks=whole),
            decomposition.site_function(importance),
            decomposition.site_function(importance, whole),
            decomposition.site_function(off),
        )
        errors = [decomposition.target(part, regime) - outputs for regime in regimes]
        sums += torch.stack([error.double().square().sum().cpu() for error in (*errors, outputs)])
        for site, value in importance.items():
            l0[site] += float((value > 0).sum())
    all_on, with_deltas, masked, masked_with_deltas, nothing, power = (sums / inputs.numel()).tolist()
    fits = {site: _site_fit(decomposition, site, l0[site] / len(inputs)) for site in sites}
    return Fit(all_on, with_deltas, masked, masked_with_deltas, nothing, power, fits)


def _site_fit(decomposition: ToyDecomposition, site: Address, l0: float) -> SiteFit:
    weight = decomposition.target.linear(site).weight
    delta = decomposition.delta(site)
    return SiteFit(
        float(delta.double().square().sum()), float(weight.double().square().sum()), weight.numel(), l0
    )
