"""Attributions into a read point by batched automatic differentiation, whatever the operation.

The same sums as the closed forms, for what has none: queries and keys that are normalised per head,
and everything that is reached through matrices left whole, over any number of blocks. The cut forward
of the definition is run once a batch; then one backward pass per direction of the read point's space
instead of one per target: with x the vector that the read point's sites read, the gradients of
Σ_p x(p) · e_j for an orthonormal basis e_j of the span of all readers' V give
Z = Σ_j (gradient · source) e_jᵀ, and Z V_t is exact for every reader's t. There are
min(d_in, number of targets) of them. attr_abs needs a pass per target, since signs differ by target
and position. Passes are vectorised, many cotangents at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from compute.address import OUTPUT
from compute.attribution.capture import Capture
from compute.attribution.definition import CutPass
from compute.attribution.read_point import ReadPointSums
from compute.attribution.sums import ReadPointLayout, RowBlock
from compute.decomposition.model import Decomposition

#: Cotangents are batched up to about this many elements of the widest vector on the way.
BATCH_ELEMENTS: Final = {"cpu": 2**22, "cuda": 2**24}


class FallbackOperation:
    """Batched vector-Jacobian products into one read point."""

    def __init__(self, decomposition: Decomposition, point: ReadPointLayout) -> None:
        self.decomposition = decomposition
        self.point = point
        directions = [
            decomposition.target.unembedding.weight.detach().T
            if reader == OUTPUT
            else decomposition.V(reader).detach()
            for reader in point.readers
        ]
        V = torch.cat(directions, 1)
        eye = torch.eye(point.d_in, dtype=V.dtype, device=V.device)
        #: Orthonormal columns that span what the readers can see.
        self.basis = eye if V.shape[1] >= point.d_in else torch.linalg.qr(V)[0]

    @property
    def n_directions(self) -> int:
        """Backward passes for ``attr``."""
        return self.basis.shape[1]

    def add(self, out: ReadPointSums, capture: Capture, cut: CutPass, *, pseudo_sources: bool = True) -> None:
        """Add one batch, whose definition's forward pass is ``cut``.

        ``pseudo_sources=False`` leaves out what embeddings contribute (forward_mode.py adds it), and
        with it the way back through all blocks.
        """
        blocks = [_Rows.of(block, capture) for block in self.point.blocks]
        if self.point.operation == "norm" and out.has_frozen:
            self._add_frozen(out, capture, blocks)
        if not pseudo_sources:
            blocks = [rows for rows in blocks if rows.place is None]
        if not blocks:
            return
        x = cut.inputs[self.point.readers[0]]
        leaves = [cut.leaves[rows.block.address, rows.block.kind] for rows in blocks]

        def contributions(seeds: Tensor) -> list[Tensor]:
            """Σ over positions of gradient × source for each seed [n, B, T, d_in]: [n, rows] by block."""
            gradients = torch.autograd.grad(x, leaves, seeds, retain_graph=True, is_grads_batched=True)
            return [
                rows.sum(gradient * leaf.detach())
                for gradient, leaf, rows in zip(gradients, leaves, blocks, strict=True)
            ]

        patterns = capture.n_positions * capture.tokens.shape[1] * self.decomposition.target.config.n_heads
        elements = BATCH_ELEMENTS.get(x.device.type, 2**22)
        chunk = max(1, elements // max(patterns, *(tensor.numel() for tensor in (x, *leaves))))
        for columns in _chunks(self.basis.shape[1], chunk):
            basis = self.basis[:, columns].T
            found = contributions(basis[:, None, None].expand(-1, *x.shape))
            for rows, contribution in zip(blocks, found, strict=True):
                out.add_signed(rows.where, contribution.T @ basis)
        if out.abs_targets is None:
            return
        V, signs = out.abs_targets.V, out.abs_targets.activations(capture).sign()
        parts: list[list[Tensor]] = [[] for _ in blocks]
        for columns in _chunks(V.shape[1], chunk):
            seeds = signs[:, columns].T.reshape(-1, *x.shape[:2], 1) * V[:, columns].T[:, None, None]
            for part, contribution in zip(parts, contributions(seeds), strict=True):
                part.append(contribution)
        for rows, part in zip(blocks, parts, strict=True):
            out.add_abs(rows.where, torch.cat(part).T)

    def _add_frozen(self, out: ReadPointSums, capture: Capture, blocks: list[_Rows]) -> None:
        """The frozen-norm sums, which are linear and need no gradient: Σ ã/σ, and Σ of the deltas / σ."""
        scale = capture.trace.norms[self.point.name].inverse_scale.flatten()
        norm = self.decomposition.target.norm_of(self.point.name)
        n_deltas = 0
        for rows in blocks:
            if rows.block.kind == "delta":
                total = scale @ capture.delta_outputs[rows.block.address]
                total = total - total.mean() if norm.centred else total
                out.add_frozen_delta(n_deltas, total * norm.weight.detach())
                n_deltas += 1
            elif rows.block.kind == "component":
                out.add_frozen_weight(rows.where, scale @ capture.weighted(rows.block.address))
            else:
                out.add_frozen_weight(rows.where, rows.sum(scale.view(1, *capture.tokens.shape, 1))[0])


def _chunks(n: int, size: int) -> Iterator[slice]:
    for low in range(0, n, size):
        yield slice(low, min(low + size, n))


@dataclass(frozen=True)
class _Rows:
    """The rows of one source block that a batch adds to.

    ``where`` they are: a slice, or, of tokens and positions, just the rows that occur. ``place`` [P] is
    which of those each position belongs to; ``importance`` [B, T, C] weights components.
    """

    block: RowBlock
    where: slice | Tensor
    place: Tensor | None
    importance: Tensor | None

    @classmethod
    def of(cls, block: RowBlock, capture: Capture) -> _Rows:
        tokens = capture.tokens
        if block.kind in ("embed", "position"):
            ids = tokens if block.kind == "embed" else torch.arange(tokens.shape[1], device=tokens.device)
            seen, place = torch.unique(ids.expand(tokens.shape), return_inverse=True)
            return cls(block, seen + block.offset, place.flatten(), None)
        importance = None
        if block.kind == "component" and capture.importance is not None:
            importance = capture.importance[block.address].unflatten(0, tokens.shape)
        return cls(block, slice(block.offset, block.offset + block.count), None, importance)

    def sum(self, product: Tensor) -> Tensor:
        """Gradient × source [n, B, T, width] (positions: [n, T, width]) summed to the rows: [n, rows]."""
        if self.block.kind == "component":
            return (product if self.importance is None else product * self.importance).sum((1, 2))
        by_position = product.sum(-1)
        if self.place is None:
            return by_position.flatten(1).sum(1, keepdim=True)
        assert isinstance(self.where, Tensor)
        place = self.place[: by_position[0].numel()]  # learned positions have no batch
        total = by_position.new_zeros(len(product), len(self.where))
        return total.index_add_(1, place, by_position.flatten(1))
