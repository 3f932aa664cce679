"""Which site feeds which, and through which operation.

Between two decomposed sites there is only a norm, an attention mixing or an element-wise
non-linearity. A *read point* is a vector that one or more sites read: all sites of a read point
share their sources, so attributions are accumulated once for each read point and not once for
each target (the mathematics is in docs/mathematics.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from compute.address import EMBED, OUTPUT, POSITION, Address
from compute.targets.config import TargetConfig

Operation = Literal["norm", "attention", "mlp"]


@dataclass(frozen=True)
class Site:
    """One weight matrix of the target model that is decomposed; ``weight`` is [d_out, d_in]."""

    address: Address
    d_in: int
    d_out: int
    has_bias: bool
    #: Path of the module inside the target model, e.g. ``blocks.0.attn.q``.
    module_path: str


@dataclass(frozen=True)
class ReadPoint:
    """A vector of width ``d_in`` that the ``readers`` read, and what flows directly into it."""

    name: str
    operation: Operation
    d_in: int
    readers: tuple[Address, ...]
    #: Sites whose components (and delta, and bias) are sources, in forward order.
    sources: tuple[Address, ...]
    #: Pseudo sources: ``embed`` and, with learned positions, ``position``. Only norms have them.
    pseudo_sources: tuple[Address, ...]
    block: int | None


@dataclass(frozen=True)
class Topology:
    """All sites and read points of a target model, in forward order."""

    config: TargetConfig

    @cached_property
    def sites(self) -> dict[Address, Site]:
        c = self.config
        kv_width = c.n_kv_heads * c.d_head
        sites: dict[Address, Site] = {}
        for block in range(c.n_blocks):
            widths = [
                ("attn", "q", c.d_model, c.d_model),
                ("attn", "k", c.d_model, kv_width),
                ("attn", "v", c.d_model, kv_width),
                ("attn", "o", c.d_model, c.d_model),
            ]
            if c.gated:
                widths.append(("glu", "gate", c.d_model, c.d_ff))
            kind = "glu" if c.gated else "mlp"
            widths += [(kind, "up", c.d_model, c.d_ff), (kind, "down", c.d_ff, c.d_model)]
            for kind, projection, d_in, d_out in widths:
                address = Address(block, kind, projection)
                part = "attn" if kind == "attn" else "mlp"
                path = f"blocks.{block}.{part}.{projection}"
                sites[address] = Site(address, d_in, d_out, c.bias, path)
        return sites

    @cached_property
    def read_points(self) -> tuple[ReadPoint, ...]:
        c = self.config
        pseudo = (EMBED,) if c.rotary else (EMBED, POSITION)
        kind = "glu" if c.gated else "mlp"
        points: list[ReadPoint] = []
        writers: tuple[Address, ...] = ()
        for block in range(c.n_blocks):
            q, k, v, o = (Address(block, "attn", p) for p in "qkvo")
            hidden = tuple(Address(block, kind, p) for p in (("gate", "up") if c.gated else ("up",)))
            down = Address(block, kind, "down")
            points += [
                ReadPoint(f"{block}.attn.input", "norm", c.d_model, (q, k, v), writers, pseudo, block),
                ReadPoint(f"{block}.attn.mixed", "attention", c.d_model, (o,), (q, k, v), (), block),
            ]
            writers += (o,)
            points += [
                ReadPoint(f"{block}.mlp.input", "norm", c.d_model, hidden, writers, pseudo, block),
                ReadPoint(f"{block}.mlp.hidden", "mlp", c.d_ff, (down,), hidden, (), block),
            ]
            writers += (down,)
        points.append(ReadPoint("output", "norm", c.d_model, (OUTPUT,), writers, pseudo, None))
        return tuple(points)

    @cached_property
    def read_point_of(self) -> dict[Address, ReadPoint]:
        """The read point of each site, and of ``output``."""
        return {address: point for point in self.read_points for address in point.readers}

    def sources_of(self, target: Address) -> tuple[Address, ...]:
        """Everything that flows directly into ``target``: pseudo sources first, then sites."""
        point = self.read_point_of[target]
        return point.pseudo_sources + point.sources

    def targets_of(self, source: Address) -> tuple[Address, ...]:
        """Every site (and ``output``) that ``source`` flows into directly, in forward order."""
        return tuple(
            reader
            for point in self.read_points
            if source in point.sources or source in point.pseudo_sources
            for reader in point.readers
        )

    @property
    def closed_form_obstacle(self) -> str | None:
        """Why the closed forms do not hold for this model, or ``None`` where they do."""
        if self.config.qk_norm:
            return "queries and keys are normalised per head before attention"
        return None
