"""Prompt graphs as dense blocks, from the columns and from the definition, to be compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from compute.address import OUTPUT, TARGET, Address, parse_address
from compute.attribution.definition import Edges, PromptTarget, Source, prompt_attributions
from compute.attribution.prompt import (
    BIAS_INDEX,
    DELTA_INDEX,
    PromptGraph,
    PromptSettings,
    prompt_graph,
)
from compute.attribution.sums import RowKind
from compute.decomposition.model import Decomposition

KINDS: dict[str, RowKind] = {"embed": "embed", "position": "position"}


def address_of(name: str) -> Address:
    return TARGET if name == "target" else parse_address(name)


def kind_of(address: Address, index: int) -> RowKind:
    if index in (DELTA_INDEX, BIAS_INDEX):
        return "delta" if index == DELTA_INDEX else "bias"
    return KINDS.get(address.kind, "component")


def numbers_by_block(graph: PromptGraph) -> dict[Source, np.ndarray]:
    """Node numbers of each address and kind, in order."""
    nodes = graph.nodes
    addresses = [address_of(name) for name in nodes.addresses]
    result: dict[Source, list[int]] = {}
    for n, (site, index) in enumerate(zip(nodes.site, nodes.index, strict=True)):
        result.setdefault((addresses[site], kind_of(addresses[site], int(index))), []).append(n)
    return {source: np.array(numbers) for source, numbers in result.items()}


def found_blocks(graph: PromptGraph) -> dict[Edges, Tensor]:
    """Edges as blocks [target nodes, source nodes], zero where there is none."""
    n = len(graph.nodes)
    blocks = numbers_by_block(graph)
    result: dict[Edges, Tensor] = {}
    for metric, values in (("attr", graph.edges.attr), ("attr_abs", graph.edges.attr_abs)):
        dense = np.zeros((n, n), values.dtype)
        dense[graph.edges.target, graph.edges.source] = values
        for target, kind in blocks:
            if target.is_site and kind != "component":
                continue
            for source, source_kind in blocks:
                if source in (OUTPUT, TARGET) or target.kind in ("embed", "position"):
                    continue
                block = dense[np.ix_(blocks[target, kind], blocks[source, source_kind])]
                result[Edges(metric, target, source, source_kind)] = torch.from_numpy(block)
    return result


def expected_blocks(decomposition: Decomposition, tokens: Tensor, graph: PromptGraph) -> dict[Edges, Tensor]:
    """The same blocks by one backward pass per target node and metric."""
    blocks = numbers_by_block(graph)
    positions = torch.from_numpy(graph.nodes.position.astype(np.int64))
    indices = torch.from_numpy(graph.nodes.index.astype(np.int64))
    result: dict[Edges, Tensor] = {}
    for metric in ("attr", "attr_abs"):
        for (target, kind), numbers in blocks.items():
            if (target.is_site and kind != "component") or target.kind in ("embed", "position"):
                continue
            targets = [target_of(graph, target, n) for n in numbers.tolist()]
            rows = list(
                prompt_attributions(decomposition, tokens, targets, delta=graph.settings.delta, metric=metric)
            )
            for (source, source_kind), source_numbers in blocks.items():
                if source in (OUTPUT, TARGET):
                    continue
                at = positions[source_numbers]
                block = [
                    row[source, source_kind][at, indices[source_numbers]]
                    if source_kind == "component"
                    else row[source, source_kind][at]
                    for row in rows
                ]
                result[Edges(metric, target, source, source_kind)] = torch.stack(block)
    return result


def target_of(graph: PromptGraph, address: Address, number: int) -> PromptTarget:
    position, index = int(graph.nodes.position[number]), int(graph.nodes.index[number])
    if address == TARGET:
        terms = graph.settings.targets[index].terms
        return PromptTarget(tuple((OUTPUT, t.position, t.token, t.weight) for t in terms))
    return PromptTarget.node(address, position, index)


def given_importance(decomposition: Decomposition, tokens: Tensor) -> Mapping[Address, Tensor]:
    with torch.no_grad():
        g = decomposition.causal_importance(decomposition.clean_pass(tokens[None])[1])
    return {address: values[0] for address, values in g.items()}


def prompt_totals(
    decomposition: Decomposition, tokens: Tensor, delta: str, dataset: Mapping[Edges, Tensor]
) -> dict[Edges, Tensor]:
    """A prompt's edges as dataset attributions: weighted by the source's importance, added up over
    both positions. Blocks that are not in ``dataset`` have to be zero, and are left out."""
    importance = given_importance(decomposition, tokens)
    everything = PromptSettings(
        delta=delta,  # type: ignore[arg-type]
        alive_above=-1.0,
        output_probability=0.0,
        outputs_at_most=decomposition.target.config.vocab_size,
        output_positions="all",
    )
    graph = prompt_graph(decomposition, tokens, everything)
    numbers = numbers_by_block(graph)
    found: dict[Edges, Tensor] = {}
    for edges, by_node in found_blocks(graph).items():
        if edges not in dataset:
            assert not by_node.any(), edges
            continue
        block, total = by_node, dataset[edges] * 0
        rows = graph.nodes.index[numbers[edges.target, "component"]].astype(int)
        here = numbers[edges.source, edges.kind]
        if edges.kind == "component":
            at = torch.from_numpy(graph.nodes.position[here].astype(int))
            columns = torch.from_numpy(graph.nodes.index[here].astype(int))
            block = by_node * importance[edges.source][at, columns]
        elif edges.kind in ("delta", "bias"):
            columns = torch.zeros(len(here), dtype=torch.long)
        else:
            columns = torch.from_numpy(graph.nodes.index[here].astype(int))
        total.index_put_((torch.from_numpy(rows)[:, None], columns[None]), block, accumulate=True)
        found[edges] = total
    return found
