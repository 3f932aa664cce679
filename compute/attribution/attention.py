"""Queries, keys and values → attention → mixed values, in closed form.

For head h with pattern A, rotated queries q and keys k, values v, mixed values z = A v, and
c = 1/√d_head; R_p is the rotation of position p (identity with learned positions):

* value source:  J_h(q) = Σ_p A(q, p) ã_s(p) U_s,h, hence Z_s = U_s ∘ Σ_p ã_s(p) · Σ_q A(q, p)
* query source at p:  J_h(p) = Σ_k g(k) (v(k) − z(p)),   g(k) = c A(p, k) · k(k) · R_p U_s,h
* key source at p:    J_h(q) = g(q) (v(p) − z(q)),       g(q) = c A(q, p) · q(q) · R_p U_s,h

J is what an entry (position p, source s) does to the mixed values. A query entry changes them at p
only, a key entry at every later position; Z_s = Σ_p ã_s(p) Σ J and attr_abs[t, s] is the same sum
of S_t · (J · V_t), S = sign(y). With fewer key-value heads than query heads, each serves several
query heads. A site that writes queries, keys and values at once has an effect in each of
these roles, by the columns of U that write it, and its J is the sum of the three; Z and attr_abs
are linear in J. Entries are handled sequence by sequence in order of position, in chunks: a chunk of
queries needs no later keys, a chunk of keys no earlier queries. Where very many components are
alive, compute/attribution/attention_dense.py has a cheaper form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from compute.address import Address
from compute.attribution.attention_dense import DenseAttention
from compute.attribution.capture import Capture
from compute.attribution.read_point import AbsTargets, ReadPointSums
from compute.attribution.roles import Role, Roles, attention_roles
from compute.attribution.sparse import Rows, offsets_of, spmm, sum_rows
from compute.decomposition.model import Decomposition
from compute.targets.model import rotate_half

#: Entries handled at a time.
_CHUNK: Final = {"cpu": 256, "cuda": 4096}
#: Elements of the [entries, targets] buffer.
_BUFFER_ELEMENTS: Final = {"cpu": 2**22, "cuda": 2**26}


@dataclass(frozen=True)
class Entries:
    """Non-zero ã of a site in order of position.

    ``positions`` (counted through the whole batch), ``components`` and ``values`` [n]; ``starts``
    the boundaries between sequences. ``order`` sorts the entries by component, ``offsets`` [C + 1]
    are the components' boundaries in that order.
    """

    positions: Tensor
    components: Tensor
    values: Tensor
    starts: list[int]
    order: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, weighted: Tensor, n_sequences: int) -> Entries:
        """From ã [P, C]."""
        n_positions, n_components = weighted.shape
        flat = weighted.view(-1)
        entries = (flat != 0).nonzero()[:, 0]
        positions = entries.div(n_components, rounding_mode="floor")
        components = entries - positions * n_components
        sequences = positions.div(n_positions // n_sequences, rounding_mode="floor")
        return cls(
            positions,
            components,
            flat.index_select(0, entries),
            offsets_of(sequences, n_sequences).tolist(),
            torch.argsort(components, stable=True),
            offsets_of(components, n_components),
        )

    @property
    def n_components(self) -> int:
        return self.offsets.numel() - 1

    def by_component(self, X: Tensor) -> Tensor:
        """Σ ã X over each component's entries: [C, m] from X [n, m]."""
        return sum_rows(self.order, self.offsets, self.values.index_select(0, self.order), X)


