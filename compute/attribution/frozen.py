"""Frozen-norm attributions, derived from the stored sums and the weights alone.

With the norm's scale held constant a source's attribution is linear, and all of a read point's rows
are Γ Ũ_s · w_s: the stored weight w_s = Σ ã_s/σ times a vector known from the weights (ΓẼ_v for an
embedding, Γb̃ for a bias). Only deltas, whose output differs at each position, are stored whole.
There is none of this where matrices are left whole: then a path may cross several norms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compute.attribution.sums import AttributionSums, ReadPointLayout, has_frozen
from compute.decomposition.model import Decomposition


def frozen_rows(decomposition: Decomposition, sums: AttributionSums, point: ReadPointLayout) -> Tensor:
    """Frozen-norm Z [n_rows, d_in] of a read point; where no norm stands before it, that is Z itself.

    Raises ``ValueError`` for sums without frozen-norm attributions.
    """
    if not has_frozen(sums.layouts):
        raise ValueError("there are no frozen-norm attributions where matrices are left whole")
    if point.operation != "norm":
        return sums.arrays[f"signed/{point.name}"]
    target = decomposition.target
    norm = target.norm_of(point.name)
    weights = sums.arrays[f"frozen_weight/{point.name}"]
    deltas = iter(sums.arrays[f"frozen_delta/{point.name}"])
    parts: list[Tensor] = []
    for block in point.blocks:
        if block.kind == "delta":
            parts.append(next(deltas)[None])
            continue
        if block.kind == "component":
            vectors = decomposition.U(block.address)
        elif block.kind == "bias":
            bias = decomposition.bias(block.address)
            assert bias is not None
            vectors = bias[None]
        else:
            table = target.token_embedding if block.kind == "embed" else target.position_embedding
            assert table is not None
            vectors = table.weight
        vectors = vectors.detach()
        if norm.centred:
            vectors = vectors - vectors.mean(-1, keepdim=True)
        rows = slice(block.offset, block.offset + block.count)
        parts.append(vectors * norm.weight.detach() * weights[rows, None])
    return torch.cat(parts)
