"""Many read directions of one prompt backwards through the network at once.

For what has no closed form between two sites: gradients that flow through deltas (mode ``through``)
or through matrices left whole, and queries and keys normalised per head. All read directions at one
position are carried back together, each part of the way applying its transposed Jacobian to a stack
[R, positions, width], without an automatic-differentiation graph. The cotangent at a site's output
times what the site's nodes write there are the edges; past its output it goes on through the delta,
past that of a whole matrix through the matrix itself.

Causality is used twice: positions after the reader's are never touched, and until the way back
first crosses an attention layer only the reader's own position is.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from compute.address import EMBED, Address
from compute.attribution.forward_mode import entering_tangents
from compute.attribution.prompt_blocks import mlp_slopes
from compute.attribution.prompt_nodes import AddressNodes, PromptNodes
from compute.attribution.prompt_pass import PromptPass
from compute.attribution.prompt_reach import BLOCK_ELEMENTS, Needed, Reach, reaching_numbers, sources_reaching
from compute.attribution.roles import Role, attention_roles
from compute.decomposition.model import Decomposition
from compute.targets.model import Attention, Norm, NormTrace, rotate_half
from compute.topology import ReadPoint


@dataclass(frozen=True)
class Cotangent:
    """Gradients [R, n, width] at positions ``low`` to ``low + n − 1``; zero before and after."""

    values: Tensor
    low: int

    @property
    def positions(self) -> slice:
        return slice(self.low, self.low + self.values.shape[1])

    def with_values(self, values: Tensor) -> Cotangent:
        return Cotangent(values, self.low)

    def __add__(self, other: Cotangent) -> Cotangent:
        """The sum; both end at the same position."""
        wide, narrow = (self, other) if self.low <= other.low else (other, self)
        if wide.low == narrow.low:
            return wide.with_values(wide.values + narrow.values)
        total = wide.values.clone()
        total[:, narrow.low - wide.low :] += narrow.values
        return wide.with_values(total)


#: Tangents of embeddings that are kept, at most.
_TANGENT_ELEMENTS = 1 << 26

#: What a walk yields: the cotangent at the output of a site, or at an embedding.
Walk = Generator[tuple[Address, Cotangent], None, Cotangent | None]


class Adjoint:
    """Reach of read points, in every mode and for every model."""

    def __init__(
        self,
        decomposition: Decomposition,
        forward: PromptPass,
        nodes: PromptNodes,
        rows: dict[Address, Tensor],
        points: Sequence[ReadPoint],
    ) -> None:
        self.points = points
        self.decomposition = decomposition
        self.forward = forward
        self.nodes = nodes
        self.rows = {address: _RowsByPosition.of(nodes.by_address[address], r) for address, r in rows.items()}
        config = decomposition.target.config
        self.slopes = [mlp_slopes(decomposition, forward, block) for block in range(config.n_blocks)]
        #: What carries a cotangent from a module's output to its input; a module that is not here cuts.
        self.carried = {
            a: decomposition.target.linear(a).weight.detach() for a in decomposition.topology.whole
        }
        if nodes.settings.delta == "through":
            self.carried |= {a: _delta(decomposition, a) for a in decomposition.addresses}
        #: The two halves of each block, in forward order: what reads the residual stream, what writes.
        vectors = decomposition.target.topology.read_points
        self.stages = [(vectors[i], vectors[i + 1]) for i in range(0, len(vectors) - 1, 2)]
        self._first_block = next(iter(decomposition.topology.sites)).block or 0
        #: Where the way back may end: before the first block with a site, if what the embeddings
        #: contribute to the residual stream there is known.
        self._last_stage = 2 * self._first_block if self._entering else 0

    @cached_property
    def _entering(self) -> dict[Address, Tensor]:
        """Tangents of the embeddings before the first block with a site; empty where that is the first
        of all, or where they would be too large."""
        nodes, config = self.nodes, self.decomposition.target.config
        pseudo = self.decomposition.topology.pseudo_sources
        everywhere = list(range(nodes.length + 1))
        if (
            not self._first_block
            or nodes.length**2 * config.d_model > _TANGENT_ELEMENTS
            or any(address not in self.rows or self.rows[address].starts != everywhere for address in pseudo)
        ):
            return {}
        return entering_tangents(self.decomposition, self.forward.tokens, self._first_block)

    def reaches(self, needed: Needed) -> Iterator[Reach]:
        """Each of the read points at every position where it is needed."""
        topology, config = self.decomposition.topology, self.decomposition.target.config
        for point in self.points:
            sources = sources_reaching(topology, point, self.nodes.settings.delta)
            for position in range(self.nodes.length):
                if not needed(point, position):
                    continue
                widest = max(config.d_ff, config.d_model, config.n_heads * (position + 1))
                numbers = reaching_numbers(self.nodes, sources, position)
                at_once = BLOCK_ELEMENTS // max(widest * (position + 1), len(numbers))
                attributions = partial(self._attributions, point, position, [a for a, _ in sources])
                yield Reach(point, position, numbers, attributions, max(1, at_once))

    def _attributions(
        self, point: ReadPoint, position: int, sources: list[Address], directions: Tensor
    ) -> Tensor:
        """Gradient × source [R, n_sources] for read directions [R, d_in]."""
        found = {}
        for address, cotangent in self._walk(point, Cotangent(directions[:, None], position)):
            tangents = self._entering.get(address)
            if tangents is None:
                found[address] = self.rows[address].times(cotangent)
            else:
                stop = cotangent.positions.stop
                felt = tangents[:stop, cotangent.positions].flatten(1)
                found[address] = cotangent.values.flatten(1) @ felt.T
        return torch.cat([found[address] for address in sources], 1)

    # -- the way back -----------------------------------------------------------------------------

    def _walk(self, point: ReadPoint, start: Cotangent) -> Iterator[tuple[Address, Cotangent]]:
        """From what a read point reads to everything upstream of it."""
        stream: Cotangent | None
        if point.operation == "norm":
            stage = next(
                (i for i, (r, _) in enumerate(self.stages) if r.name == point.name), len(self.stages)
            )
            stream = self._before_norm(point, start)
        else:
            stage = next(i for i, (_, inside) in enumerate(self.stages) if inside.name == point.name)
            stream = yield from self._inside(stage, start)
            if stream is None:
                return
        for earlier in reversed(range(self._last_stage, stage)):
            (writer,) = self.stages[earlier][1].readers
            hidden = yield from self._through(writer, stream)
            entered = None if hidden is None else (yield from self._inside(earlier, hidden))
            stream = stream if entered is None else stream + entered
        for pseudo in self.decomposition.topology.pseudo_sources:
            yield pseudo, stream

    def _through(self, address: Address, at_output: Cotangent) -> Walk:
        """From a module's output to its input, or None where it is a cut."""
        if address in self.rows:
            yield address, at_output
        matrix = self.carried.get(address)
        return None if matrix is None else at_output.with_values(at_output.values @ matrix)

    def _inside(self, stage: int, at_writer: Cotangent) -> Walk:
        """From what o or down reads to the residual stream before the stage's norm, or None."""
        reader, inside = self.stages[stage]
        assert inside.block is not None
        if inside.operation == "attention":
            cotangents = self._before_attention(inside.block, at_writer)
        else:
            slopes = self.slopes[inside.block]
            cotangents = {
                address: at_writer.with_values(at_writer.values * slope[at_writer.positions])
                for address, slope in zip(inside.sources, slopes, strict=True)
            }
        read: Cotangent | None = None
        for address in inside.sources:
            part = yield from self._through(address, cotangents[address])
            if part is not None:
                read = part if read is None else read + part
        return None if read is None else self._before_norm(reader, read)

    def _before_norm(self, point: ReadPoint, after: Cotangent) -> Cotangent:
        norm = self.decomposition.target.norm_of(point.name)
        inside = self.forward.trace.norms[point.name]
        here = NormTrace(inside.normalised[0, after.positions], inside.inverse_scale[0, after.positions])
        if point.name != self.stages[0][0].name or self.decomposition.topology.pseudo_sources != (EMBED,):
            return after.with_values(norm_backward(norm, here, after.values))
        # A lone embedding e ∥ x̂. Its attribution is what eps leaves of a difference of equals, so a
        # vector along x̂ is returned whose product with e is exactly that.
        x_hat = here.normalised
        along = ((after.values * norm.weight.detach()) * x_hat).sum(-1, keepdim=True)
        squares = x_hat.square().sum(-1, keepdim=True).clamp_min(torch.finfo(x_hat.dtype).tiny)
        return after.with_values(along * (norm.eps * here.inverse_scale**3 / squares) * x_hat)

    def _before_attention(self, block: int, mixed: Cotangent) -> dict[Address, Cotangent]:
        """From the mixed values to what is written before: queries at the same positions, keys and
        values at all earlier ones too."""
        config = self.decomposition.target.config
        inside = self.forward.trace.attention[block]
        here, stop = mixed.positions, mixed.positions.stop
        repeats = config.n_heads // config.n_kv_heads
        keys, heads = (x[0, :, :stop].repeat_interleave(repeats, 0) for x in (inside.k, inside.v))
        pattern = inside.pattern[0, :, here, :stop]
        gradient = mixed.values.unflatten(-1, (config.n_heads, -1)).transpose(1, 2)  # [R, H, n, d_head]
        at_values = pattern.transpose(1, 2) @ gradient
        scores = gradient @ heads.transpose(1, 2)
        scores -= (gradient * inside.mixed[0, :, here]).sum(-1, keepdim=True)
        scores *= pattern / math.sqrt(config.d_head)
        at_queries = self._before_rotation(block, "q", scores @ keys, here)
        at_keys = scores.transpose(2, 3) @ inside.q[0, :, here]
        at_keys = at_keys.unflatten(1, (-1, repeats)).sum(2)
        at_values = at_values.unflatten(1, (-1, repeats)).sum(2)
        at_keys = self._before_rotation(block, "k", at_keys, slice(0, stop))
        by_role: dict[Role, Cotangent] = {
            "query": mixed.with_values(at_queries.transpose(1, 2).flatten(2)),
            "key": Cotangent(at_keys.transpose(1, 2).flatten(2), 0),
            "value": Cotangent(at_values.transpose(1, 2).flatten(2), 0),
        }
        result: dict[Address, Cotangent] = {}
        for address, roles in attention_roles(config, block).items():
            if len(roles) == 1:
                result[address] = by_role[roles[0][0]]
                continue
            values = mixed.values.new_zeros(len(mixed.values), stop, roles[-1][1].stop)
            for role, columns in roles:
                values[:, by_role[role].low :, columns] = by_role[role].values
            result[address] = Cotangent(values, 0)
        return result

    def _before_rotation(self, block: int, projection: str, gradient: Tensor, at: slice) -> Tensor:
        """Through the rotation, and the norm per head where there is one: [R, heads, n, d_head]."""
        target = self.decomposition.target
        tables = target.rotary(self.nodes.length, gradient)
        if tables is not None:
            cos, sin = (table[at] for table in tables)
            gradient = gradient * cos - rotate_half(gradient) * sin
        module = target.blocks[block].get_submodule("attn")
        assert isinstance(module, Attention)
        norm = module.q_norm if projection == "q" else module.k_norm
        if norm is None:
            return gradient
        output = self.forward.site_outputs[Address(block, "attn", projection)][at]
        heads = output.unflatten(-1, (-1, target.config.d_head)).transpose(0, 1)
        return norm_backward(norm, norm.normalise(heads), gradient)


