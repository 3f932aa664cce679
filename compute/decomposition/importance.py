"""Causal-importance networks of single sites: from what a site sees to a number per component.

Named as in the public parameter-decomposition code. All return z [..., C] before the sigmoid
(compute/decomposition/sigmoids.py); compute/decomposition/global_importance.py has those kinds that
see all sites.

=============  ==============================  ===========================================
kind           input                           network
=============  ==============================  ===========================================
``mlp``        the component's activation a_c  one MLP 1 → hidden → 1 for each component
``vector_mlp`` the site's input x              one MLP d_in → hidden → 1 for each component
``shared_mlp`` the site's input x              one MLP d_in → hidden → C for the site
=============  ==============================  ===========================================

Runs of the public code do not standardise inputs: theirs have a mean of 0 and a scale of 1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compute.decomposition.importance_config import SiteKind


class ImportanceFunction(nn.Module):
    """The causal-importance network of one site.

    Inputs are standardised, (input − ``mean``) · ``scale``, with constants that :meth:`standardise`
    sets from data once: o and down sites see inputs so small that a network on the raw values would
    start, and long remain, a constant.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, kind: SiteKind, d_in: int, n_components: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.kind: SiteKind = kind
        width = {"mlp": n_components, "vector_mlp": d_in, "shared_mlp": d_in}[kind]
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        if kind == "shared_mlp":
            sizes = [d_in, *hidden, n_components]
            shapes = list(pairwise(sizes))
            lead: tuple[int, ...] = ()
        else:
            sizes = [1 if kind == "mlp" else d_in, *hidden, 1]
            shapes = list(pairwise(sizes))
            lead = (n_components,)
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(*lead, i, o)) for i, o in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(*lead, o)) for _, o in shapes)

    def initialise(self, generator: torch.Generator, output_bias: float) -> None:
        """He-like weights; the last layer at half gain and ``output_bias``, so that all start half on."""
        last = len(self.weights) - 1
        with torch.no_grad():
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                gain = 0.5 if layer == last else math.sqrt(2)
                weight.normal_(0, gain / math.sqrt(weight.shape[-2]), generator=generator)
                bias.fill_(output_bias if layer == last else 0.0)

    @torch.no_grad()
    def standardise(self, x: Tensor, activations: Tensor) -> None:
        """Take mean and spread from data [n, d_in] and [n, C]; tiny spreads are not blown up."""
        seen = activations if self.kind == "mlp" else x
        spread = seen.std(0)
        self.mean.copy_(seen.mean(0))
        self.scale.copy_(1 / spread.clamp_min(0.2 * spread.median().clamp_min(1e-6)))

    def forward(self, x: Tensor, activations: Tensor) -> Tensor:
        """z [..., C] from the site's input x [..., d_in] and activations [..., C]."""
        if self.kind == "shared_mlp":
            hidden = (x - self.mean) * self.scale
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                hidden = F.linear(F.gelu(hidden) if layer else hidden, weight.T, bias)
            return hidden
        if self.kind == "mlp":
            hidden = ((activations - self.mean) * self.scale).unsqueeze(-1)
        else:
            hidden = ((x - self.mean) * self.scale).unsqueeze(-2)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = (
                torch.einsum("...ci,cio->...co", F.gelu(hidden), weight) + bias
                if layer
                else (
                    torch.einsum("...i,cio->...co", hidden.squeeze(-2), weight) + bias
                    if self.kind == "vector_mlp"
                    else hidden * weight.squeeze(-2) + bias
                )
            )
        return hidden.squeeze(-1)
