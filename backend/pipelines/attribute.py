"""``tributary attribute RUN``: dataset attributions over the run's text, resumable after any kind of end.

Documents are split into 16 groups; a group's sums are one durable shard, and inside a group the sums
so far are checkpointed every few seconds. What is computed depends on the settings only, never on
where the work was interrupted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from torch import Tensor

from backend.pipelines.common import UsageError, console, progress, provenance
from backend.pipelines.groups import parse_groups, spread
from backend.pipelines.memory import check_fits, gibibytes
from backend.pipelines.reading import start
from compute.attribution.engine import AttributionEngine
from compute.attribution.sums import AttributionSums
from storage.corpus import TokenCorpus, windows
from storage.layout import GROUPS, Settings
from storage.writer import StoreWriter, unfinished


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
    batches: Annotated[
        int | None, typer.Option(min=1, help="Only this many batches, spread over the groups")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows per batch")] = 8,
    length: Annotated[
        int | None, typer.Option(min=2, help="Tokens per window; default: the model's context")
    ] = None,
    delta: Annotated[str, typer.Option(help="node (activations exactly the target's) or off")] = "node",
    metrics: Annotated[str, typer.Option(help="attr, or attr,attr_abs")] = "attr,attr_abs",
    abs_every: Annotated[int, typer.Option(min=1, help="attr_abs on every n-th batch only")] = 1,
    output_abs: Annotated[str, typer.Option(help="attr_abs into output tokens: none, all or top:N")] = "none",
    unweighted: Annotated[
        bool, typer.Option(help="Do not weight sources by their causal importance")
    ] = False,
    groups: Annotated[
        str, typer.Option(help="Only these groups of documents, e.g. 0-7; merge the stores later")
    ] = "all",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with interrupted work")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints")] = 30.0,
) -> None:
    """Compute dataset attributions of a run. Stop with Ctrl-C; go on with --resume."""
    if delta not in ("node", "off"):
        raise UsageError(f"--delta {delta} is not known", "write node or off")
    chosen_metrics = _parse_metrics(metrics)
    chosen_groups = parse_groups(groups)
    reading = start(
        run_name,
        runs,
        device,
        unfinished=lambda path: [work.path for work in unfinished(path)],
        resume=resume,
        length=length,
    )
    run, corpus, decomposition, length = reading.run, reading.corpus, reading.decomposition, reading.length
    config = decomposition.target.config
    engine = AttributionEngine(
        decomposition,
        delta="node" if delta == "node" else "off",
        metrics=chosen_metrics,
        ci_weighted=not unweighted,
        output_abs=_output_tokens(output_abs, corpus, config.vocab_size),
    )
    needed = engine.memory_estimate(batch_size * length)
    console.print(
        f"{engine.method}: {engine.method_reason}; about {gibibytes(needed)} of memory on {reading.device}",
        soft_wrap=True,
    )
    check_fits(
        needed,
        reading.device,
        "lower --batch-size, leave attr_abs out (--metrics attr), or use a larger machine",
    )

    plan = [
        _batches(corpus, g, length, batch_size, batches) if g in chosen_groups else [] for g in range(GROUPS)
    ]
    abs_on_part = abs_every > 1 and "attr_abs" in chosen_metrics
    example = engine.new_sums(abs_on_part=abs_on_part)
    settings = Settings.of_sums(
        example.layouts,
        example.abs_targets,
        delta=engine.delta,
        ci_weighted=engine.ci_weighted,
        metrics=tuple(sorted(chosen_metrics)),
        output_abs=output_abs,
        n_groups=GROUPS,
        centred_norm=config.centred_norm,
        model_sha256=run.info.files["model.safetensors"],
        corpus_sha256=corpus.sha256,
        options={
            "window": str(length),
            "batch_size": str(batch_size),
            "batches": "all" if batches is None else str(batches),
            "abs_every": str(abs_every),
        },
    )
    made = provenance(
        command="tributary attribute", groups=groups, tokens=str(sum(b.numel() for g in plan for b in g))
    )
    writer = StoreWriter(
        run.path, settings, made, method=engine.method, method_reason=engine.method_reason, resume=resume
    )
    try:
        _accumulate(engine, writer, plan, abs_every, checkpoint_seconds)
    except KeyboardInterrupt:
        console.print("stopped; the same command with --resume goes on from the last checkpoint")
        raise
    finally:
        writer.close()


def _accumulate(
    engine: AttributionEngine, writer: StoreWriter, plan: list[list[Tensor]], abs_every: int, seconds: float
) -> None:
    total = sum(batch.numel() for group in plan for batch in group)
    finished = writer.finished_groups
    done = sum(batch.numel() for g in finished for batch in plan[g])
    partial = {
        g: p for g in range(len(plan)) if g not in finished and (p := writer.read_partial(g)) is not None
    }
    done += sum(batch.numel() for g, (_, position) in partial.items() for batch in plan[g][:position])
    part = "abs_part/tokens" in engine.new_sums(abs_on_part=abs_every > 1).arrays
    with progress("attribute", total, "token", done) as update:
        for g, group in enumerate(plan):
            if g in finished:
                continue
            sums = engine.new_sums(abs_on_part=part)
            first = 0
            if g in partial:
                arrays, first = partial.pop(g)
                _restore(sums, arrays)
            # A batch that is interrupted may be half added, so nothing is saved on the way out:
            # only checkpoints between batches count.
            saved = time.monotonic()
            for position in range(first, len(group)):
                if time.monotonic() - saved > seconds and position > first:
                    writer.write_partial(g, _cpu(sums), position)
                    saved = time.monotonic()
                engine.accumulate(sums, group[position], with_abs=position % abs_every == 0)
                done += group[position].numel()
                update(done, f"group {g + 1} of {len(plan)}")
            writer.write_group(g, _cpu(sums))
    subrun = writer.finish()
    console.print(f"written to {writer.run_path / 'attributions' / subrun}", soft_wrap=True)


def _cpu(sums: AttributionSums) -> dict[str, np.ndarray]:
    return {name: value.cpu().numpy() for name, value in sums.arrays.items()}


def _restore(sums: AttributionSums, arrays: dict[str, np.ndarray]) -> None:
    for name, value in arrays.items():
        sums.arrays[name].copy_(torch.from_numpy(value.copy()))


def _batches(
    corpus: TokenCorpus, group: int, length: int, batch_size: int, limit: int | None
) -> list[Tensor]:
    """The batches of one group: whole documents in order, cut into windows; all of them, or a share of ``limit``."""
    every = list(windows(corpus.group(group, GROUPS), length, batch_size))
    return [every[place] for place in spread(group, len(every), limit)]


def _parse_metrics(text: str) -> set[Literal["attr", "attr_abs"]]:
    chosen = {part.strip() for part in text.split(",")}
    if chosen == {"attr"}:
        return {"attr"}
    if chosen == {"attr", "attr_abs"}:
        return {"attr", "attr_abs"}
    raise UsageError(
        f"--metrics {text} is not known", "write attr or attr,attr_abs (attr_frozen comes with attr)"
    )


def _output_tokens(text: str, corpus: TokenCorpus, vocab_size: int) -> Literal["all"] | Sequence[int] | None:
    """``top:N`` are the N most frequent tokens of the corpus."""
    if text == "none":
        return None
    if text == "all":
        return "all"
    match = re.fullmatch(r"top:(\d+)", text)
    if match is None or not 1 <= int(match.group(1)) <= vocab_size:
        raise UsageError(
            f"--output-abs {text} is not known", f"write none, all or top:N with N from 1 to {vocab_size}"
        )
    counts = np.bincount(corpus.tokens, minlength=vocab_size)
    return sorted(np.argsort(-counts, kind="stable")[: int(match.group(1))].tolist())
