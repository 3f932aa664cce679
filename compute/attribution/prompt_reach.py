"""What can reach a read point of a prompt, from which positions, and through what.

Both ways of computing a prompt's edges answer the same question: for one read point at one
position, how does everything that flows there act on the vector that is read? They differ in how
(compute/attribution/prompt_blocks.py, compute/attribution/prompt_adjoint.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compute.address import Address
from compute.attribution.definition import DefinitionDelta
from compute.attribution.prompt_nodes import PromptNodes
from compute.topology import ReadPoint, Topology

#: Elements of one block of attributions [read directions, sources] at most, where there is a choice.
BLOCK_ELEMENTS = 2**21


@dataclass(frozen=True)
class Reach:
    """Everything that reaches ``point`` at ``position``.

    ``sources`` are the source nodes' numbers; ``attributions`` maps read directions [n, d_in] to
    gradient × source [n, n_sources]; ``at_once`` is how many directions it should be given at most.
    """

    point: ReadPoint
    position: int
    sources: NDArray[np.uint32]
    attributions: Callable[[Tensor], Tensor]
    at_once: int


#: Whether anything reads a read point at a position.
Needed = Callable[[ReadPoint, int], bool]


def sources_reaching(
    topology: Topology, point: ReadPoint, delta: DefinitionDelta
) -> list[tuple[Address, bool]]:
    """The source addresses of ``point`` in forward order, and whether they reach it from earlier
    positions too. Only keys and values act on later positions; where gradients flow through deltas,
    so does everything before the last attention on the way."""
    if delta != "through":
        return [(a, a in point.earlier) for a in point.pseudo_sources + point.sources]
    n_blocks = topology.config.n_blocks
    block = n_blocks if point.block is None else point.block
    last_attention = block - 1 if point.name.endswith((".attn.input", "output")) else block
    found = [(address, last_attention >= 0) for address in topology.pseudo_sources]
    for upstream in topology.read_points:
        if upstream.name == point.name:
            break
        for address in upstream.readers:
            assert address.block is not None
            earlier = address.block < last_attention or (
                address.block == last_attention and address.projection in ("k", "v", "qkv")
            )
            found.append((address, earlier))
    return found


def reaching_numbers(
    nodes: PromptNodes, sources: list[tuple[Address, bool]], position: int
) -> NDArray[np.uint32]:
    """Node numbers of the sources of a read point at a position, ascending."""
    runs = []
    for address, earlier in sources:
        here = nodes.by_address[address]
        run = here.until(position) if earlier else here.at(position)
        runs.append(np.arange(run.start, run.stop, dtype=np.uint32))
    return np.concatenate(runs) if runs else np.zeros(0, np.uint32)


def count_reaching(nodes: PromptNodes, sources: list[tuple[Address, bool]]) -> NDArray[np.int64]:
    """How many sources reach a read point at each position, [T]."""
    total = np.zeros(nodes.length, np.int64)
    for address, earlier in sources:
        starts = np.array(nodes.by_address[address].starts)
        total += starts[1:] - starts[0] if earlier else np.diff(starts)
    return total
