"""Which nodes a prompt graph has, how they are numbered, and their columns.

Nodes of one address are numbered position by position; at one position alive components come first
(by index), then the delta, then the bias. So the nodes of an address at a position, and those at
all positions up to one, are runs of consecutive numbers, and edges need no index of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compute.address import EMBED, OUTPUT, POSITION, TARGET, Address
from compute.attribution.prompt_data import (
    BIAS_INDEX,
    DELTA_INDEX,
    CustomTarget,
    NodeTable,
    PromptSettings,
)
from compute.attribution.prompt_pass import PromptPass, embedded, vectors_at
from compute.decomposition.model import Decomposition


def check_settings(settings: PromptSettings, length: int, vocabulary: int) -> None:
    """Raise ``ValueError``, in words, for settings that cannot be meant."""
    for name in ("alive_above", "output_probability", "threshold"):
        if math.isnan(getattr(settings, name)):
            raise ValueError(f"{name} must be a number")
    if settings.threshold < 0 or settings.outputs_at_most < 0:
        raise ValueError("threshold and outputs_at_most cannot be negative")
    if settings.max_edges is not None and settings.max_edges < 1:
        raise ValueError("max_edges must be at least 1, or None for all")
    if not isinstance(settings.output_positions, str):
        _check_positions(settings.output_positions, length)
    for target in settings.targets:
        if not target.terms:
            raise ValueError(f"the target {target.name!r} has no terms")
        _check_positions([term.position for term in target.terms], length)
        for term in target.terms:
            if not 0 <= term.token < vocabulary:
                raise ValueError(
                    f"the target {target.name!r} has token {term.token}; ids end at {vocabulary - 1}"
                )
            if not math.isfinite(term.weight):
                raise ValueError(f"the target {target.name!r} has a weight that is no number")


def _check_positions(positions: Sequence[int], length: int) -> None:
    for position in positions:
        if not 0 <= position < length:
            raise ValueError(f"position {position} is outside the prompt, which has {length} tokens")


@dataclass(frozen=True)
class AddressNodes:
    """The nodes of one address.

    Numbers ``starts[p]`` to ``starts[p + 1]`` stand at position p; the first ``alive[p]`` of them
    are components or tokens, whose indices are ``indices[offsets[p] : offsets[p + 1]]``.
    """

    starts: list[int]
    alive: list[int]
    offsets: list[int]
    indices: Tensor

    @property
    def first(self) -> int:
        return self.starts[0]

    @property
    def count(self) -> int:
        return self.starts[-1] - self.starts[0]

    def at(self, position: int) -> slice:
        """Node numbers at a position."""
        return slice(self.starts[position], self.starts[position + 1])

    def until(self, position: int) -> slice:
        """Node numbers at all positions up to and including this one."""
        return slice(self.starts[0], self.starts[position + 1])

    @classmethod
    def of(cls, first: int, chosen: Tensor, extra: int) -> AddressNodes:
        """From ``chosen`` [T, n] bool and a number of further nodes at each position."""
        alive = chosen.sum(1)
        starts = torch.zeros(len(chosen) + 1, dtype=torch.long)
        starts[1:] = (alive.cpu() + extra).cumsum(0)
        offsets = torch.zeros(len(chosen) + 1, dtype=torch.long)
        offsets[1:] = alive.cpu().cumsum(0)
        indices = chosen.nonzero()[:, 1]
        return cls((starts + first).tolist(), alive.tolist(), offsets.tolist(), indices)


@dataclass(frozen=True)
class PromptNodes:
    """Which nodes there are. ``by_address`` is in the order of their numbers."""

    by_address: dict[Address, AddressNodes]
    #: The vector nodes (delta, bias) that a site has at every position, after its components.
    vectors: dict[Address, tuple[int, ...]]
    settings: PromptSettings
    length: int

    @property
    def count(self) -> int:
        return sum(nodes.count for nodes in self.by_address.values())


def choose_nodes(decomposition: Decomposition, forward: PromptPass, settings: PromptSettings) -> PromptNodes:
    """The nodes that ``settings`` ask for, numbered in forward order."""
    tokens, length = forward.tokens, len(forward.tokens)
    config = decomposition.target.config
    by_address: dict[Address, AddressNodes] = {}
    count = 0

    def add(address: Address, chosen: Tensor, extra: int = 0) -> None:
        nonlocal count
        by_address[address] = AddressNodes.of(count, chosen, extra)
        count += by_address[address].count

    add(EMBED, torch.nn.functional.one_hot(tokens, config.vocab_size).bool())
    if not config.rotary:
        add(POSITION, torch.eye(length, dtype=torch.bool))
    vectors: dict[Address, tuple[int, ...]] = {}
    for address in decomposition.addresses:
        kinds: tuple[int, ...] = (DELTA_INDEX,) if settings.delta == "node" else ()
        if decomposition.bias(address) is not None:
            kinds = (*kinds, BIAS_INDEX)
        vectors[address] = kinds
        add(address, forward.importance[address] > settings.alive_above, len(kinds))
    add(OUTPUT, _chosen_outputs(forward.target_logits, settings))
    if settings.targets:
        custom = torch.zeros(length, len(settings.targets), dtype=torch.bool)
        for i, target in enumerate(settings.targets):
            custom[target.position, i] = True
        add(TARGET, custom)
    return PromptNodes(by_address, vectors, settings, length)


def _chosen_outputs(logits: Tensor, settings: PromptSettings) -> Tensor:
    """Which tokens are output nodes, [T, vocab]."""
    probability = logits.softmax(-1)
    chosen = torch.zeros_like(probability, dtype=torch.bool)
    at_most = min(settings.outputs_at_most, probability.shape[1])
    top = probability.topk(at_most, -1)
    chosen.scatter_(1, top.indices, top.values >= settings.output_probability)
    if settings.output_positions != "all":
        wanted = [len(logits) - 1]
        if isinstance(settings.output_positions, tuple):
            wanted = list(settings.output_positions)
        here = torch.zeros(len(logits), 1, dtype=torch.bool, device=logits.device)
        here[wanted] = True
        chosen &= here
    return chosen


def node_table(decomposition: Decomposition, forward: PromptPass, nodes: PromptNodes) -> NodeTable:
    """The columns of all nodes."""
    n = nodes.count

    def column() -> NDArray[np.float32]:
        return np.full(n, np.nan, np.float32)

    table = NodeTable(
        addresses=[str(address) for address in nodes.by_address],
        site=np.zeros(n, np.int16),
        position=np.zeros(n, np.int16),
        index=np.zeros(n, np.int32),
        ci=column(),
        activation=column(),
        scale=np.ones(n, np.float32),
        probability=column(),
        logit=column(),
        ci_probability=column(),
        ci_logit=column(),
    )
    for i, (address, here) in enumerate(nodes.by_address.items()):
        everything = slice(here.first, here.first + here.count)
        extra = nodes.vectors.get(address, ())
        positions = np.repeat(np.arange(nodes.length), np.diff(here.starts))
        table.site[everything], table.position[everything] = i, positions
        own, own_positions = _own_numbers(here)
        table.index[own] = _array(here.indices)
        for j, kind in enumerate(extra):
            table.index[_vector_numbers(here, j)] = kind
        at = torch.from_numpy(own_positions).to(here.indices.device), here.indices
        if address.is_site:
            scale = decomposition.U(address).norm(dim=1)[here.indices]
            table.ci[own] = _array(forward.importance[address][at])
            table.scale[own] = _array(scale)
            table.activation[own] = _array(forward.activations[address][at] * scale)
            for j, kind in enumerate(extra):
                vectors = vectors_at(decomposition, forward, address, kind)
                table.activation[_vector_numbers(here, j)] = _array(vectors.norm(dim=-1))
        elif address == OUTPUT:
            table.activation[own] = _array(forward.logits[at])
            for logits, logit, probability in (
                (forward.target_logits, table.logit, table.probability),
                (forward.ci_logits, table.ci_logit, table.ci_probability),
            ):
                logit[own] = _array(logits[at])
                probability[own] = _array(logits.softmax(-1)[at])
        elif address == TARGET:
            sums = [target_value(forward.logits, target) for target in nodes.settings.targets]
            table.activation[own] = _array(torch.stack(sums)[here.indices])
        else:
            table.activation[own] = _array(embedded(decomposition, forward, address).norm(dim=1))
    return table


def target_value(logits: Tensor, target: CustomTarget) -> Tensor:
    """Σ weight · logit over the terms of a custom target."""
    return sum((t.weight * logits[t.position, t.token] for t in target.terms), logits.new_zeros(()))


def source_rows(
    decomposition: Decomposition, forward: PromptPass, nodes: PromptNodes
) -> dict[Address, Tensor]:
    """What each source node writes, [n, d_out] by address, in the order of the node numbers.

    A component's row is y U_c, a delta's x Δᵀ, a bias's b, an embedding's itself.
    """
    rows: dict[Address, Tensor] = {}
    for address in nodes.by_address:
        if not address.is_site:
            if address in (EMBED, POSITION):
                rows[address] = embedded(decomposition, forward, address)
            continue
        here = nodes.by_address[address]
        own, positions = _own_numbers(here)
        at = torch.from_numpy(positions).to(here.indices.device)
        U = decomposition.U(address).detach()
        rows[address] = U.new_empty(here.count, U.shape[1])
        written = U.index_select(0, here.indices) * forward.activations[address][at, here.indices, None]
        rows[address][torch.from_numpy(own - here.first).to(U.device)] = written
        for j, kind in enumerate(nodes.vectors[address]):
            numbers = torch.from_numpy(_vector_numbers(here, j) - here.first).to(U.device)
            rows[address][numbers] = vectors_at(decomposition, forward, address, kind)
    return rows


def _own_numbers(nodes: AddressNodes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers and positions of an address's components or tokens (not its delta and bias)."""
    positions = np.repeat(np.arange(len(nodes.alive)), nodes.alive)
    offsets, starts = np.array(nodes.offsets), np.array(nodes.starts)
    return np.arange(len(positions)) - offsets[positions] + starts[positions], positions


def _vector_numbers(nodes: AddressNodes, which: int) -> NDArray[np.int64]:
    """Numbers of the ``which``-th vector node at every position."""
    return np.array(nodes.starts[:-1]) + np.array(nodes.alive) + which


def _array(x: Tensor) -> NDArray[Any]:
    return x.detach().cpu().numpy()