class AttentionOperation:
    """The closed forms into the mixed values of one attention layer."""

    def __init__(self, decomposition: Decomposition, block: int) -> None:
        config = decomposition.target.config
        self.decomposition = decomposition
        self.block = block
        self.n_heads, self.n_kv_heads, self.d_head = config.n_heads, config.n_kv_heads, config.d_head
        self.width = config.attention_width
        self.sources = attention_roles(config, block)

    def add(self, out: ReadPointSums, capture: Capture, rows: dict[Address, Rows]) -> None:
        """Add one batch: components in each of their roles, then biases and deltas."""
        batch = _Batch(self, out, capture)
        for address, roles in self.sources.items():
            here = out.rows(address, "component")
            assert here is not None
            batch.add_components(here, address, roles, rows.get(address))
        for address, roles in self.sources.items():
            bias = self.decomposition.bias(address)
            if bias is not None:
                batch.add_vectors(out.rows(address, "bias"), roles, bias.expand(capture.n_positions, -1))
            if address in capture.delta_outputs:
                batch.add_vectors(out.rows(address, "delta"), roles, capture.delta_outputs[address])


class _Batch:
    """One batch at one attention layer. Heads come first in every tensor of one sequence."""

    def __init__(self, op: AttentionOperation, out: ReadPointSums, capture: Capture) -> None:
        self.op, self.out, self.capture = op, out, capture
        trace = capture.trace.attention[op.block]
        self.n_sequences, self.length = capture.tokens.shape
        self.repeats = op.n_heads // op.n_kv_heads
        self.scale = 1 / math.sqrt(op.d_head)
        self.queries = trace.q.contiguous()
        self.keys = self._per_query_head(trace.k)
        self.values = self._per_query_head(trace.v)
        self.pattern = trace.pattern.contiguous()
        self.pattern_by_key = self.pattern.transpose(-1, -2).contiguous()
        self.mixed = trace.mixed.contiguous()
        self.rotary = op.decomposition.target.rotary(self.length, self.queries)
        self.head_rows = torch.arange(op.n_heads, device=self.queries.device)[:, None] * self.length
        self.targets = out.abs_targets
        if self.targets is not None:
            self.signs = self.targets.activations(capture).sign()
            self.read = self.targets.V.view(op.n_heads, op.d_head, -1)
        self.chunk = _CHUNK.get(self.queries.device.type, 256)

    def _per_query_head(self, x: Tensor) -> Tensor:
        """Key-value heads [B, H_kv, …] repeated to one for each query head."""
        return x.repeat_interleave(self.repeats, 1) if self.repeats > 1 else x.contiguous()

    def rows_at(self, x: Tensor, positions: Tensor) -> Tensor:
        """x [H, T, n] at ``positions``: [H, len(positions), n]."""
        index = (self.head_rows + positions).view(-1)
        return x.reshape(-1, x.shape[-1]).index_select(0, index).view(len(x), len(positions), -1)

    def _rotated(self, U: Tensor, components: Tensor, positions: Tensor) -> Tensor:
        """R_p U_s for each entry, [heads of the role, n, d_head] from U [C, heads, d_head]."""
        u = U.index_select(0, components)
        if self.rotary is not None:
            cos, sin = (table.index_select(0, positions)[:, None] for table in self.rotary)
            half = self.op.d_head // 2
            rotated = u * cos
            rotated[..., :half].addcmul_(u[..., half:], sin[..., :half], value=-1)
            rotated[..., half:].addcmul_(u[..., :half], sin[..., half:])
            u = rotated
        return u.transpose(0, 1).contiguous()

    @property
    def width(self) -> int:
        return self.op.width

    def add_components(self, here: slice, address: Address, roles: Roles, rows: Rows | None) -> None:
        """All components of a site; ``rows`` are its ã, for those that write values."""
        U = self.op.decomposition.U(address).detach()
        weighted: Tensor | None = None
        entries: Entries | None = None
        for role, columns in roles:
            written = U[:, columns].unflatten(1, (-1, self.op.d_head))  # [C, heads of the role, d_head]
            if role == "value":
                assert rows is not None
                self._add_values(here, rows, written)
                continue
            weighted = self.capture.weighted(address) if weighted is None else weighted
            if self.is_crowded(weighted):
                self._add_dense(here, role, weighted, written)
                continue
            entries = Entries.of(weighted, self.n_sequences) if entries is None else entries
            if role == "query":
                self._add_queries(here, entries, written)
            else:
                self._add_keys(here, entries, written)

    # -- values ---------------------------------------------------------------------------------

    def _add_values(self, here: slice, rows: Rows, U: Tensor) -> None:
        op, out = self.op, self.out
        U = U.repeat_interleave(self.repeats, 1)
        received = self.pattern_by_key.sum(-1).transpose(1, 2).reshape(-1, op.n_heads)
        weights = spmm(rows, rows.values, received)
        out.add_signed(here, (U * weights[:, :, None]).reshape(-1, self.width))
        if self.targets is None:
            return
        signs = self.signs.view(self.n_sequences, self.length, -1)
        overlaps = torch.einsum("hit,shi->hst", self.read, U)
        block = self.signs.new_zeros(rows.n_rows, self.signs.shape[1])
        for head in range(op.n_heads):
            mixed_signs = (self.pattern_by_key[:, head] @ signs).flatten(0, 1)
            block.addcmul_(overlaps[head], spmm(rows, rows.values, mixed_signs))
        out.add_abs(here, block)

    # -- queries and keys of very many components ------------------------------------------------

    def is_crowded(self, weighted: Tensor) -> bool:
        """Whether a matrix for each position is cheaper than a row for each entry (in multiply-adds)."""
        n_positions, n_components = weighted.shape
        per_entry = 2 * self.length
        per_position = self.op.d_head * (self.length + n_components)
        return int(torch.count_nonzero(weighted)) * per_entry > n_positions * per_position

    def _add_dense(self, here: slice, role: Literal["query", "key"], weighted: Tensor, U: Tensor) -> None:
        dense = DenseAttention(
            self.queries,
            self.keys,
            self.values,
            self.mixed,
            self.pattern,
            self.pattern_by_key,
            self.rotary,
            self.scale,
        )
        if role == "key" and self.repeats > 1:
            U = U.repeat_interleave(self.repeats, 1)
        self.out.add_signed(here, dense.signed(role, weighted, U))
        if self.targets is not None:
            self.out.add_abs(here, dense.absolute(role, weighted, U, self.targets.V, self.signs))

    # -- queries --------------------------------------------------------------------------------

    def _add_queries(self, here: slice, entries: Entries, U: Tensor) -> None:
        out = self.out
        effects = self.queries.new_empty(len(entries.positions), self.width)
        for b in range(self.n_sequences):
            part = slice(entries.starts[b], entries.starts[b + 1])
            if part.start < part.stop:
                self._query_effects(b, entries, part, U, effects[part])
        out.add_signed(here, entries.by_component(effects).mul_(self.scale))
        if self.targets is not None:
            out.add_abs(here, self._abs_of_effects(entries, effects).mul_(self.scale))

    def _query_effects(self, b: int, entries: Entries, part: slice, U: Tensor, effects: Tensor) -> None:
        """J / c of the query entries of sequence ``b``, written to ``effects`` [n, width]."""
        positions = entries.positions[part] - b * self.length
        n, chunk = len(positions), self.chunk
        u = self._rotated(U, entries.components[part], positions)
        keys, values, pattern = self.keys[b].transpose(-1, -2), self.values[b], self.pattern[b]
        J = u.new_empty(self.op.n_heads, n, self.op.d_head)
        totals = u.new_empty(self.op.n_heads, n, 1)
        last_positions = [*positions[chunk - 1 :: chunk].tolist(), int(positions[-1])]
        for i, low in enumerate(range(0, n, chunk)):
            now, n_keys = slice(low, low + chunk), last_positions[i] + 1
            g = torch.bmm(u[:, now], keys[:, :, :n_keys])
            g.mul_(self.rows_at(pattern, positions[now])[:, :, :n_keys])
            totals[:, now] = g.sum(-1, keepdim=True)
            J[:, now] = torch.bmm(g, values[:, :n_keys])
        J.addcmul_(totals, self.rows_at(self.mixed[b], positions), value=-1)
        effects.view(n, self.op.n_heads, self.op.d_head).copy_(J.transpose(0, 1))

    def _abs_of_effects(self, entries: Entries, effects: Tensor) -> Tensor:
        """Σ ã S_t (J · V_t) over each component's entries: [C, n_targets]."""
        assert self.targets is not None
        n, n_targets = len(effects), self.signs.shape[1]
        block = effects.new_zeros(entries.n_components, n_targets)
        buffer = max(1, _BUFFER_ELEMENTS.get(effects.device.type, 2**22) // n_targets)
        for low in range(0, n, buffer):
            chosen = entries.order[low : low + buffer]
            reads = effects.index_select(0, chosen) @ self.targets.V
            reads.mul_(self.signs.index_select(0, entries.positions.index_select(0, chosen)))
            index = torch.arange(len(chosen), device=effects.device)
            offsets = entries.offsets.clamp(low, low + len(chosen)) - low
            block += sum_rows(index, offsets, entries.values.index_select(0, chosen), reads)
        return block

    # -- keys -----------------------------------------------------------------------------------

    def _add_keys(self, here: slice, entries: Entries, U: Tensor) -> None:
        out = self.out
        effects = self.queries.new_empty(len(entries.positions), self.width)
        reads = None if self.targets is None else _KeyReads.empty(self, entries, self.targets)
        for b in range(self.n_sequences):
            part = slice(entries.starts[b], entries.starts[b + 1])
            if part.start < part.stop:
                self._key_effects(b, entries, part, U, effects[part], reads)
        out.add_signed(here, entries.by_component(effects).mul_(self.scale))
        if reads is not None:
            out.add_abs(here, reads.block.add_(entries.by_component(reads.with_values)).mul_(self.scale))

    def _key_effects(
        self, b: int, entries: Entries, part: slice, U: Tensor, effects: Tensor, reads: _KeyReads | None
    ) -> None:
        """Σ_q J / c of the key entries of sequence ``b``, written to ``effects`` [n, width]."""
        n_heads, chunk = self.op.n_heads, self.chunk
        positions, components = entries.positions[part] - b * self.length, entries.components[part]
        n = len(positions)
        u = self._rotated(U, components, positions)
        u = u.repeat_interleave(self.repeats, 0) if self.repeats > 1 else u
        queries, pattern, mixed = self.queries[b].transpose(-1, -2), self.pattern_by_key[b], self.mixed[b]
        J = u.new_empty(n_heads, n, self.op.d_head)
        totals = u.new_empty(n_heads, n, 1)
        sequence = None if reads is None else reads.of_sequence(b, positions)
        first_positions = positions[::chunk].tolist()
        for i, low in enumerate(range(0, n, chunk)):
            now, first = slice(low, low + chunk), first_positions[i]
            g = torch.bmm(u[:, now], queries[:, :, first:])
            g.mul_(self.rows_at(pattern, positions[now])[:, :, first:])
            totals[:, now] = g.sum(-1, keepdim=True)
            J[:, now] = torch.bmm(g, mixed[:, first:])
            if reads is not None and sequence is not None:
                sequence.add(now, first, g, reads.with_values[part][now])
        J = self.rows_at(self.values[b], positions).mul_(totals).sub_(J)
        effects.view(n, n_heads, self.op.d_head).copy_(J.transpose(0, 1))
        if reads is not None and sequence is not None:
            sequence.finish(components, entries.values[part], reads.block)

    # -- biases and deltas ----------------------------------------------------------------------

    def add_vectors(self, here: slice | None, roles: Roles, vectors: Tensor) -> None:
        """A source that is a vector [P, d_out] at every position, all positions at once."""
        if here is None:
            return
        J = self._vector_effects(roles[0][0], vectors[:, roles[0][1]])
        for role, columns in roles[1:]:
            J += self._vector_effects(role, vectors[:, columns])
        self.out.add_signed(here, J.sum(0, keepdim=True))
        if self.targets is not None:
            self.out.add_abs(here, (J @ self.targets.V).mul_(self.signs).sum(0, keepdim=True))

    def _vector_effects(self, role: Role, vectors: Tensor) -> Tensor:
        """Σ_p J [P, width] of a vector [P, heads of the role · d_head] at every position p."""
        # [B, heads of the role, T, d_head]
        u = vectors.view(self.n_sequences, self.length, -1, self.op.d_head).transpose(1, 2)
        if role == "value":
            J = self.pattern @ self._per_query_head(u)
        else:
            if self.rotary is not None:
                u = u * self.rotary[0] + rotate_half(u) * self.rotary[1]
            if role == "query":
                g = u @ self.keys.transpose(-1, -2)
            else:
                g = self.queries @ self._per_query_head(u).transpose(-1, -2)
            g = g.mul_(self.pattern).mul_(self.scale)
            J = (g @ self.values).sub_(g.sum(-1, keepdim=True) * self.mixed)
        return J.transpose(1, 2).reshape(-1, self.width)


@dataclass(frozen=True)
class _KeyReads:
    """What targets read of key entries, for attr_abs.

    The term with v(p) is summed over queries for each entry, ``with_values`` [n, n_targets]; that
    with z(q) for all entries of a component at once, into ``block`` [C, n_targets] (both over c).
    """

    batch: _Batch
    #: V by head, [H, d_head, n_targets].
    read: Tensor
    signs: Tensor
    with_values: Tensor
    block: Tensor

    @classmethod
    def empty(cls, batch: _Batch, entries: Entries, targets: AbsTargets) -> _KeyReads:
        read = targets.V.view(batch.op.n_heads, batch.op.d_head, -1)
        with_values = read.new_empty(len(entries.positions), read.shape[-1])
        block = read.new_zeros(entries.n_components, read.shape[-1])
        return cls(batch, read, batch.signs, with_values, block)

    def of_sequence(self, b: int, positions: Tensor) -> _SequenceKeyReads:
        length = self.batch.length
        signs = self.signs[b * length : (b + 1) * length]
        mixed_read = (self.batch.mixed[b] @ self.read).mul_(signs)
        g = self.read.new_zeros(len(self.read), len(positions), length)
        return _SequenceKeyReads(positions, signs, self.batch.values[b] @ self.read, mixed_read, g)


@dataclass(frozen=True)
class _SequenceKeyReads:
    """One sequence: ``signs`` [T, n_targets], V_t·v and S_t V_t·z [H, T, n_targets], all g [H, n, T]."""

    positions: Tensor
    signs: Tensor
    values_read: Tensor
    mixed_read: Tensor
    g: Tensor

    def add(self, now: slice, first: int, g: Tensor, with_values: Tensor) -> None:
        """A chunk of entries with g [H, n, T − first]; their reads go to ``with_values``."""
        self.g[:, now, first:] = g
        with_values.zero_()
        for values_read, head_g in zip(self.values_read, g, strict=True):
            with_values.addcmul_(
                head_g @ self.signs[first:], values_read.index_select(0, self.positions[now])
            )

    def finish(self, components: Tensor, values: Tensor, block: Tensor) -> None:
        live, inverse = torch.unique(components, return_inverse=True)
        order = torch.argsort(inverse, stable=True)
        offsets = offsets_of(inverse, len(live))
        values = values.index_select(0, order)
        by_query = torch.stack([sum_rows(order, offsets, values, g) for g in self.g], 1)
        block.index_add_(0, live, by_query.flatten(1) @ self.mixed_read.flatten(0, 1), alpha=-1)
