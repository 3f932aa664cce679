"""Raw attribution sums: which arrays there are, how their rows are laid out, and their addition.

One :class:`AttributionSums` is what a set of documents adds up to. Sums of disjoint sets of
documents add, field by field; nothing is normalised before a query (docs/mathematics.md).

Arrays (R a read point, A a site, rows as in :class:`ReadPointLayout`):

=============================  ====================  =================================================
name                           shape                 content
=============================  ====================  =================================================
``signed/R``                   [n_rows, d_in]        Z: attribution into target t of R is ``Z @ V_t``
``frozen_weight/R``            [n_rows]              Σ ã/σ; times ΓŨ_s it is the frozen-norm Z (norms only)
``frozen_delta/R``             [n_delta, d_in]       frozen-norm Z of the delta rows, in row order
``abs/A``                      [n_targets, n_rows]   Σ |y_t|-attributions, A a reader of R, or ``output``
``ci_sum/A``                   [C]                   Σ causal importance
``activation_sum/A``           [C]                   Σ y
``activation_abs_sum/A``       [C]                   Σ |y|
``activation_square_sum/A``    [C]                   Σ y²
``token_count``                [vocab]               occurrences
``position_count``             [context]             occurrences (learned positions only)
``logit_sum``, ``logit_square_sum`` [vocab]          Σ logit, Σ logit²
``centred_logit_square_sum``   [vocab]               Σ (logit − mean logit)² (with ``output_abs`` only)
``tokens``                     [1]                   tokens processed
=============================  ====================  =================================================

Where matrices are left whole there are no ``frozen_`` arrays (:func:`has_frozen`).

The engine lays ``abs/A`` out source by source in memory (a transposed view), to add whole rows.
Where ``abs`` was accumulated on a part of the tokens only, every statistic exists a second time
under the prefix ``abs_part/``, for just those tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compute.address import OUTPUT, Address, Key
from compute.decomposition.model import Decomposition
from compute.topology import Operation

DeltaMode = Literal["node", "off"]
RowKind = Literal["embed", "position", "component", "delta", "bias"]


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of one read point: all components of a site, its delta, all tokens …"""

    address: Address
    kind: RowKind
    offset: int
    count: int

    def key(self, row: int) -> Key:
        """The source at ``row`` (counted from the start of the read point)."""
        if self.kind == "delta" or self.kind == "bias":
            return Key(self.address, self.kind)
        return Key(self.address, row - self.offset)


@dataclass(frozen=True)
class ReadPointLayout:
    """The rows (sources) of one read point, in order, and its readers (targets)."""

    name: str
    operation: Operation
    d_in: int
    readers: tuple[Address, ...]
    blocks: tuple[RowBlock, ...]
    #: Modules left whole between the sources and here.
    through: tuple[Address, ...] = ()

    @property
    def n_rows(self) -> int:
        return sum(block.count for block in self.blocks)

    @property
    def has_pseudo_sources(self) -> bool:
        return any(block.kind in ("embed", "position") for block in self.blocks)

    def block_of(self, address: Address, kind: RowKind) -> RowBlock | None:
        return next((b for b in self.blocks if b.address == address and b.kind == kind), None)


def layout(decomposition: Decomposition, delta: DeltaMode) -> tuple[ReadPointLayout, ...]:
    """Row layouts of all read points. Bias rows exist for sites with a bias, in both delta modes."""
    topology = decomposition.topology
    config = topology.config
    layouts = []
    for point in topology.read_points:
        blocks: list[RowBlock] = []
        offset = 0

        def add(address: Address, kind: RowKind, count: int) -> None:
            nonlocal offset
            blocks.append(RowBlock(address, kind, offset, count))  # noqa: B023
            offset += count

        for pseudo in point.pseudo_sources:
            if pseudo.kind == "embed":
                add(pseudo, "embed", config.vocab_size)
            else:
                add(pseudo, "position", config.context)
        for address in point.sources:
            add(address, "component", decomposition.n_components[address])
            if delta == "node":
                add(address, "delta", 1)
            if topology.sites[address].has_bias:
                add(address, "bias", 1)
        layouts.append(
            ReadPointLayout(
                point.name, point.operation, point.d_in, point.readers, tuple(blocks), point.through
            )
        )
    return tuple(layouts)


def has_frozen(layouts: Iterable[ReadPointLayout]) -> bool:
    """Whether frozen-norm attributions can be had: with nothing left whole, a path from source to
    target crosses one norm at most, at its end, and a number for each source says it all."""
    return not any(point.through for point in layouts)


@dataclass
class AttributionSums:
    """Named arrays of raw sums; see the module's table. ``abs_targets`` lists, for each reader whose
    ``abs`` rows are not all of its components (or all tokens), the indices that the rows stand for."""

    delta: DeltaMode
    ci_weighted: bool
    layouts: tuple[ReadPointLayout, ...]
    arrays: dict[str, Tensor]
    abs_targets: dict[Address, tuple[int, ...]]

    def add(self, other: AttributionSums) -> None:
        """Add the sums of other documents, in place; raises ``ValueError`` if they are not alike."""
        same = (
            self.delta == other.delta
            and self.ci_weighted == other.ci_weighted
            and self.layouts == other.layouts
            and self.abs_targets == other.abs_targets
            and self.arrays.keys() == other.arrays.keys()
        )
        if not same:
            raise ValueError("the two sums differ in model, delta, weighting or metrics and cannot be added")
        for name, value in other.arrays.items():
            self.arrays[name] += value

    def abs_readers(self) -> Iterator[Address]:
        """The addresses that have an ``abs`` array."""
        for point in self.layouts:
            for reader in point.readers:
                if f"abs/{reader}" in self.arrays:
                    yield reader

    @property
    def has_output_abs(self) -> bool:
        return f"abs/{OUTPUT}" in self.arrays

    @property
    def tokens(self) -> int:
        return int(torch.as_tensor(self.arrays["tokens"]).item())
