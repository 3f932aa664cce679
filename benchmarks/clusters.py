"""What ``tributary cluster`` spends its time and memory on, and how quickly clusters are served.

    python benchmarks/clusters.py [--run demo] [--windows 64] [--tables 3565:65536 10000:8192 40000:1024]

*Collecting*: tokens per second of noting which components of the run are needed where, over some windows of
its text. *Merging*: tables of made-up components that are needed together in groups, COMPONENTS:POSITIONS
each; every table is a process of its own, so that the most memory it took is its own. Counting which are
needed together costs components² · positions; after that merges are timed for ``--seconds`` at most, from the
first on. One merge costs about groups · positions, and groups become fewer: the first are the dearest. A table
that would not fit the memory that is free is left out with a line that says so. *Serving* is as in
benchmarks/evidence.py, where the run has clusters.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from attribution import clock_for, machine
from evidence import measure, print_header, serving

from backend.pipelines.load import load_decomposition
from backend.pipelines.memory import available_bytes
from compute.clustering import MembershipCollector, Merger, MergeSettings, Sample
from storage.run_directory import resolve_run

#: Components that are needed at nearly the same positions, and how nearly.
GROUP = 8
KEPT = 0.8
#: The first batches see the model for the first time.
WARM = 2
BATCH = 8


def made_up(components: int, positions: int) -> np.ndarray:
    """A table of bits [components, positions / 64] uint64: groups of alike rows, most of them rare."""
    rng = np.random.default_rng(0)
    words = -(-positions // 64)
    bits = np.zeros((components, words), np.uint64)
    for first in range(0, components, GROUP):
        # Densities of a decomposed model: from once in ten thousand positions to a third, the rare ones many.
        density = 10 ** rng.uniform(-4, -0.5) if first else 0.3
        shared = rng.random(words * 64) < density
        shared[positions:] = False
        shared[rng.integers(positions)] = True
        for row in range(first, min(first + GROUP, components)):
            active = shared & (rng.random(words * 64) < KEPT)
            bits[row] = np.packbits(active, bitorder="little").view(np.uint64)
    return bits


def merging(components: int, positions: int, seconds: float, threads: int, answer: Connection) -> None:
    """In a process of its own: time and memory of one table."""
    torch.set_num_threads(threads)
    bits = made_up(components, positions)
    start = time.perf_counter()
    merger = Merger(bits, positions, MergeSettings())
    counting = time.perf_counter() - start
    start = time.perf_counter()
    done = 0
    while merger.k > 1 and time.perf_counter() - start < seconds:
        merger.step()
        done += 1
    spent = time.perf_counter() - start
    answer.send((counting, done, spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def measure_merging(tables: list[tuple[int, int]], seconds: float, threads: int) -> None:
    print(f"\n{'components':>10s}{'positions':>11s}{'counting s':>12s}{'merges':>9s}{'of':>9s}{'a second':>10s}"
          f"{'GiB stated':>12s}{'GiB taken':>11s}")  # fmt: skip
    context = multiprocessing.get_context("spawn")
    for components, positions in tables:
        needed = Merger.memory_estimate(components, positions)
        head = f"{components:10,}{positions:11,}"
        free = available_bytes("cpu")
        if free is not None and needed > free:
            print(f"{head}  left out: it may take {needed / 2**30:.1f} GiB, which is more than is free")
            continue
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=merging, args=(components, positions, seconds, threads, theirs))
        process.start()
        theirs.close()
        try:
            counting, done, spent, peak = ours.recv()
        except EOFError:
            process.join()
            print(f"{head}  ended without a result (exit status {process.exitcode})")
            continue
        process.join()
        print(
            f"{head}{counting:12.1f}{done:9,}{components - 1:9,}{done / spent:10,.0f}"
            f"{needed / 2**30:12.2f}{peak / 2**30:11.2f}"
        )


def measure_collecting(name: str, runs: Path, windows: int, device: str) -> None:
    run = resolve_run(name, runs)
    decomposition = load_decomposition(run, device)
    corpus, window = run.corpus(), decomposition.target.config.context
    windows += WARM * BATCH
    sample = Sample.draw(len(corpus.tokens), window, 32 * windows, 32, 0)
    collector = MembershipCollector(decomposition, sample, 0.01)
    clock = clock_for(torch.device(device))
    spent, tokens = 0.0, 0
    for first in range(0, len(sample.starts), BATCH):
        starts = sample.starts[first : first + BATCH]
        batch = torch.stack(
            [torch.from_numpy(corpus.tokens[s : s + window].astype(np.int64)) for s in starts]
        )
        begin = clock()
        collector.add(batch.to(device), first)
        if first >= WARM * BATCH:
            spent += clock() - begin
            tokens += batch.numel()
    components = decomposition.total_components
    estimate = MembershipCollector.memory_estimate(components, 65_536, BATCH * window)
    print(f"run {run.name}: {components:,} components, windows of {window} tokens, 32 positions of each kept")
    print(
        f"collecting: {tokens / spent:,.0f} tokens/s, {32 * tokens / window / spent:,.0f} positions/s;",
        end=" ",
    )
    print(
        f"65,536 positions: {65_536 * window / 32 * spent / tokens:,.0f} s, {estimate / 2**30:.2f} GiB stated"
    )


def measure_serving(name: str, requests: int) -> None:
    with serving(name) as client:
        run = Path(name).name
        found = client.get(f"/{run}/clusters").json()["clusterings"]
        if not found:
            print(f"\nno clusters: run tributary cluster {run}")
            return
        last = found[0]["iterations"]
        rng = np.random.default_rng(0)
        print(f"\n{run}: {len(found)} clusterings, the newest of {last:,} merges")
        print_header()

        def ask(words: str, path: str) -> None:
            iterations = [str(i) for i in rng.integers(last + 1, size=requests + 1)]
            measure(
                words, lambda number: client.get(f"/{run}/{path}".replace("ITERATION", number)), iterations
            )

        ask("list of clusterings", "clusters")
        ask("clusters as they are shown", "clusters/newest")
        ask("clusters after so many merges", "clusters/newest?iteration=ITERATION")
        ask("every merge", "clusters/newest/history")
        ask("table of what is alone", "components?cluster=alone&limit=100")


def _table(text: str) -> tuple[int, int]:
    components, _, positions = text.partition(":")
    return int(components), int(positions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="demo", help="name or path of a run")
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("TRIBUTARY_RUNS", "runs")))
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument(
        "--tables",
        type=_table,
        nargs="*",
        default=[(3_565, 65_536), (10_000, 8_192), (40_000, 1_024)],
        metavar="COMPONENTS:POSITIONS",
    )
    parser.add_argument("--seconds", type=float, default=10, help="of merging, at most, for each table")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine(torch.device(options.device)), end="\n\n")
    measure_collecting(options.run, options.runs, options.windows, options.device)
    measure_merging(options.tables, options.seconds, options.threads)
    measure_serving(options.run, options.requests)


if __name__ == "__main__":
    main()
