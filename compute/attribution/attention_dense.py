"""Queries and keys → attention, when so many sources are alive that a matrix for each position pays.

The effect J of an entry is linear in U_s, so that for each position p and head there is a matrix
D(p) [d_head, d_head] with Σ J = D(p) U_s,h (notation of compute/attribution/attention.py)::

    queries  D(p) = c [Σ_k A(p, k) v(k) k(k)ᵀ − z(p) (A k)(p)ᵀ] R_p
    keys     D(p) = c [v(p) (Aᵀ q)(p)ᵀ − Σ_q A(q, p) z(q) q(q)ᵀ] R_p

and Z_s = (Σ_p ã_s(p) D(p)) U_s. For attr_abs the same is done with the row vectors that one target
reads: S_t V_tᵀ D(p) for queries; for keys, where the sign belongs to the query position,
c [(V_t·v(p)) (Aᵀ S_t q)(p) − (Aᵀ S_t (V_t·z) q)(p)]ᵀ R_p. The cost does not depend on how many
sources are alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compute.targets.model import rotate_half

Role = Literal["query", "key"]
#: Elements of the [targets, positions, H · d_head] buffers.
_BUFFER_ELEMENTS = 2**22


@dataclass(frozen=True)
class DenseAttention:
    """One attention layer on one batch, every tensor [B, H, T, …] with one head per query head.

    ``rotary`` are the tables (cos, sin) [T, d_head]; ``scale`` is c.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    mixed: Tensor
    pattern: Tensor
    pattern_by_key: Tensor
    rotary: tuple[Tensor, Tensor] | None
    scale: float

    def signed(self, role: Role, weighted: Tensor, U: Tensor) -> Tensor:
        """Z [C, H · d_head] from ã [P, C] and U [C, H, d_head]."""
        matrices = self._matrices(role)  # [B, H, T, d_head, d_head]
        n_heads, d_head = matrices.shape[1], matrices.shape[-1]
        Z = U.new_empty(U.shape)
        for head in range(n_heads):
            total = weighted.T @ matrices[:, head].reshape(len(weighted), -1)
            Z[:, head] = torch.einsum("sij,sj->si", total.view(-1, d_head, d_head), U[:, head])
        return Z.flatten(1).mul_(self.scale)

    def absolute(self, role: Role, weighted: Tensor, U: Tensor, V: Tensor, signs: Tensor) -> Tensor:
        """attr_abs [C, n_targets] from ã [P, C], U [C, H, d_head], V [H · d_head, n] and signs [P, n]."""
        n_heads, d_head = U.shape[1:]
        read = V.view(n_heads, d_head, -1)
        block = U.new_empty(len(U), V.shape[1])
        reads = self._query_reads if role == "query" else self._key_reads
        step = max(1, _BUFFER_ELEMENTS // (len(weighted) * n_heads * d_head))
        for targets, x in reads(read, signs.view(*self.queries.shape[::2], -1), step):
            # x [n, B, H, T, d_head] → [n, P, H · d_head]
            flat = self._rotated_back(x).transpose(2, 3).reshape(len(x), len(weighted), -1)
            block[:, targets] = torch.einsum("tsd,sd->st", weighted.T @ flat, U.flatten(1))
        return block.mul_(self.scale)

    def _rotated_back(self, x: Tensor) -> Tensor:
        """xᵀ R_p for vectors x [..., T, d_head]."""
        if self.rotary is None:
            return x
        cos, sin = self.rotary
        return x * cos - rotate_half(x) * sin

    def _matrices(self, role: Role) -> Tensor:
        """D(p) / c, [B, H, T, d_head, d_head]."""
        if role == "query":
            outer = (self.values[..., :, None] * self.keys[..., None, :]).flatten(-2)
            first = (self.pattern @ outer).view(*self.values.shape, -1)
            matrices = first - self.mixed[..., :, None] * (self.pattern @ self.keys)[..., None, :]
        else:
            outer = (self.mixed[..., :, None] * self.queries[..., None, :]).flatten(-2)
            second = (self.pattern_by_key @ outer).view(*self.values.shape, -1)
            first = self.values[..., :, None] * (self.pattern_by_key @ self.queries)[..., None, :]
            matrices = first - second
        if self.rotary is None:
            return matrices
        cos, sin = (table[:, None] for table in self.rotary)
        return matrices * cos - rotate_half(matrices) * sin

    def _query_reads(self, read: Tensor, signs: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
        """S_t V_tᵀ D(p) / c without the rotation, [n, B, H, T, d_head] for runs of targets."""
        for targets in _runs(read.shape[-1], step):
            values_read = torch.einsum("bhti,hin->nbht", self.values, read[..., targets])
            mixed_read = torch.einsum("bhti,hin->nbht", self.mixed, read[..., targets])
            first = self.pattern @ (values_read[..., None] * self.keys)
            second = mixed_read[..., None] * (self.pattern @ self.keys)
            yield targets, (first - second) * signs[..., targets].permute(2, 0, 1)[:, :, None, :, None]

    def _key_reads(self, read: Tensor, signs: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
        for targets in _runs(read.shape[-1], step):
            sign = signs[..., targets].permute(2, 0, 1)[:, :, None, :]
            values_read = torch.einsum("bhti,hin->nbht", self.values, read[..., targets])
            mixed_read = torch.einsum("bhti,hin->nbht", self.mixed, read[..., targets]) * sign
            first = values_read[..., None] * (self.pattern_by_key @ (sign[..., None] * self.queries))
            yield targets, first - self.pattern_by_key @ (mixed_read[..., None] * self.queries)


def _runs(n: int, step: int) -> Iterator[slice]:
    for low in range(0, n, step):
        yield slice(low, min(low + step, n))
