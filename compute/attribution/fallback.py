"""Attributions into a read point by batched automatic differentiation, whatever the operation.

The same sums as the closed forms, for what has none: queries and keys that are normalised per head,
and everything that is reached through matrices left whole, over any number of blocks. The cut forward
of the definition is run once a batch; then one backward pass per direction of the read point's space instead of one per target: with x the
vector that the read point's sites read, the gradients of Σ_p x(p) · e_j for an orthonormal basis e_j
of the span of all readers' V give Z = Σ_j (gradient · source) e_jᵀ, and Z V_t is exact for every
reader's t. There are min(d_in, number of targets) of them. attr_abs needs a pass per target, since
signs differ by target and position. Passes are vectorised, many cotangents at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from compute.address import OUTPUT
from compute.attribution.capture import Capture
from compute.attribution.definition import CutPass
from compute.attribution.read_point import ReadPointSums
from compute.attribution.sums import ReadPointLayout, RowBlock
from compute.decomposition.model import Decomposition

#: Cotangents are batched up to about this many elements of the widest source.
BATCH_ELEMENTS: Final = 2**24


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

    def add(self, out: ReadPointSums, capture: Capture, cut: CutPass) -> None:
        """Add one batch, whose definition's forward pass is ``cut``."""
        blocks = self.point.blocks
        x = cut.inputs[self.point.readers[0]]
        leaves = [cut.leaves[block.address, block.kind] for block in blocks]

        def contributions(seeds: Tensor) -> list[Tensor]:
            """Σ over positions of gradient × source for each seed [n, B, T, d_in]: [n, rows] by block."""
            gradients = torch.autograd.grad(x, leaves, seeds, retain_graph=True, is_grads_batched=True)
            return [
                _by_row(gradient * leaf.detach(), block, capture)
                for gradient, leaf, block in zip(gradients, leaves, blocks, strict=True)
            ]

        patterns = capture.n_positions * capture.tokens.shape[1] * self.decomposition.target.config.n_heads
        chunk = max(1, BATCH_ELEMENTS // max(patterns, *(tensor.numel() for tensor in (x, *leaves))))
        for columns in _chunks(self.basis.shape[1], chunk):
            basis = self.basis[:, columns].T
            found = contributions(basis[:, None, None].expand(-1, *x.shape))
            for block, contribution in zip(blocks, found, strict=True):
                out.add_signed(_rows_of(block), contribution.T @ basis)
        if self.point.operation == "norm" and out.has_frozen:
            self._add_frozen(out, capture)
        if out.abs_targets is None:
            return
        V, signs = out.abs_targets.V, out.abs_targets.activations(capture).sign()
        parts: list[list[Tensor]] = [[] for _ in blocks]
        for columns in _chunks(V.shape[1], chunk):
            seeds = signs[:, columns].T.reshape(-1, *x.shape[:2], 1) * V[:, columns].T[:, None, None]
            for part, contribution in zip(parts, contributions(seeds), strict=True):
                part.append(contribution)
        for block, part in zip(blocks, parts, strict=True):
            out.add_abs(_rows_of(block), torch.cat(part).T)

    def _add_frozen(self, out: ReadPointSums, capture: Capture) -> None:
        """The frozen-norm sums, which are linear and need no gradient: Σ ã/σ, and Σ of the deltas / σ."""
        scale = capture.trace.norms[self.point.name].inverse_scale.flatten()
        norm = self.decomposition.target.norm_of(self.point.name)
        n_deltas = 0
        for block in self.point.blocks:
            if block.kind == "delta":
                total = scale @ capture.delta_outputs[block.address]
                total = total - total.mean() if norm.centred else total
                out.add_frozen_delta(n_deltas, total * norm.weight.detach())
                n_deltas += 1
            elif block.kind == "component":
                out.add_frozen_weight(_rows_of(block), scale @ capture.weighted(block.address))
            else:
                product = scale.view(1, *capture.tokens.shape, 1)
                out.add_frozen_weight(_rows_of(block), _by_row(product, block, capture)[0])


def _rows_of(block: RowBlock) -> slice:
    return slice(block.offset, block.offset + block.count)


def _chunks(n: int, size: int) -> Iterator[slice]:
    for low in range(0, n, size):
        yield slice(low, min(low + size, n))


def _by_row(product: Tensor, block: RowBlock, capture: Capture) -> Tensor:
    """Sum gradient × source [n, B, T, width] (positions: [n, T, width]) to the block's rows: [n, rows]."""
    if block.kind == "component":
        if capture.importance is not None:
            product = product * capture.importance[block.address].view(product.shape[1:])
        return product.sum((1, 2))
    by_position = product.sum(-1).flatten(1)
    if block.kind in ("delta", "bias"):
        return by_position.sum(1, keepdim=True)
    ids = capture.tokens.flatten()
    if block.kind == "position":
        ids = torch.arange(by_position.shape[1], device=ids.device) % capture.tokens.shape[1]
    return by_position.new_zeros(len(product), block.count).index_add_(1, ids, by_position)
