"""Position-resolved attributions of one prompt (docs/mathematics.md, section 9).

    graph = prompt_graph(decomposition, tokens, PromptSettings(delta="node"))

Nodes and edges are those of compute/attribution/prompt_data.py, values those of the definition
(compute/attribution/definition.py) in all three delta modes. One forward pass without gradients;
then, for every read point and position, what reaches it is read in all alive targets' directions
at once, ``attr`` and ``attr_abs`` together: in closed form where the read point has one
(prompt_blocks.py), otherwise back through the network (prompt_adjoint.py). Edges stream into columns
(prompt_selection.py). Every edge that is not exactly zero is there, cross-position ones included,
unless the settings ask for fewer; then what was left out is counted.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compute.address import OUTPUT, TARGET, Address
from compute.attribution.prompt_adjoint import Adjoint
from compute.attribution.prompt_blocks import ClosedForms
from compute.attribution.prompt_data import (
    BIAS_INDEX,
    DELTA_INDEX,
    CustomTarget,
    EdgeColumns,
    Estimate,
    NodeTable,
    Omitted,
    OutputTerm,
    PromptGraph,
    PromptMethod,
    PromptSettings,
    TooLargeError,
)
from compute.attribution.prompt_estimate import estimate_of, refuse_if_too_large
from compute.attribution.prompt_nodes import (
    PromptNodes,
    check_settings,
    choose_nodes,
    node_table,
    source_rows,
    target_value,
)
from compute.attribution.prompt_pass import PromptPass, run_prompt
from compute.attribution.prompt_reach import Reach
from compute.attribution.prompt_selection import Selection
from compute.decomposition.model import Decomposition
from compute.progress import Report, silent
from compute.topology import ReadPoint, Topology

__all__ = [
    "BIAS_INDEX",
    "DELTA_INDEX",
    "CustomTarget",
    "EdgeColumns",
    "Estimate",
    "NodeTable",
    "Omitted",
    "OutputTerm",
    "PromptGraph",
    "PromptSettings",
    "TooLargeError",
    "choose_method",
    "estimate",
    "prompt_graph",
]


def estimate(
    decomposition: Decomposition,
    tokens: Tensor,
    settings: PromptSettings,
    importance: Mapping[Address, Tensor] | None = None,
) -> Estimate:
    """Nodes, edges and bytes that the graph of ``tokens`` [T] would take at most; runs a forward pass."""
    check_settings(settings, len(tokens), decomposition.target.config.vocab_size)
    forward = run_prompt(decomposition, tokens, settings.delta, importance)
    nodes = choose_nodes(decomposition, forward, settings)
    return estimate_of(decomposition, nodes, choose_method(decomposition, settings)[0])


def choose_method(decomposition: Decomposition, settings: PromptSettings) -> tuple[PromptMethod, str]:
    """How the edges will be computed, and why; raises ``ValueError`` for a method that cannot be."""
    topology = decomposition.topology
    obstacle = topology.closed_form_obstacle
    if settings.delta == "through":
        obstacle = "gradients flow through the deltas"
    if settings.method == "closed_form" and obstacle is not None:
        raise ValueError(f"there is no closed form here: {obstacle}")
    back = "read directions go back through the network in batches"
    if settings.method == "fallback":
        return "fallback", f"asked for: {back}"
    if obstacle is None:
        return "closed_form", "every operation of this model has a closed form"
    closed, walked = _split(topology, settings)
    where = f", from {len(walked)} of {len(topology.read_points)} read points" if closed else ""
    return "fallback", f"{obstacle}: {back}{where}"


def _split(topology: Topology, settings: PromptSettings) -> tuple[list[ReadPoint], list[ReadPoint]]:
    """The read points whose reach has a closed form, and those from which one has to walk back."""
    everything = settings.method == "fallback" or settings.delta == "through"
    walked = [p for p in topology.read_points if everything or topology.obstacle(p) is not None]
    return [p for p in topology.read_points if p not in walked], walked


@torch.no_grad()
def prompt_graph(
    decomposition: Decomposition,
    tokens: Tensor,
    settings: PromptSettings,
    *,
    importance: Mapping[Address, Tensor] | None = None,
    memory_limit: int | None = None,
    report: Report = silent,
) -> PromptGraph:
    """The graph of ``tokens`` [T] (ids).

    ``importance`` [T, C] by site replaces the model's own causal importances. Raises
    :class:`TooLargeError` before any edge is computed if more than ``memory_limit`` bytes would be
    needed, ``ValueError`` for settings that cannot be meant, and whatever ``report`` raises.
    """
    started, memory = time.perf_counter(), _Memory()
    check_settings(settings, len(tokens), decomposition.target.config.vocab_size)
    method, reason = choose_method(decomposition, settings)
    report("forward pass", 0, 1)
    forward = run_prompt(decomposition, tokens, settings.delta, importance)
    report("forward pass", 1, 1)
    nodes = choose_nodes(decomposition, forward, settings)
    size = refuse_if_too_large(
        decomposition, nodes, method, memory_limit, lambda other: choose_nodes(decomposition, forward, other)
    )
    table = node_table(decomposition, forward, nodes)
    rows = source_rows(decomposition, forward, nodes)
    closed, walked = _split(decomposition.topology, settings)
    ways: list[ClosedForms | Adjoint] = []
    if closed:
        ways.append(ClosedForms(decomposition, forward, nodes, rows, closed))
    if walked:
        ways.append(Adjoint(decomposition, forward, nodes, rows, walked))
    targets = _Targets(decomposition, forward, nodes)
    kind = forward.logits.cpu().numpy().dtype
    selection = Selection(table.scale.astype(kind), settings.threshold, settings.max_edges)
    done = 0
    for reach in chain.from_iterable(way.reaches(targets.any_at) for way in ways):
        for batch in targets.batches(reach):
            report("edges", done, size.edges)
            targets.read(reach, batch, selection)
            done += sum(len(part.signs) for part in batch) * len(reach.sources)
        memory.look()
    targets.finish(selection)
    report("edges", size.edges, size.edges)
    edges, omitted = selection.finish()
    memory.look()
    return PromptGraph(
        forward.tokens.cpu().numpy(),
        settings,
        table,
        edges,
        omitted,
        method,
        reason,
        time.perf_counter() - started,
        memory.peak,
    )


@dataclass(frozen=True)
class _Part:
    """Consecutive targets from number ``first`` on: their read ``directions`` [n, d_in], those of
    ``attr_abs`` where they differ, and ``signs`` [n] of what is read."""

    first: int
    directions: Tensor
    abs_directions: Tensor | None
    signs: Tensor

    @property
    def n_directions(self) -> int:
        return len(self.signs) * (1 if self.abs_directions is None else 2)

    def split(self, at_most: int) -> Iterator[_Part]:
        """In parts of so many directions."""
        step = max(1, at_most if self.abs_directions is None else at_most // 2)
        for low in range(0, len(self.signs), step):
            part = slice(low, low + step)
            yield _Part(
                self.first + low,
                self.directions[part],
                None if self.abs_directions is None else self.abs_directions[part],
                self.signs[part],
            )


class _Targets:
    """Who reads, where, and along which directions."""

    def __init__(self, decomposition: Decomposition, forward: PromptPass, nodes: PromptNodes) -> None:
        self._decomposition = decomposition
        self._forward = forward
        self._nodes = nodes
        self._unembedding = decomposition.target.unembedding.weight.detach()
        self._mean_direction = self._unembedding.mean(0)
        self._centred_logits = forward.logits - forward.logits.mean(-1, keepdim=True)
        self._read: dict[Address, tuple[Tensor, Tensor]] = {}
        #: Custom targets by number: what arrived so far, position by position.
        self._custom: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}

    def any_at(self, point: ReadPoint, position: int) -> bool:
        """Whether anything reads ``point`` at ``position``."""
        if any(self._nodes.by_address[reader].alive[position] for reader in point.readers):
            return True
        return point.readers == (OUTPUT,) and any(
            term.position == position for target in self._nodes.settings.targets for term in target.terms
        )

    def batches(self, reach: Reach) -> Iterator[list[_Part]]:
        """The targets of a read point at a position, in batches of at most ``reach.at_once`` directions."""
        batch: list[_Part] = []
        for whole in self._parts(reach.point, reach.position):
            for part in whole.split(reach.at_once):
                if batch and sum(p.n_directions for p in batch) + part.n_directions > reach.at_once:
                    yield batch
                    batch = []
                batch.append(part)
        if batch:
            yield batch

    def _parts(self, point: ReadPoint, position: int) -> Iterator[_Part]:
        for reader in point.readers:
            here = self._nodes.by_address[reader]
            part = slice(here.offsets[position], here.offsets[position + 1])
            if part.start < part.stop:
                directions, signs = self._read_by(reader)
                centred = directions[part] - self._mean_direction if reader == OUTPUT else None
                yield _Part(here.starts[position], directions[part], centred, signs[part])
        if point.readers == (OUTPUT,):
            yield from self._custom_parts(position)

    def _read_by(self, reader: Address) -> tuple[Tensor, Tensor]:
        """Directions [n, d_in] and signs [n] of all targets at one address, in order."""
        if reader not in self._read:
            here = self._nodes.by_address[reader]
            at = torch.repeat_interleave(torch.tensor(here.alive)).to(here.indices.device)
            if reader == OUTPUT:
                directions = self._unembedding.index_select(0, here.indices)
                y = self._centred_logits
            else:
                directions = self._decomposition.V(reader).detach().index_select(1, here.indices)
                directions = directions.T.contiguous()
                y = self._forward.activations[reader]
            self._read[reader] = directions, y[at, here.indices].sign()
        return self._read[reader]

    def _custom_parts(self, position: int) -> Iterator[_Part]:
        for number, target in self._custom_targets():
            here = [term for term in target.terms if term.position == position]
            if not here:
                continue
            weights = self._unembedding.new_tensor([term.weight for term in here])
            tokens = torch.tensor([term.token for term in here], device=weights.device)
            direction = weights @ self._unembedding.index_select(0, tokens)
            centred = direction - weights.sum() * self._mean_direction
            sign = target_value(self._centred_logits, target).sign()
            yield _Part(number, direction[None], centred[None], sign[None])

    def _custom_targets(self) -> Iterator[tuple[int, CustomTarget]]:
        """Node numbers and settings of the custom targets."""
        here = self._nodes.by_address.get(TARGET)
        if here is not None:
            for i, which in enumerate(here.indices.tolist()):
                yield here.first + i, self._nodes.settings.targets[which]

    def read(self, reach: Reach, batch: list[_Part], selection: Selection) -> None:
        """Compute the edges into one batch of targets and hand them on."""
        directions = [part.directions for part in batch]
        directions += [part.abs_directions for part in batch if part.abs_directions is not None]
        found = reach.attributions(torch.cat(directions))
        counts = [len(part) for part in directions]
        blocks = list(found.split(counts))
        others = iter(blocks[len(batch) :])
        custom = self._nodes.by_address.get(TARGET)
        for part, attr in zip(batch, blocks, strict=False):
            magnitude = attr if part.abs_directions is None else next(others)
            columns = attr.cpu().numpy(), (magnitude * part.signs[:, None]).cpu().numpy()
            if custom is not None and part.first >= custom.first:
                self._custom.setdefault(part.first, []).append((reach.sources, *columns))
            else:
                selection.add(part.first, reach.sources, *columns)

    def finish(self, selection: Selection) -> None:
        """Hand on the custom targets, whose terms may stand at several positions."""
        for number, parts in self._custom.items():
            sources = np.concatenate([part[0] for part in parts])
            # Where gradients pass through deltas or whole matrices, a source may reach several positions.
            distinct, inverse = np.unique(sources, return_inverse=True)
            columns = []
            for i in (1, 2):
                total = np.zeros((1, len(distinct)), parts[0][i].dtype)
                np.add.at(total[0], inverse, np.concatenate([part[i][0] for part in parts]))
                columns.append(total)
            selection.add(number, distinct, *columns)
        self._custom.clear()


class _Memory:
    """The most memory seen in use, in bytes above the start; looks at most every few milliseconds."""

    def __init__(self) -> None:
        self._start = self._highest = _resident()
        self._looked = time.perf_counter()

    def look(self) -> None:
        now = time.perf_counter()
        if now - self._looked > 0.005:
            self._looked, self._highest = now, max(self._highest, _resident())

    @property
    def peak(self) -> int:
        return max(self._highest, _resident()) - self._start


def _resident() -> int:
    """Bytes of this process in memory (and on the GPU), or its greatest ever where that is not told."""
    gpu = torch.cuda.memory_allocated() if torch.cuda.is_initialized() else 0
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + gpu
    return pages * resource.getpagesize() + gpu
