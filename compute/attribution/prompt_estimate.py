"""How large a prompt graph will be, known before any edge is computed, and what to do when too large.

Edges are counted exactly, but for those that turn out to be zero; bytes are an upper bound of what
is held at the same time beside the model itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compute.address import OUTPUT
from compute.attribution.prompt_data import Estimate, PromptMethod, PromptSettings, TooLargeError
from compute.attribution.prompt_nodes import PromptNodes
from compute.attribution.prompt_reach import BLOCK_ELEMENTS, count_reaching, sources_reaching
from compute.decomposition.model import Decomposition
from compute.topology import ReadPoint, Topology

Counts = NDArray[np.int64]
#: What allocators and small objects take on top.
_MARGIN_BYTES = 8 * 2**20


def count_readers(nodes: PromptNodes, point: ReadPoint) -> Counts:
    """Targets that read a read point, by position [T]; a custom target counts wherever it has a term."""
    readers = np.zeros(nodes.length, np.int64)
    for address in point.readers:
        readers += nodes.by_address[address].alive
    if point.readers == (OUTPUT,):
        for target in nodes.settings.targets:
            readers[sorted({term.position for term in target.terms})] += 1
    return readers


def count_edges(topology: Topology, nodes: PromptNodes) -> Counts:
    """Edges into targets at each position [T]; those of custom targets where their terms are."""
    return sum(
        (readers * sources for readers, sources in _sizes(topology, nodes)), np.zeros(nodes.length, np.int64)
    )


def _sizes(topology: Topology, nodes: PromptNodes) -> list[tuple[Counts, Counts]]:
    """Targets and sources [T] of each read point."""
    delta = nodes.settings.delta
    return [
        (count_readers(nodes, p), count_reaching(nodes, sources_reaching(topology, p, delta)))
        for p in topology.read_points
    ]


def estimate_of(decomposition: Decomposition, nodes: PromptNodes, method: PromptMethod) -> Estimate:
    """What a graph with these nodes takes."""
    return _estimates(decomposition, nodes, method)(nodes.length)


def refuse_if_too_large(
    decomposition: Decomposition,
    nodes: PromptNodes,
    method: PromptMethod,
    limit: int | None,
    choose: Callable[[PromptSettings], PromptNodes],
) -> Estimate:
    """The estimate, or :class:`TooLargeError` saying what would fit. ``choose`` gives the nodes of
    other settings."""
    estimates = _estimates(decomposition, nodes, method)
    whole = estimates(nodes.length)
    if limit is None or whole.bytes <= limit:
        return whole
    ways = []
    fitting = [n for n in range(1, nodes.length) if estimates(n).bytes <= limit]
    if fitting:
        ways.append(f"the first {fitting[-1]} of the {nodes.length} tokens")
    settings = nodes.settings
    per_edge = _bytes_per_edge(decomposition, selective=True)
    without = estimate_of(decomposition, choose(replace(settings, max_edges=1)), method)
    most = (limit - without.bytes) // (2 * per_edge)
    if most >= 1000 and (settings.max_edges is None or most < settings.max_edges):
        ways.append(f"max_edges {_rounded_down(most)}")
    low, high = max(settings.alive_above, 0.0), 1.0
    for _ in range(12):
        middle = (low + high) / 2
        with_fewer = choose(replace(settings, alive_above=middle))
        fits = estimate_of(decomposition, with_fewer, method).bytes <= limit
        low, high = (low, middle) if fits else (middle, high)
    high = math.ceil(1000 * high) / 1000
    if high < 1:
        ways.append(f"alive_above {high}")
    advice = f"it would fit with {', or '.join(ways)}" if ways else "a shorter prompt may fit"
    raise TooLargeError(
        f"the graph would have {whole.nodes:,} nodes and {whole.edges:,} edges and need "
        f"{_bytes(whole.bytes)}, and {_bytes(limit)} are allowed; {advice}",
        whole,
        limit,
    )


def _estimates(
    decomposition: Decomposition, nodes: PromptNodes, method: PromptMethod
) -> Callable[[int], Estimate]:
    """The estimate of the prompt's first n tokens, by n."""
    config = decomposition.target.config
    topology, settings = decomposition.topology, nodes.settings
    item = decomposition.target.token_embedding.weight.dtype.itemsize
    counts = {a: np.diff(here.starts).cumsum() for a, here in nodes.by_address.items()}
    edges = count_edges(topology, nodes).cumsum()
    most_readers, most_pairs = np.zeros(nodes.length, np.int64), np.zeros(nodes.length, np.int64)
    for readers, sources in _sizes(topology, nodes):
        np.maximum(most_readers, 2 * readers, out=most_readers)  # 2: attr_abs of output tokens
        np.maximum(most_pairs, 2 * readers * sources, out=most_pairs)
    most_readers, most_pairs = np.maximum.accumulate(most_readers), np.maximum.accumulate(most_pairs)
    sites = topology.sites
    widths = {a: sites[a].d_out if a.is_site else config.d_model for a in counts}
    read = {a: s.d_in for a, s in sites.items()} | {OUTPUT: config.d_model}
    per_token = sum(4 * decomposition.n_components[a] + 2 * (s.d_in + s.d_out) for a, s in sites.items())
    per_token += 12 * config.vocab_size + 8 * config.n_blocks * config.d_ff
    float64_copies = max(
        8 * (s.d_in * s.d_out + decomposition.n_components[a] * (s.d_in + s.d_out)) for a, s in sites.items()
    )
    deltas = sum(s.d_in * s.d_out for s in sites.values()) if settings.delta == "through" else 0
    selective = settings.threshold > 0 or settings.max_edges is not None
    per_edge = _bytes_per_edge(decomposition, selective)

    def of(length: int) -> Estimate:
        last = length - 1
        n_nodes = int(sum(count[last] for count in counts.values()))
        n_edges = int(edges[last])
        held = n_edges if settings.max_edges is None else min(n_edges, 2 * settings.max_edges)
        rows = sum(int(counts[a][last]) * widths[a] for a in counts if a.kind not in ("output", "target"))
        directions = sum(int(counts[a][last]) * read[a] for a in read)
        wide = max(config.d_model, config.attention_width)
        # Keys and values of one block are also held rotated, and as what they do to one position.
        widest = max(
            sum(
                int(counts[a][last]) * wide for a in sites if a.block == b and a.kind == config.attention_kind
            )
            for b in range(config.n_blocks)
        )
        working = rows * (1 if method == "closed_form" else 3) + 6 * widest + directions
        working += length * per_token + 4 * config.n_blocks * config.n_heads * length**2 + deltas
        block = 10 * max(min(int(most_pairs[last]), BLOCK_ELEMENTS), n_nodes)
        if method == "fallback":
            widest = max(config.d_ff, 3 * wide, config.n_heads * length) * length
            block += 12 * max(min(int(most_readers[last]) * widest, BLOCK_ELEMENTS), widest)
        total = item * (working + block) + float64_copies + 100 * n_nodes + held * per_edge + _MARGIN_BYTES
        return Estimate(n_nodes, n_edges, total)

    return of


def _bytes_per_edge(decomposition: Decomposition, selective: bool) -> int:
    """Columns, and what is held beside them while they are put together."""
    item = decomposition.target.token_embedding.weight.dtype.itemsize
    return 2 * (8 + 4 * item) + 16 if selective else 2 * (8 + 2 * item) + 8


def _rounded_down(n: int) -> str:
    step = 10 ** max(0, len(str(n)) - 2)
    return f"{n // step * step:,}"


def _bytes(n: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 2**10:.1f} KiB"
