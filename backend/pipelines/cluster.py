"""``tributary cluster RUN``: group components that are needed together, resumable after any kind of end.

Two phases. One pass over a sample of the text notes which components are needed at which sampled
position; then pairs of groups are merged, the cheapest first, and every merge is kept. What is computed
depends on the settings only, never on where the work was interrupted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from backend.pipelines.common import UsageError, console, progress, provenance
from backend.pipelines.memory import check_fits, gibibytes
from backend.pipelines.reading import start
from compute.clustering import (
    MAX_POSITIONS,
    Choice,
    MembershipCollector,
    Merger,
    MergeSettings,
    Sample,
    counts,
    regroup,
)
from storage.clusters import ClusterWork, Manifest, unfinished, write_clustering

#: Windows per batch; no result depends on it.
_BATCH = 8


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
    positions: Annotated[
        int, typer.Option(min=1, max=MAX_POSITIONS, help="Positions of the text to look at")
    ] = 65_536,
    per_window: Annotated[int, typer.Option(min=1, help="Positions taken of one window of text")] = 32,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="A component is active where its CI is above this")
    ] = 0.01,
    least: Annotated[
        int, typer.Option(min=1, help="Leave out components active at fewer of the positions")
    ] = 1,
    alpha: Annotated[float, typer.Option(min=0, help="Bits for naming one member of an active group")] = 1.0,
    choice: Annotated[
        str, typer.Option(help="lowest (the cheapest pair), range or mcmc (drawn at random)")
    ] = "lowest",
    spread: Annotated[
        float, typer.Option(min=0, max=1, help="range: this far from the lowest to the highest cost")
    ] = 0.05,
    temperature: Annotated[float, typer.Option(help="mcmc: chance ∝ exp(−cost / temperature)")] = 1.0,
    iterations: Annotated[
        int | None,
        typer.Option(min=0, help="Stop after so many merges; default: merge all, show the shortest"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and of the choices")] = 0,
    notes: Annotated[str, typer.Option(help="Words kept with the result")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with interrupted work")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints")] = 30.0,
) -> None:
    """Cluster a run's components by the positions at which they are needed. Stop with Ctrl-C; go on with --resume."""
    if temperature <= 0:
        raise UsageError(f"--temperature {temperature:g} is not possible", "write a number above 0")
    how = _choice(choice)
    reading = start(run_name, runs, device, unfinished=unfinished, resume=resume)
    run, corpus, decomposition = reading.run, reading.corpus, reading.decomposition
    sample = Sample.draw(len(corpus.tokens), reading.length, positions, per_window, seed)
    n = sample.n_positions
    collecting = MembershipCollector.memory_estimate(
        decomposition.total_components, n, _BATCH * sample.window
    )
    needed = max(collecting, Merger.memory_estimate(decomposition.total_components, n))
    console.print(
        f"{n:,} positions in {len(sample.starts):,} windows of {sample.window} tokens; "
        f"at most {gibibytes(needed)} of memory",
        soft_wrap=True,
    )
    check_fits(needed, "cpu", "lower --positions")
    chosen = MergeSettings(alpha=alpha, choice=how, spread=spread, temperature=temperature, seed=seed)
    settings = {
        "model_sha256": run.info.files["model.safetensors"],
        "corpus_sha256": corpus.sha256,
        "positions": str(n),
        "per_window": str(sample.offsets.shape[1]),
        "window": str(sample.window),
        "threshold": repr(threshold),
        "least": str(least),
        "alpha": repr(alpha),
        "choice": how,
        "seed": str(seed),
        "iterations": "all" if iterations is None else str(iterations),
    }
    settings |= {"range": {"spread": repr(spread)}, "mcmc": {"temperature": repr(temperature)}}.get(how, {})
    work = ClusterWork(run.path, settings, resume=resume)
    try:
        collector = MembershipCollector(decomposition, sample, threshold)
        _collect(collector, torch.from_numpy(corpus.tokens), work, reading.device, checkpoint_seconds)
        active = counts(collector.bits)
        component = np.flatnonzero(active >= least)
        if len(component) == 0:
            work.finish()  # nothing that is worth going on with
            raise UsageError(
                f"no component is active at {least} or more of {n:,} positions",
                "lower --least or --threshold",
            )
        last = len(component) - 1 if iterations is None else min(iterations, len(component) - 1)
        history = _merge(collector.bits[component], n, chosen, last, work, checkpoint_seconds)
        lengths = history["description_length"]
        subrun = write_clustering(
            run.path,
            Manifest(
                kind="computed",
                sites=tuple((str(a), decomposition.n_components[a]) for a in collector.addresses),
                settings=settings,
                n_positions=n,
                iteration=int(lengths.argmin()) if iterations is None else last,
                notes=notes,
                provenance=provenance(command="tributary cluster"),
            ),
            {"component": component, "active": active[component], **history},
        )
        work.finish()
    except KeyboardInterrupt:
        console.print("stopped; the same command with --resume goes on from the last checkpoint")
        raise
    finally:
        work.close()
    shown = run.clustering(subrun).at()
    console.print(
        f"{len(component):,} components: {len(shown.numbers):,} clusters and {shown.n_alone:,} alone after "
        f"{shown.iteration:,} merges, {lengths[shown.iteration]:,.1f} bits a position "
        f"({lengths[0]:,.1f} before); {shown.n_unknown:,} left out, "
        + (
            "never active in the sample" if least == 1 else f"active at fewer than {least:,} of its positions"
        ),
        soft_wrap=True,
    )
    console.print(f"written to {run.path / 'clusters' / subrun}", soft_wrap=True)


