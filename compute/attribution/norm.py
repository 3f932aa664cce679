"""Residual stream → norm → read point, in closed form.

Notation: x̂ the normalised input and σ its scale, Γ = diag(γ) the norm's weight, β its shift;
tildes remove the mean over d (LayerNorm; nothing for RMSNorm). A source writes ã_s(p) U_s to the
residual stream. The Jacobian Γ/σ (I − x̂x̂ᵀ/d) gives

    Z_s = Γ Ũ_s · w_s − K_s / d,   w_s = Σ_p ã_s/σ,   K_s = Σ_p Γx̂ · ã_s (x̂·U_s)/σ

    attr_abs[t, s] = (V_t·ΓŨ_s) · Σ_p S_t ã_s/σ  −  (1/d) Σ_p S_t (y_t − V_t·β) · ã_s (x̂·U_s)/σ

with S = sign(y). The first terms alone are the attributions with the norm's scale held constant.
Token embeddings and positions are sources with ã = 1 at the positions where they stand; biases and
deltas are sources that are a vector at every position.

A norm is scale-free: the attributions of *all* its sources cancel but for y_t eps/σ², since
1 − |x̂|²/d = eps/σ². Where one embedding is the only source (block 0 of a model with rotary
positions) that remainder is the whole attribution. It is then computed from this formula, because
as a difference of the two terms above it would be rounding noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from compute.address import EMBED, POSITION, Address
from compute.attribution.capture import Capture
from compute.attribution.read_point import AbsTargets, ReadPointSums
from compute.attribution.sparse import Rows, row_sums, rows_by_id, sddmm, spmm
from compute.decomposition.model import Decomposition
from compute.targets.model import Norm


@dataclass
class Writers:
    """The decomposed sites that write to the residual stream, in forward order, and their components.

    A norm behind nothing that is left whole sees a first part of them, those upstream of it.
    """

    addresses: tuple[Address, ...]
    U: Tensor
    starts: tuple[int, ...]

    @classmethod
    def of(cls, decomposition: Decomposition) -> Writers:
        addresses = tuple(a for a in decomposition.addresses if a.writes_residual)
        starts = [0]
        for address in addresses:
            starts.append(starts[-1] + decomposition.n_components[address])
        d_model = decomposition.target.config.d_model
        none = decomposition.target.token_embedding.weight.detach().new_zeros(0, d_model)
        U = torch.cat([none, *(decomposition.U(a).detach() for a in addresses)])
        return cls(addresses, U, tuple(starts))


@dataclass
class WriterRows:
    """All writers' sparse sources of one batch, so that a prefix serves each norm."""

    rows: Rows
    #: Number of entries before each writer's first.
    nnz_starts: tuple[int, ...]

    def upstream(self, n_writers: int, starts: tuple[int, ...]) -> Rows:
        return self.rows.prefix(starts[n_writers], self.nnz_starts[n_writers])