def norm_backward(norm: Norm, inside: NormTrace, gradient: Tensor) -> Tensor:
    """The transposed Jacobian of a norm applied to ``gradient`` [..., d]."""
    gradient = gradient * norm.weight.detach()
    along = (gradient * inside.normalised).mean(-1, keepdim=True)
    if norm.centred:
        gradient = gradient - gradient.mean(-1, keepdim=True)
    return (gradient - along * inside.normalised) * inside.inverse_scale


def _delta(decomposition: Decomposition, address: Address) -> Tensor:
    """Δ [d_out, d_in], formed in float64: it is a small difference of large numbers."""
    weight = decomposition.target.linear(address).weight.detach()
    V, U = decomposition.V(address).detach().double(), decomposition.U(address).detach().double()
    return (weight.double() - (V @ U).T).to(weight.dtype)


@dataclass(frozen=True)
class _RowsByPosition:
    """Source rows of one address, padded to rectangles.

    Positions with similar numbers of nodes share a rectangle, so that at most half of it is padding
    however unevenly the nodes are spread. A rectangle is (positions [m] ascending, rows
    [m, width, w], columns [m · w]) with w nodes a position at most; column ``count`` is padding.
    """

    starts: list[int]
    count: int
    rows: Tensor
    rectangles: tuple[tuple[Tensor, Tensor, Tensor], ...]

    @classmethod
    def of(cls, nodes: AddressNodes, rows: Tensor) -> _RowsByPosition:
        starts = [start - nodes.first for start in nodes.starts]
        counts = torch.tensor(nodes.starts).diff()
        rectangles = []
        widest = int(counts.max())
        while widest > 0:
            positions = ((counts <= widest) & (counts > widest // 2)).nonzero()[:, 0]
            if len(positions):
                width = int(counts[positions].max())
                column = torch.tensor(starts)[positions, None] + torch.arange(width)
                column[torch.arange(width) >= counts[positions, None]] = nodes.count
                padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])[column.to(rows.device)]
                rectangles.append(
                    (positions, padded.transpose(1, 2).contiguous(), column.flatten().to(rows.device))
                )
            widest //= 2
        return cls(starts, nodes.count, rows, tuple(rectangles))

    def times(self, cotangent: Cotangent) -> Tensor:
        """Σ over the width of cotangent × row: [R, nodes at the cotangent's positions]."""
        at = cotangent.positions
        if at.stop - at.start == 1:
            rows = self.rows[self.starts[at.start] : self.starts[at.stop]]
            return cotangent.values[:, 0] @ rows.T
        assert at.start == 0
        result = self.rows.new_empty(len(cotangent.values), self.count + 1)
        for positions, rows, columns in self.rectangles:
            n = int(torch.searchsorted(positions, at.stop))
            if n:
                here = cotangent.values[:, positions[:n].to(self.rows.device)].transpose(0, 1)
                product = (here @ rows[:n]).transpose(0, 1).flatten(1)
                result[:, columns[: n * rows.shape[2]]] = product
        return result[:, : self.starts[at.stop]]
