"""Closed forms for one prompt: what each source does to what a read point reads, at one position.

The formulas are those of norm.py, mlp.py and attention.py, kept apart by position instead of summed.
A source writes the vector r(p) (y U_s for a component) and moves the read vector x(p') by

* norm:       Γ/σ (r̃ − x̂ (x̂·r)/d)                                at p' = p
* MLP:        φ(p) ∘ r                                              at p' = p
* query:      Σ_k g(k) (v(k) − z(p)),  g(k) = c A(p, k) k(k)·R_p r   at p' = p
* key:        g (v(p) − z(p')),        g = c A(p', p) q(p')·R_p r    at p' ≥ p
* value:      A(p', p) r                                            at p' ≥ p

(notation of those files; a site that writes queries, keys and values at once does all three). The
edge into a target there is the product with its V_t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from compute.address import Address
from compute.attribution.mlp import value_and_slope
from compute.attribution.prompt_nodes import PromptNodes
from compute.attribution.prompt_pass import PromptPass
from compute.attribution.prompt_reach import BLOCK_ELEMENTS, Needed, Reach, reaching_numbers, sources_reaching
from compute.attribution.roles import Role, attention_roles
from compute.decomposition.model import Decomposition
from compute.targets.model import rotate_half
from compute.topology import ReadPoint


class ClosedForms:
    """Reach of read points in the modes ``node`` and ``off``; only of those with nothing in the way."""

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
        self.rows = rows

    def reaches(self, needed: Needed) -> Iterator[Reach]:
        """Each of the read points at every position where it is needed."""
        norms = [point for point in self.points if point.operation == "norm"]
        for position in range(self.nodes.length):
            wanted = [point for point in norms if needed(point, position)]
            if wanted:
                written = self._written(wanted[-1], position)
                for point in wanted:
                    yield self._reach(point, position, self._through_norm(point, position, written))
        for point in self.points:
            wanted_at = [p for p in range(self.nodes.length) if needed(point, p)]
            if point.operation == "mlp":
                effects = self._through_mlp(point, wanted_at)
            elif point.operation == "attention":
                effects = self._through_attention(point, wanted_at)
            else:
                continue
            for position, effect in zip(wanted_at, effects, strict=True):
                yield self._reach(point, position, effect)

    def _reach(self, point: ReadPoint, position: int, effects: Tensor) -> Reach:
        sources = sources_reaching(self.decomposition.topology, point, self.nodes.settings.delta)
        numbers = reaching_numbers(self.nodes, sources, position)
        assert len(numbers) == len(effects)
        at_once = max(1, BLOCK_ELEMENTS // max(1, len(numbers)))
        return Reach(point, position, numbers, partial(_read, effects), at_once)

    def _rows_at(self, address: Address, position: int) -> Tensor:
        here = self.nodes.by_address[address]
        run = here.at(position)
        return self.rows[address][run.start - here.first : run.stop - here.first]

    # -- norms ----------------------------------------------------------------------------------

    def _written(self, point: ReadPoint, position: int) -> Tensor:
        """All that is written to the residual stream at a position before ``point``, [n, d_model]."""
        return torch.cat([self._rows_at(a, position) for a in point.pseudo_sources + point.sources])

    def _through_norm(self, point: ReadPoint, position: int, written: Tensor) -> Tensor:
        """[n, d_model] for the first rows of ``written``, as many as come before ``point``."""
        sources = point.pseudo_sources + point.sources
        count = sum(len(self._rows_at(address, position)) for address in sources)
        norm = self.decomposition.target.norm_of(point.name)
        inside = self.forward.trace.norms[point.name]
        x_hat, inverse_scale = inside.normalised[0, position], inside.inverse_scale[0, position]
        gamma = norm.weight.detach() * inverse_scale
        if len(sources) == 1:
            # A lone embedding: 1 − |x̂|²/d = eps/σ² is all that is left of the Jacobian.
            return (norm.eps * inverse_scale * gamma * x_hat)[None]
        written = written[:count]
        along = (written @ x_hat) / len(x_hat)
        if norm.centred:
            written = written - written.mean(-1, keepdim=True)
        return torch.addr(written, along, x_hat, alpha=-1).mul_(gamma)

    # -- MLPs -----------------------------------------------------------------------------------

    def _through_mlp(self, point: ReadPoint, positions: list[int]) -> Iterator[Tensor]:
        """[n, d_ff] at each of ``positions``."""
        assert point.block is not None
        slopes = mlp_slopes(self.decomposition, self.forward, point.block)
        for position in positions:
            yield torch.cat(
                [
                    self._rows_at(address, position) * slope[position]
                    for address, slope in zip(point.sources, slopes, strict=True)
                ]
            )

    # -- attention ------------------------------------------------------------------------------

    def _through_attention(self, point: ReadPoint, positions: list[int]) -> Iterator[Tensor]:
        """[n, H · d_head] at each of ``positions``: queries there, keys and values there and before."""
        assert point.block is not None
        if not positions:
            return
        config = self.decomposition.target.config
        repeats = config.n_heads // config.n_kv_heads
        scale = 1 / math.sqrt(config.d_head)
        inside = self.forward.trace.attention[point.block]
        keys = inside.k[0].repeat_interleave(repeats, 0)  # [H, T, d_head], as are all of these
        values = inside.v[0].repeat_interleave(repeats, 0)
        queries, mixed, pattern = inside.q[0], inside.mixed[0], inside.pattern[0]
        at = {address: self._positions(address) for address in point.sources}
        written = self._by_role(point.block, at)
        for p in positions:
            # v − z once, before anything is summed: where attention is all in one place it is small.
            shift = values[:, : p + 1] - mixed[:, p, None]
            effects: list[Tensor] = []
            for address in point.sources:
                here, roles = self.nodes.by_address[address], written[address]
                run = here.at(p)
                now, count = slice(run.start - here.first, run.stop - here.first), run.stop - here.first
                where = at[address][:count]
                moved: Tensor | None = None
                if "key" in roles:
                    # [n, H_kv, d_head] → g [n, H] → g (v − z).
                    query = queries[:, p].unflatten(0, (-1, repeats))
                    g = torch.einsum("nhe,hre->nhr", roles["key"][:count], query).flatten(1)
                    g = g * (pattern[:, p].T * scale).index_select(0, where)
                    moved = (g[..., None] * shift.transpose(0, 1).index_select(0, where)).flatten(1)
                if "value" in roles:
                    # [n, H_kv, d_head] → A r.
                    weights = pattern[:, p].T.unflatten(1, (-1, repeats)).index_select(0, where)
                    mixed_in = (weights[..., None] * roles["value"][:count, :, None]).flatten(1)
                    moved = mixed_in if moved is None else moved.add_(mixed_in)
                if "query" in roles:
                    # [n, H, d_head] → g [H, n, p + 1] → Σ_k g (v − z).
                    mine = roles["query"][now].transpose(0, 1)
                    g = (mine @ keys[:, : p + 1].transpose(1, 2)) * pattern[:, p, None, : p + 1]
                    turned = (g @ shift).transpose(0, 1).flatten(1) * scale
                    if moved is None:
                        moved = turned
                    else:
                        moved[now] += turned
                assert moved is not None
                effects.append(moved)
            yield torch.cat(effects)

    def _by_role(self, block: int, at: dict[Address, Tensor]) -> dict[Address, dict[Role, Tensor]]:
        """What the nodes of each site write in each of its roles, [n, heads of the role, d_head],
        queries and keys rotated."""
        config = self.decomposition.target.config
        result: dict[Address, dict[Role, Tensor]] = {}
        for address, roles in attention_roles(config, block).items():
            rows = self.rows[address]
            tables = self.decomposition.target.rotary(self.nodes.length, rows)
            result[address] = {}
            for role, columns in roles:
                heads = rows[:, columns].unflatten(1, (-1, config.d_head))
                if tables is not None and role != "value":
                    cos, sin = (table[at[address], None] for table in tables)
                    heads = heads * cos + rotate_half(heads) * sin
                result[address][role] = heads
        return result

    def _positions(self, address: Address) -> Tensor:
        """The position of each node of an address, [n]."""
        counts = torch.tensor(self.nodes.by_address[address].starts).diff()
        return torch.repeat_interleave(counts).to(self.rows[address].device)


def mlp_slopes(decomposition: Decomposition, forward: PromptPass, block: int) -> tuple[Tensor, ...]:
    """φ [T, d_ff] of gate and up, or of a plain up."""
    activation, trace = decomposition.target.activation, forward.trace.mlp[block]
    if trace.gate is None:
        return (value_and_slope(activation, trace.up[0])[1],)
    value, slope = value_and_slope(activation, trace.gate[0])
    return slope * trace.up[0], value


def _read(effects: Tensor, directions: Tensor) -> Tensor:
    return directions @ effects.T