def _collect(
    collector: MembershipCollector, tokens: torch.Tensor, work: ClusterWork, device: str, seconds: float
) -> None:
    """Fill the table of bits, going on from what is saved; it is saved again when it is full."""
    sample = collector.sample
    first = 0
    if (found := work.read("memberships")) is not None:
        collector.bits, first = found[0]["bits"], int(found[1]["windows"])
    if first == len(sample.starts):
        return
    saved = time.monotonic()
    with progress(
        "memberships", len(sample.starts) * sample.window, "token", first * sample.window
    ) as update:
        while first < len(sample.starts):
            starts = sample.starts[first : first + _BATCH]
            batch = torch.stack([tokens[s : s + sample.window] for s in starts.tolist()])
            collector.add(batch.long().to(device), first)
            first += len(starts)
            update(first * sample.window)
            if time.monotonic() - saved > seconds or first == len(sample.starts):
                work.save("memberships", {"bits": collector.bits}, {"windows": first})
                saved = time.monotonic()


def _merge(
    bits: np.ndarray, n: int, settings: MergeSettings, last: int, work: ClusterWork, seconds: float
) -> dict[str, np.ndarray]:
    """All merges up to the ``last``, going on from what is saved: the arrays of a computed clustering."""
    names = ("first", "second", "joint", "active_after", "cost", "description_length")
    history: dict[str, list[float]] = {name: [] for name in names}
    with console.status("counting which components are active together"):
        if (found := work.read("merges")) is None:
            merger = Merger(bits, n, settings)
            history["description_length"].append(merger.description_length)
        else:
            history = {name: found[0][name].tolist() for name in names}
            grouped, sizes, left = regroup(bits, np.stack([found[0]["first"], found[0]["second"]], axis=1))
            merger = Merger(grouped, n, settings, sizes=sizes, names=left)
            merger.random_state = found[1]["random_state"]

    def arrays() -> dict[str, np.ndarray]:
        whole = {name: np.array(history[name], np.int64) for name in names[:4]}
        return whole | {name: np.array(history[name], np.float64) for name in names[4:]}

    saved = time.monotonic()
    with progress("merges", last, "merge", len(history["first"])) as update:
        while (done := len(history["first"])) < last:
            if time.monotonic() - saved > seconds:
                work.save("merges", arrays(), {"random_state": merger.random_state})
                saved = time.monotonic()
            merge = merger.step()
            length = merger.description_length
            for name, value in zip(
                names,
                (merge.first, merge.second, merge.joint, merge.active, merge.cost, length),
                strict=True,
            ):
                history[name].append(value)
            if done % 20 == 0 or done + 1 == last:
                update(done + 1, f"{length:,.1f} bits a position")
    result = arrays()
    result["merges"] = np.stack([result.pop("first"), result.pop("second")], axis=1)
    return result


def _choice(text: str) -> Choice:
    names: tuple[Choice, ...] = ("lowest", "range", "mcmc")
    for name in names:
        if text == name:
            return name
    raise UsageError(f"--choice {text} is not known", f"write {', '.join(names)}")
