"""Losses of parameter decomposition, and the masks they are taken under.

Formulas as in the public parameter-decomposition code (stochastic parameter decomposition, Bushnaq
et al. 2025, arXiv:2506.20790). N is the number of positions of a batch, laid out as [B, T, …].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compute.address import Address
from compute.decomposition.config import ReconstructionTerm
from compute.decomposition.model import Decomposition
from compute.decomposition.sigmoids import SLOPE


def faithfulness(decomposition: Decomposition) -> Tensor:
    """‖W − Σ U_c V_cᵀ‖² summed over sites, per weight entry."""
    squared: list[Tensor] = []
    entries = 0
    for address in decomposition.addresses:
        delta = decomposition.delta(address)
        squared.append(delta.square().sum())
        entries += delta.numel()
    return torch.stack(squared).sum() / entries


def importance_minimality(powered_sums: Mapping[Address, Tensor], positions: int, frequency: float) -> Tensor:
    """Σ over sites and components of m + frequency · m · log2(1 + S), with S = Σ_positions (ci_upper + eps)^p
    [C] per site and m = S / positions."""
    total = torch.zeros((), device=next(iter(powered_sums.values())).device)
    for powered in powered_sums.values():
        mean = powered / positions
        total = total + mean.sum()
        if frequency:
            total = total + frequency * (mean * torch.log2(1 + powered)).sum()
    return total


def kl_per_sequence(target_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(target ‖ model) in nats, mean over the positions of each sequence: [B]."""
    expected = F.log_softmax(target_logits.float(), -1)
    actual = F.log_softmax(logits.float(), -1)
    return (expected.exp() * (expected - actual)).sum(-1).mean(-1)


@dataclass(frozen=True)
class MaskDraw:
    """The random part of one training batch, independent of the importances.

    ``noise`` [B, T, C]: mask = ci + (1 − ci)·noise; zero where the importances are the masks.
    ``delta_masks`` and ``routing`` [B, T, 1] as in :meth:`Decomposition.site_function`.
    """

    noise: dict[Address, Tensor]
    delta_masks: dict[Address, Tensor]
    routing: dict[Address, Tensor]


def draw_masks(
    decomposition: Decomposition,
    terms: tuple[ReconstructionTerm, ...],
    length: int,
    generator: torch.Generator,
) -> MaskDraw:
    """Noise, delta masks and routing for the batch whose sequences the terms share, in order."""
    addresses = decomposition.addresses
    batch = sum(term.sequences for term in terms)
    device = decomposition.V(addresses[0]).device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device).to(device)

    noise = {a: torch.zeros(batch, length, decomposition.n_components[a], device=device) for a in addresses}
    deltas = torch.zeros(len(addresses), batch, length, 1, device=device)
    routes = torch.ones(len(addresses), batch, length, 1, device=device)
    first = 0
    for term in terms:
        rows = slice(first, first + term.sequences)
        if term.masks == "stochastic":
            for address in addresses:
                noise[address][rows] = uniform(term.sequences, length, decomposition.n_components[address])
            if term.delta:
                deltas[:, rows] = uniform(len(addresses), term.sequences, length, 1)
        routes[:, rows] = _routing(term, addresses, length, uniform)
        first += term.sequences
    return MaskDraw(
        noise,
        {address: deltas[i] for i, address in enumerate(addresses)},
        {address: routes[i] for i, address in enumerate(addresses)},
    )


def _routing(
    term: ReconstructionTerm, addresses: tuple[Address, ...], length: int, uniform: Callable[..., Tensor]
) -> Tensor:
    """0 or 1 for each site, sequence and position of a term, [n_sites, sequences, T, 1]."""
    n = len(addresses)
    if term.routing == "all":
        return torch.ones(n, term.sequences, length, 1, device=uniform(1).device)
    if term.routing == "subset":
        size = (uniform(1, term.sequences, length, 1) * n).floor() + 1
        rank = uniform(n, term.sequences, length, 1).argsort(0).argsort(0)
        return (rank < size).float()
    chosen = uniform(1, term.sequences, 1, 1).expand(1, term.sequences, length, 1)
    if term.routing == "layerwise":
        chosen = uniform(1, term.sequences, length, 1)
        site = torch.arange(n, device=chosen.device).view(n, 1, 1, 1)
        return (site == (chosen * n).floor()).float()
    blocks = sorted({address.block for address in addresses if address.block is not None})
    place = torch.tensor(
        [blocks.index(a.block) for a in addresses if a.block is not None], device=chosen.device
    )
    return (place.view(n, 1, 1, 1) == (chosen * len(blocks)).floor()).float()


def _masks_forward(z: Tensor, noise: Tensor, p: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    lower = z.clamp(0, 1)
    upper = torch.where(z > 1, 1 + SLOPE * (z - 1), lower)
    return lower + (1 - lower) * noise, torch.exp(p * torch.log(upper + eps)).flatten(0, -2).sum(0)


def _masks_backward(
    z: Tensor, noise: Tensor, p: Tensor, eps: float, mask_gradient: Tensor, sum_gradient: Tensor
) -> Tensor:
    inner = mask_gradient * (1 - noise)
    leak = torch.where(inner < 0, SLOPE * inner, 0.0)
    upper = torch.where(z > 1, 1 + SLOPE * (z - 1), z.clamp(0, 1))
    penalty = p * torch.exp((p - 1) * torch.log(upper + eps)) * sum_gradient
    return torch.where(z > 1, SLOPE * penalty, torch.where(z > 0, inner + penalty, leak))


class MaskAndPenalty(torch.autograd.Function):
    """From z [B, T, C] to the mask lower + (1 − lower)·noise [B, T, C] and Σ_positions (upper + eps)^p [C].

    The composition of ``lower_leaky``, ``upper_leaky`` and the power, fused by hand: element-wise
    work on [positions, C] is a third of a step when autograd does it operation by operation.
    """

    forward_kernel: Callable[..., tuple[Tensor, Tensor]] = staticmethod(_masks_forward)
    backward_kernel: Callable[..., Tensor] = staticmethod(_masks_backward)

    @staticmethod
    def forward(ctx: Any, z: Tensor, noise: Tensor, p: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z, noise, p)
        ctx.eps = eps
        return MaskAndPenalty.forward_kernel(z, noise, p, eps)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        z, noise, p = ctx.saved_tensors
        mask_gradient, sum_gradient = grad_outputs
        gradient = MaskAndPenalty.backward_kernel(
            z, noise, p, ctx.eps, mask_gradient.contiguous(), sum_gradient.contiguous()
        )
        return gradient, None, None, None

    @classmethod
    def enable_compilation(cls) -> None:
        """Compile both kernels; warns and stays eager where no compiler works."""
        try:
            forward = torch.compile(_masks_forward, dynamic=True)
            backward = torch.compile(_masks_backward, dynamic=True)
            z, p = torch.zeros(2, 3, 5), torch.tensor(0.7)
            forward(z, z, p, 1e-12)
            backward(z, z, p, 1e-12, z, z[0, 0])
        except Exception as error:  # noqa: BLE001  (whatever the compiler's tool chain raises)
            warnings.warn(f"element-wise kernels stay uncompiled: {str(error)[:200]}", stacklevel=2)
            return
        cls.forward_kernel, cls.backward_kernel = staticmethod(forward), staticmethod(backward)
