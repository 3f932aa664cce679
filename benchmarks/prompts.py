"""How fast prompt graphs are, beside the definition's one backward pass per node.

    python benchmarks/prompts.py [--run demo] [--no-run] [--no-random] [--tokens 16,32,64] [--threads 1]

Prints, for prompts of 16, 32 and 64 tokens of a run's corpus and for a random model of 5,600
components: nodes and edges, the seconds that the definition needs (one backward pass per target
node, `attr` only, its forward pass left out, extrapolated from a stated sample), ours (everything:
forward pass, nodes, `attr` and `attr_abs` of every edge in sorted columns), the ratio, and the most
memory taken. On one CPU thread, times are processor times.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from attribution import clock_for, load_run, machine, random_model, skewed_support
from torch import Tensor

from compute.address import Address, parse_address
from compute.attribution.definition import PromptTarget, time_prompt_definition
from compute.attribution.prompt import PromptGraph, PromptSettings, estimate, prompt_graph
from compute.decomposition.model import Decomposition

#: Share of components alive at a position in the random model (10 of 200 at each site).
DENSITY = 0.05
#: ``through`` has so many edges that a graph keeps the strongest.
MAX_EDGES = 200_000


def targets_of(graph: PromptGraph) -> dict[Address, list[PromptTarget]]:
    """The target nodes of a graph, by address."""
    result: dict[Address, list[PromptTarget]] = {}
    nodes = graph.nodes
    addresses = [parse_address(name) for name in nodes.addresses]
    for site, position, index in zip(
        nodes.site.tolist(), nodes.position.tolist(), nodes.index.tolist(), strict=True
    ):
        address = addresses[site]
        if address.kind not in ("embed", "position") and index >= 0:
            result.setdefault(address, []).append(PromptTarget.node(address, position, index))
    return result


def random_importance(decomposition: Decomposition, length: int) -> dict[Address, Tensor]:
    """Skewed random importances of density :data:`DENSITY`, [T, C] by site."""
    generator = torch.Generator().manual_seed(1)
    return {
        address: skewed_support(length, count, DENSITY, generator).float()
        for address, count in decomposition.n_components.items()
    }


def release_memory() -> None:
    """Give freed memory back to the system, where that can be done, so that the next peak is all there."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def benchmark(
    decomposition: Decomposition,
    tokens: Tensor,
    settings: PromptSettings,
    *,
    importance: Mapping[Address, Tensor] | None = None,
    repeats: int,
    sample: int,
) -> None:
    """Print one line."""
    clock = clock_for(decomposition.target.token_embedding.weight.device)
    expected = estimate(decomposition, tokens, settings, importance)
    best, peak = float("inf"), 0
    graph = None
    for _ in range(repeats):
        graph = None
        release_memory()
        started = clock()
        graph = prompt_graph(decomposition, tokens, settings, importance=importance)
        best, peak = min(best, clock() - started), max(peak, graph.peak_bytes)
    assert graph is not None
    loop = time_prompt_definition(
        decomposition, tokens, targets_of(graph), delta=settings.delta, sample=sample, clock=clock
    )
    edges = len(graph.edges) + graph.omitted.edges
    print(
        f"  {len(tokens):>6}  {settings.delta:<8} {len(graph.nodes):>7,} {edges:>11,} "
        f"{loop.seconds:>11.1f} {f'{loop.sampled}/{loop.n_targets}':>12} {best:>8.3f} "
        f"{loop.seconds / best:>7.0f} {peak / 2**20:>9.0f} {expected.bytes / 2**20:>9.0f}",
        flush=True,
    )


HEADER = (
    f"  {'tokens':>6}  {'delta':<8} {'nodes':>7} {'edges':>11} {'definition s':>11} {'sampled':>12} "
    f"{'ours s':>8} {'ratio':>7} {'peak MiB':>9} {'estimate':>9}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="demo", help="a run's name or path")
    parser.add_argument("--no-run", action="store_true", help="only the random model")
    parser.add_argument("--no-random", action="store_true", help="only the run")
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("TRIBUTARY_RUNS", "runs")))
    parser.add_argument("--tokens", default="16,32,64", help="lengths of the prompts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sample", type=int, default=4, help="backward passes timed at each address")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lengths = [int(part) for part in options.tokens.split(",")]
    print(machine(torch.device("cpu")))
    modes = [
        PromptSettings(delta="node", output_positions="all"),
        PromptSettings(delta="off", output_positions="all"),
        PromptSettings(delta="through", output_positions="all", max_edges=MAX_EDGES),
    ]
    started = time.perf_counter()
    if not options.no_run:
        decomposition, tokens = load_run(options.run, options.runs, 1, max(lengths))
        print(
            f"\nrun {options.run}, {decomposition.total_components} components, its own importances\n{HEADER}"
        )
        for settings in modes:
            for length in lengths:
                benchmark(
                    decomposition,
                    tokens[0, :length],
                    settings,
                    repeats=options.repeats,
                    sample=options.sample,
                )
    if not options.no_random:
        decomposition = random_model()
        tokens = torch.randint(0, 1024, (max(lengths),), generator=torch.Generator().manual_seed(2))
        print(
            f"\nrandom model, {decomposition.total_components} components, "
            f"{100 * DENSITY:.0f}% alive at random, skewed\n{HEADER}"
        )
        for settings in modes:
            for length in lengths:
                benchmark(
                    decomposition,
                    tokens[:length],
                    settings,
                    importance=random_importance(decomposition, length),
                    repeats=options.repeats,
                    sample=options.sample,
                )
    print(f"\n{time.perf_counter() - started:.0f} s in all; delta through keeps {MAX_EDGES:,} edges")


if __name__ == "__main__":
    main()
