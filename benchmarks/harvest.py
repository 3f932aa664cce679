"""How fast a harvest is, beside the forward pass with causal importances that it cannot do without.

    python benchmarks/harvest.py [--run demo] [--batches 16] [--threads 1] [--device cpu]

Prints, over the same batches of a run's corpus and in one process: tokens per second of the forward
pass alone and of everything; what storing a shard and merging shards take, and their size; the memory
estimated and the most taken; and what the whole corpus comes to. On one CPU thread, times are
processor times, and the two passes take turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import torch
from attribution import clock_for, machine

from backend.pipelines.harvest import GroupBatches, compact
from backend.pipelines.load import load_decomposition
from compute.statistics.harvest import HarvestOptions, HarvestSums, plan
from storage.example_tokens import open_tokens
from storage.harvest import Harvest
from storage.harvest_manifest import HarvestManifest, HarvestSettings
from storage.harvest_merge import merge_harvests
from storage.harvest_writer import write_harvest
from storage.run_directory import resolve_run

#: The first batches see the model and the tables for the first time.
WARM = 4


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="demo", help="a run's name or path")
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("TRIBUTARY_RUNS", "runs")))
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(machine(device))
    clock = clock_for(device)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock()

    run = resolve_run(options.run, options.runs)
    decomposition = load_decomposition(run, options.device)
    corpus = run.corpus()
    window = decomposition.target.config.context
    asked = HarvestOptions(left=12, right=6, n_random=12, n_strongest=8)
    how = plan(decomposition, asked, options.batch_size * window, 2 << 30)
    sums = HarvestSums(decomposition, asked, how)
    batches = GroupBatches.of(corpus, 0, window, options.batch_size, None)
    n = min(batches.n, options.batches + WARM)
    forward = everything = 0.0
    tokens = 0
    for index in range(n):
        positions, documents = batches[index]
        ids = torch.from_numpy(corpus.tokens[positions].astype(np.int64))
        start = now()
        with torch.no_grad():
            _, inputs = decomposition.clean_pass(ids.to(device))
            activations = {a: x @ decomposition.V(a) for a, x in inputs.items()}
            decomposition.causal_importance(inputs, activations)
        middle = now()
        sums.add(ids, positions, documents)
        end = now()
        if index >= WARM:
            forward += middle - start
            everything += end - middle
            tokens += positions.size
    print(f"\nrun {run.name}: {sums.n_components:,} components, {how.description}")
    print(f"{tokens:,} tokens, {sums.firing_count.sum() / sums.tokens:.0f} components fire at a position")
    print(f"forward pass with causal importances  {tokens / forward:10,.0f} tokens/s")
    print(f"harvest                               {tokens / everything:10,.0f} tokens/s")
    print(f"ratio                                 {everything / forward:10.2f}")

    manifest = HarvestManifest(
        store_id="benchmark",
        settings=HarvestSettings(
            left=asked.left,
            right=asked.right,
            n_random=asked.n_random,
            n_strongest=asked.n_strongest,
            window=window,
            batch_size=options.batch_size,
        ),
        encoding="exact",
        model_sha256="",
        corpus_sha256="",
        n_groups=16,
        covered={"0": [(0, n)]},
        tokens=sums.tokens,
        documents=0,
        vocab_size=decomposition.target.config.vocab_size,
        sites=[(str(a), decomposition.n_components[a]) for a in sums.addresses],
        complete={"input": True, "output": True, "cofiring": True},
        sizes={},
        arrays_sha256="",
        provenance={},
    )
    totals = sums.totals() | {"documents_seen": np.zeros(1, np.uint8)}
    with tempfile.TemporaryDirectory() as name:
        shards = [Path(name) / "0", Path(name) / "1"]
        start = now()
        for number, shard in enumerate(shards):
            shard.mkdir()
            other = manifest.model_copy(update={"covered": {str(number): [(0, n)]}})
            write_harvest(shard, other, totals, sums.blocks(), open_tokens(run.path / "corpus"))
        storing = (now() - start) / len(shards)
        parts = [Harvest.open(shard, run.path / "corpus") for shard in shards]
        merged, small = Path(name) / "merged", Path(name) / "small"
        merged.mkdir()
        small.mkdir()
        start = now()
        merge_harvests(merged, parts, store_id="merged", provenance={})
        merging = now() - start
        start = now()
        merge_harvests(small, parts, store_id="small", provenance={}, compact=compact(12, 12, 8))
        making_small = now() - start
        sizes = [f"{size(path) / 1e6:.1f} MB" for path in (shards[0], merged, small)]
    print(f"storing a shard {storing:.1f} s, {sizes[0]}; merging two {merging:.1f} s, {sizes[1]}")
    print(f"merging two into a small copy (12 associations both ways) {making_small:.1f} s, {sizes[2]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"memory: {how.total / 2**30:.2f} GiB estimated, {peak / 2**30:.2f} GiB the most taken by the process"
    )
    whole = len(corpus.tokens)
    print(f"the whole corpus of {whole:,} tokens: {whole * everything / tokens / 60:.0f} minutes")


if __name__ == "__main__":
    main()