class NormOperation:
    """The closed forms into one read point behind a norm."""

    def __init__(
        self,
        decomposition: Decomposition,
        norm: Norm,
        n_writers: int,
        writers: Writers,
        targets: AbsTargets | None,
    ) -> None:
        self.decomposition = decomposition
        self.centred = norm.centred
        self.gamma = norm.weight.detach()
        self.beta = None if norm.bias is None else norm.bias.detach()
        self.writers = writers
        self.n_writers = n_writers
        self.addresses = writers.addresses[:n_writers]
        self.U = writers.U[: writers.starts[n_writers]]
        self.targets = targets
        self.eps = norm.eps
        #: Whether token embeddings are all that this norm sees.
        self.lone_source = n_writers == 0 and decomposition.target.position_embedding is None

    def centre(self, x: Tensor) -> Tensor:
        """Without its mean where the norm removes it."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    @cached_property
    def scaled_U(self) -> Tensor:  # noqa: N802
        """ΓŨ [C_upstream, d]."""
        return self.centre(self.U) * self.gamma

    @cached_property
    def overlaps(self) -> Tensor:
        """ΓŨ · V [C_upstream, n_targets]."""
        assert self.targets is not None
        return self.scaled_U @ self.targets.V

    def add(self, out: ReadPointSums, capture: Capture, writer_rows: WriterRows | None) -> None:
        """Add one batch: components, then token and position embeddings, then biases and deltas."""
        inside = capture.trace.norms[out.layout.name]
        batch = _Batch(self, out, inside.normalised.flatten(0, 1), inside.inverse_scale.flatten(), capture)
        if self.n_writers:
            assert writer_rows is not None
            batch.add_components(writer_rows.upstream(self.n_writers, self.writers.starts))
        target = self.decomposition.target
        tokens = capture.tokens
        batch.add_lookup(EMBED, tokens.flatten(), target.token_embedding.weight.detach())
        if target.position_embedding is not None:
            length = tokens.shape[1]
            ids = torch.arange(length, device=tokens.device).repeat(len(tokens))
            batch.add_lookup(POSITION, ids, target.position_embedding.weight.detach())
        batch.add_biases()
        if self.n_writers and capture.delta_outputs:
            batch.add_deltas()


class _Batch:
    """One batch at one norm."""

    def __init__(
        self,
        op: NormOperation,
        out: ReadPointSums,
        normalised: Tensor,
        inverse_scale: Tensor,
        capture: Capture,
    ) -> None:
        self.op, self.out, self.capture = op, out, capture
        self.x_hat, self.inverse_scale = normalised, inverse_scale
        self.width = normalised.shape[1]
        self.scaled_x_hat = normalised * op.gamma
        if out.abs_targets is not None:
            y = out.abs_targets.activations(capture)
            self.signs = y.sign()
            self.magnitudes = y.abs() if op.beta is None else self.signs * (y - op.beta @ out.abs_targets.V)

    def add_components(self, rows: Rows) -> None:
        op, out = self.op, self.out
        scaled = rows.values * self.inverse_scale.index_select(0, rows.positions)
        along = scaled * sddmm(rows, op.U, self.x_hat)
        weights = row_sums(rows, scaled)
        Z = torch.addcmul(
            spmm(rows, along, self.scaled_x_hat).mul_(-1 / self.width), op.scaled_U, weights[:, None]
        )
        block = None
        if out.abs_targets is not None:
            block = spmm(rows, along, self.magnitudes).mul_(-1 / self.width)
            block.addcmul_(op.overlaps, spmm(rows, scaled, self.signs))
        for i, address in enumerate(op.addresses):
            part = slice(op.writers.starts[i], op.writers.starts[i + 1])
            here = out.rows(address, "component")
            assert here is not None
            out.add_signed(here, Z[part])
            out.add_frozen_weight(here, weights[part])
            if block is not None:
                out.add_abs(here, block[part])

    def add_lookup(self, address: Address, ids: Tensor, table: Tensor) -> None:
        """Sources that are the rows ``ids`` [P] of a ``table`` [n, d] of embeddings."""
        op, out = self.op, self.out
        block = out.rows(address, "embed" if address == EMBED else "position")
        assert block is not None
        seen, rows = rows_by_id(ids)
        scale = self.inverse_scale.index_select(0, rows.positions)
        weights = row_sums(rows, scale)
        here = seen + block.start
        out.add_frozen_weight(here, weights)
        if op.lone_source:
            remainder = op.eps * scale.square()
            out.add_signed(here, spmm(rows, remainder, self.scaled_x_hat))
            if out.abs_targets is not None:
                out.add_abs(here, spmm(rows, remainder, self.magnitudes))
            return
        vectors = table.index_select(0, seen)
        along = scale * (
            vectors.index_select(0, rows.row_of) * self.x_hat.index_select(0, rows.positions)
        ).sum(1)
        scaled_vectors = op.centre(vectors) * op.gamma
        Z = scaled_vectors * weights[:, None] - spmm(rows, along, self.scaled_x_hat) / self.width
        out.add_signed(here, Z)
        if out.abs_targets is not None:
            first = (scaled_vectors @ out.abs_targets.V).mul_(spmm(rows, scale, self.signs))
            out.add_abs(here, first.sub_(spmm(rows, along, self.magnitudes), alpha=1 / self.width))

    def add_biases(self) -> None:
        op, out = self.op, self.out
        for address in op.addresses:
            here = out.rows(address, "bias")
            bias = op.decomposition.bias(address)
            if here is None or bias is None:
                continue
            along = (self.x_hat @ bias) * self.inverse_scale
            total = self.inverse_scale.sum()
            scaled_bias = op.centre(bias) * op.gamma
            out.add_signed(here, (scaled_bias * total - (along @ self.scaled_x_hat) / self.width)[None])
            out.add_frozen_weight(here, total[None])
            if out.abs_targets is not None:
                first = (scaled_bias @ out.abs_targets.V) * (self.inverse_scale @ self.signs)
                out.add_abs(here, (first - (along @ self.magnitudes) / self.width)[None])

    def add_deltas(self) -> None:
        op, out = self.op, self.out
        outputs = torch.stack([self.capture.delta_outputs[a] for a in op.addresses], 1)  # [P, m, d]
        along = torch.einsum("pmd,pd->pm", outputs, self.x_hat) * self.inverse_scale[:, None]
        scaled = op.centre(outputs) * self.inverse_scale[:, None, None]
        frozen = scaled.sum(0) * op.gamma
        Z = frozen - (along.T @ self.scaled_x_hat) / self.width
        block = None
        if out.abs_targets is not None:
            n, m = self.signs.shape[1], len(op.addresses)
            mixed = (self.signs.T @ scaled.flatten(1)).view(n, m, self.width)
            read = out.abs_targets.V.T * op.gamma
            block = torch.einsum("tmd,td->mt", mixed, read) - (along.T @ self.magnitudes) / self.width
        for i, address in enumerate(op.addresses):
            here = out.rows(address, "delta")
            assert here is not None
            out.add_signed(here, Z[i : i + 1])
            out.add_frozen_delta(i, frozen[i])
            if block is not None:
                out.add_abs(here, block[i : i + 1])
