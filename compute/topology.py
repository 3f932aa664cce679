"""Which site feeds which, and through which operation.

Between two decomposed sites there is only a norm, an attention mixing or an element-wise
non-linearity. A *read point* is a vector that one or more sites read: all sites of a read point
share their sources, so attributions are accumulated once for each read point and not once for
each target (the mathematics is in docs/mathematics.md).

A matrix that is not decomposed is *left whole*: it is no cut but a part of the path, so whatever
reaches its input reaches, through it, what reads its output.
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
    """One weight matrix of the target model; ``weight`` is [d_out, d_in]."""

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
    #: Pseudo sources: ``embed`` and, with learned positions, ``position``.
    pseudo_sources: tuple[Address, ...]
    block: int | None
    #: Sources that act here from earlier positions too; the others act at their own position only.
    earlier: frozenset[Address]
    #: Modules left whole that lie between the sources and here, in forward order.
    through: tuple[Address, ...]


@dataclass(frozen=True)
class _Vector:
    """What some modules read: ``feeds`` are the modules that write into it, each with whether it acts
    from earlier positions too."""

    name: str
    operation: Operation
    d_in: int
    readers: tuple[Address, ...]
    feeds: tuple[tuple[Address, bool], ...]
    block: int | None


@dataclass(frozen=True)
class Topology:
    """The decomposed sites and their read points, in forward order.

    ``decomposed`` are the addresses of the sites that have components; None: every matrix has.
    """

    config: TargetConfig
    decomposed: frozenset[Address] | None = None

    @cached_property
    def modules(self) -> dict[Address, Site]:
        """Every matrix of the target model that can be decomposed, in forward order."""
        c = self.config
        kv_width = c.n_kv_heads * c.d_head
        modules: dict[Address, Site] = {}
        for block in range(c.n_blocks):
            widths: list[tuple[str, str, int, int]] = []
            if c.fused_qkv:
                widths.append(("attn_fused", "qkv", c.d_model, c.attention_width + 2 * kv_width))
            else:
                widths += [
                    ("attn", "q", c.d_model, c.attention_width),
                    ("attn", "k", c.d_model, kv_width),
                    ("attn", "v", c.d_model, kv_width),
                ]
            widths.append((c.attention_kind, "o", c.attention_width, c.d_model))
            if c.gated:
                widths.append(("glu", "gate", c.d_model, c.d_ff))
            widths += [(c.mlp_kind, "up", c.d_model, c.d_ff), (c.mlp_kind, "down", c.d_ff, c.d_model)]
            for kind, projection, d_in, d_out in widths:
                address = Address(block, kind, projection)
                part = "attn" if kind == c.attention_kind else "mlp"
                path = f"blocks.{block}.{part}.{projection}"
                modules[address] = Site(address, d_in, d_out, c.has_bias(projection), path)
        return modules

    @cached_property
    def sites(self) -> dict[Address, Site]:
        """The modules that are decomposed, in forward order."""
        return {address: site for address, site in self.modules.items() if self.is_decomposed(address)}

    @cached_property
    def whole(self) -> tuple[Address, ...]:
        """The modules that are left whole, in forward order."""
        return tuple(address for address in self.modules if not self.is_decomposed(address))

    def is_decomposed(self, address: Address) -> bool:
        return self.decomposed is None or address in self.decomposed

    @property
    def pseudo_sources(self) -> tuple[Address, ...]:
        """What enters the residual stream before the first block."""
        return (EMBED,) if self.config.rotary else (EMBED, POSITION)

    @cached_property
    def _vectors(self) -> tuple[_Vector, ...]:
        """Everything that any module (or the unembedding) reads, in forward order."""
        c = self.config
        vectors: list[_Vector] = []
        writers: tuple[tuple[Address, bool], ...] = ()
        for block in range(c.n_blocks):
            projections = ("qkv",) if c.fused_qkv else ("q", "k", "v")
            reading = tuple(Address(block, c.attention_kind, p) for p in projections)
            hidden = tuple(Address(block, c.mlp_kind, p) for p in (("gate", "up") if c.gated else ("up",)))
            o, down = Address(block, c.attention_kind, "o"), Address(block, c.mlp_kind, "down")
            mixing = tuple((a, a.projection != "q") for a in reading)
            acting = tuple((a, False) for a in hidden)
            vectors += [
                _Vector(f"{block}.attn.input", "norm", c.d_model, reading, writers, block),
                _Vector(f"{block}.attn.mixed", "attention", c.attention_width, (o,), mixing, block),
            ]
            writers += ((o, False),)
            vectors += [
                _Vector(f"{block}.mlp.input", "norm", c.d_model, hidden, writers, block),
                _Vector(f"{block}.mlp.hidden", "mlp", c.d_ff, (down,), acting, block),
            ]
            writers += ((down, False),)
        vectors.append(_Vector("output", "norm", c.d_model, (OUTPUT,), writers, None))
        return tuple(vectors)

    @cached_property
    def read_points(self) -> tuple[ReadPoint, ...]:
        """The vectors that decomposed sites (or the unembedding) read, in forward order."""
        # For each module: what reaches its input, with whether it does from earlier positions too.
        before: dict[Address, dict[Address, bool]] = {}
        passed: dict[Address, frozenset[Address]] = {}
        points: list[ReadPoint] = []
        for vector in self._vectors:
            reach: dict[Address, bool] = {}
            if vector.operation == "norm":
                reach = dict.fromkeys(self.pseudo_sources, False)
            through: frozenset[Address] = frozenset()
            for address, earlier in vector.feeds:
                if self.is_decomposed(address):
                    reach[address] = reach.get(address, False) or earlier
                    continue
                through |= passed[address] | {address}
                for source, from_earlier in before[address].items():
                    reach[source] = reach.get(source, False) or from_earlier or earlier
            for reader in vector.readers:
                before[reader], passed[reader] = reach, through
            readers = tuple(a for a in vector.readers if a == OUTPUT or self.is_decomposed(a))
            if not readers:
                continue
            points.append(
                ReadPoint(
                    vector.name,
                    vector.operation,
                    vector.d_in,
                    readers,
                    tuple(a for a in self.modules if a in reach),
                    tuple(a for a in self.pseudo_sources if a in reach),
                    vector.block,
                    frozenset(a for a, earlier in reach.items() if earlier),
                    tuple(a for a in self.modules if a in through),
                )
            )
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

    def obstacle(self, point: ReadPoint) -> str | None:
        """Why no closed form holds into a read point, or ``None`` where one does."""
        if point.through:
            names = ", ".join(str(address) for address in point.through[:3])
            more = f" and {len(point.through) - 3} more" if len(point.through) > 3 else ""
            return f"gradients pass through {names}{more}, left whole"
        if self.config.qk_norm and point.operation == "attention":
            return "queries and keys are normalised per head before attention"
        return None

    @property
    def closed_form_obstacle(self) -> str | None:
        """Why closed forms do not hold for all of this model, or ``None`` where they do."""
        found = [reason for point in self.read_points if (reason := self.obstacle(point)) is not None]
        if not found or not any(point.through for point in self.read_points):
            return found[0] if found else None
        return f"{len(self.whole)} of {len(self.modules)} matrices are left whole, and gradients pass through them"
