"""Where the components start."""

from __future__ import annotations

import torch
from torch import Tensor

from compute.decomposition.model import Decomposition
from compute.schedule import generator_at


@torch.no_grad()
def initialise_components(decomposition: Decomposition, kind: str, seed: int) -> None:
    """Set V and U of every site.

    ``exact``: with C ≥ d_in, V is a random tight frame (V Vᵀ = 1) and U = Vᵀ Wᵀ; with fewer
    components than inputs, U has orthonormal columns instead and V = Wᵀ Uᵀ, which is exact when
    C ≥ d_out. The two norms of each component are then made equal, so that one learning rate suits
    both. ``random``: V ~ N(0, 1/d_in), U ~ N(0, 1/C).
    """
    for number, address in enumerate(decomposition.addresses):
        generator = generator_at(seed, number, stream=2)
        weight = decomposition.target.linear(address).weight.float().T.cpu()
        d_in, d_out = weight.shape
        count = decomposition.n_components[address]
        if kind == "random":
            v: Tensor = torch.randn(d_in, count, generator=generator) / d_in**0.5
            u: Tensor = torch.randn(count, d_out, generator=generator) / count**0.5
        else:
            if count >= d_in:
                v = _orthonormal(count, d_in, generator).T
                u = v.T @ weight
            else:
                u = (
                    _orthonormal(count, d_out, generator)
                    if count >= d_out
                    else _orthonormal(d_out, count, generator).T
                )
                v = weight @ u.T
            balance = ((u.norm(dim=1) + 1e-6) / (v.norm(dim=0) + 1e-6)).sqrt()
            v, u = v * balance, u / balance[:, None]
        decomposition.V(address).copy_(v)
        decomposition.U(address).copy_(u)


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A random matrix [rows ≥ columns] with orthonormal columns."""
    q: Tensor = torch.linalg.qr(torch.randn(rows, columns, generator=generator))[0]
    return q
