"""``tributary evaluate RUN``: how good the decomposition is, on held-out text, and component statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from backend.pipelines.common import UsageError, choose_device, console, progress, provenance
from backend.pipelines.load import load_decomposition
from backend.run_schemas import BlockEvaluation, Evaluation, EvaluationMetric, SiteEvaluation
from compute.decomposition.evaluation import THRESHOLDS, EvaluationResult, evaluate
from compute.decomposition.model import Decomposition
from compute.statistics import ComponentStatistics
from storage.corpus import TokenCorpus, windows
from storage.files import write_durably
from storage.run_directory import resolve_run
from storage.statistics import write_statistics

#: A component counts as alive where its CI exceeds this somewhere: below it, it barely acts.
ALIVE_THRESHOLD = 0.1
#: Windows per batch. Fixed, because the noise of stochastic masks is drawn batch by batch.
BATCH_SIZE = 8
_NOTHING_HELD_OUT = "no text is held out, so how good the decomposition is cannot be measured"


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
    tokens: Annotated[int, typer.Option(min=1, help="Held-out tokens to evaluate on, at most")] = 65_536,
    statistics: Annotated[bool, typer.Option(help="Also gather component statistics over the corpus")] = True,
    statistics_tokens: Annotated[
        int | None, typer.Option(min=1, help="Gather them over about this many tokens; default: all")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the evaluation as JSON")] = False,
) -> None:
    """Evaluate a run on its held-out text and write the result into the run.

    Where no text is held out only the statistics are gathered; ``--json`` then prints null.
    """
    run = resolve_run(run_name, runs)
    decomposition = load_decomposition(run, choose_device(device))
    corpus = run.corpus()
    evaluation: Evaluation | None = None
    if corpus.n_validation_tokens > 1:
        evaluation = evaluate_run(decomposition, corpus, tokens)
        write_durably(run.path / "evaluation.json", (evaluation.model_dump_json(indent=2) + "\n").encode())
    elif not statistics:
        raise UsageError(_NOTHING_HELD_OUT, "give the run a text of more documents")
    else:
        console.print(f"{_NOTHING_HELD_OUT}; statistics are gathered all the same", soft_wrap=True)
    if statistics:
        gathered = gather_statistics(decomposition, corpus, statistics_tokens)
        arrays = {name: value.numpy() for name, value in gathered.arrays().items()}
        made = provenance(
            command="tributary evaluate", corpus_sha256=corpus.sha256, tokens=str(gathered.tokens)
        )
        write_statistics(run.path, arrays, made)
    if as_json:
        typer.echo("null" if evaluation is None else evaluation.model_dump_json(indent=2))
    elif evaluation is not None:
        print_evaluation(evaluation)
    console.print(f"written to {run.path}", soft_wrap=True)


def held_out_windows(corpus: TokenCorpus, length: int, tokens: int) -> list[Tensor]:
    """Windows [B, length + 1] spread evenly over the validation split, at most ``tokens`` predictions."""
    held_out = corpus.split(validation=True)
    length = min(length, len(held_out) - 1)
    available = (len(held_out) - 1) // length
    count = max(1, min(available, tokens // length))
    starts = (torch.arange(count) * available // count) * length
    return list(held_out[starts[:, None] + torch.arange(length + 1)].long().split(BATCH_SIZE))


def evaluate_run(decomposition: Decomposition, corpus: TokenCorpus, tokens: int) -> Evaluation:
    """Evaluate on windows of the target's full context from the validation split."""
    config = decomposition.target.config
    unigram = torch.bincount(corpus.split(validation=False).long(), minlength=config.vocab_size).float() + 1
    batches = held_out_windows(corpus, config.context, tokens)
    device = decomposition.target.token_embedding.weight.device
    with progress("evaluate", len(batches), "batch") as update:

        def fed() -> Iterator[Tensor]:
            for number, batch in enumerate(batches):
                update(number)
                yield batch.to(device)
            update(len(batches))

        result = evaluate(decomposition, fed(), (unigram / unigram.sum()).to(device))
    if not math.isfinite(sum(result.cross_entropy.values())):
        raise UsageError("the model's cross-entropy is not finite", "the run is not usable; train it again")
    return as_schema(result)


def gather_statistics(
    decomposition: Decomposition, corpus: TokenCorpus, tokens: int | None = None
) -> ComponentStatistics:
    """One pass over the corpus, training and validation; over about ``tokens`` of it, evenly spread, if given."""
    statistics = ComponentStatistics(decomposition)
    device = decomposition.target.token_embedding.weight.device
    all_tokens = torch.from_numpy(corpus.tokens)
    length = decomposition.target.config.context
    batches = windows(all_tokens, length, BATCH_SIZE)
    total = len(all_tokens)
    if tokens is not None and tokens < total:
        full = total // (length * BATCH_SIZE)
        count = max(1, min(full, tokens // (length * BATCH_SIZE)))
        chosen = {place * full // count for place in range(count)}
        batches = (batch for number, batch in enumerate(batches) if number in chosen)
        total = count * length * BATCH_SIZE
    with progress("statistics", total, "token") as update:
        for batch in batches:
            statistics.add(batch.to(device))
            update(statistics.tokens)
    return statistics


def as_schema(result: EvaluationResult) -> Evaluation:
    """The numbers under the names that the page and ``--json`` show."""
    ce, kl = result.cross_entropy, result.kl
    total = sum(len(values) for values in result.max_ci.values())
    l0 = {t: sum(site[t] for site in result.l0.values()) for t in THRESHOLDS}
    alive = sum(int((values > ALIVE_THRESHOLD).sum()) for values in result.max_ci.values())
    never = sum(int((values == 0).sum()) for values in result.max_ci.values())
    rows = [
        ("share_recovered_unigram", "Gap from unigram to target recovered under CI masks",
         result.share_recovered("ci", result.unigram_cross_entropy), "share"),
        ("share_recovered_zero", "Gap from zero-masked to target recovered under CI masks",
         result.share_recovered("ci", ce["zero"]), "share"),
        ("kl_ci", "KL(target ‖ CI-masked everywhere)", kl["ci"], "nats"),
        ("kl_stochastic", "KL(target ‖ stochastically masked)", kl["stochastic"], "nats"),
        ("ce_target", "Cross-entropy: target", ce["target"], "nats"),
        ("ce_components", "Cross-entropy: all components on, no delta", ce["components"], "nats"),
        ("ce_ci", "Cross-entropy: CI masks everywhere", ce["ci"], "nats"),
        ("ce_rounded", "Cross-entropy: every CI above 0 set to 1", ce["rounded"], "nats"),
        ("ce_stochastic", "Cross-entropy: stochastic masks", ce["stochastic"], "nats"),
        ("ce_zero", "Cross-entropy: every site zero", ce["zero"], "nats"),
        ("ce_unigram", "Cross-entropy: unigram frequencies", result.unigram_cross_entropy, "nats"),
        ("faithfulness", "Mean squared entry of W − Σ U Vᵀ", result.faithfulness, ""),
        *((f"l0_{t:g}", f"Mean components per position with CI > {t:g}", l0[t], "components") for t in THRESHOLDS),
        ("l0_share", "Mean L0 at CI > 0 as a share of all components", l0[0.0] / total, "share"),
        ("alive", f"Components with CI > {ALIVE_THRESHOLD} somewhere", alive, "components"),
        ("faint", f"Components with 0 < largest CI ≤ {ALIVE_THRESHOLD}", total - alive - never, "components"),
        ("never_alive", "Components with CI = 0 everywhere", never, "components"),
    ]  # fmt: skip
    blocks = sorted({address.block for address in result.l0 if address.block is not None})
    return Evaluation(
        tokens=result.tokens,
        metrics=[
            EvaluationMetric(name=n, label=label, value=float(v), unit=unit) for n, label, v, unit in rows
        ],
        blocks=[
            BlockEvaluation(
                block=block,
                cross_entropy=ce[f"block:{block}"],
                above_target=ce[f"block:{block}"] - ce["target"],
                l0=sum(site[0.0] for address, site in result.l0.items() if address.block == block),
            )
            for block in blocks
        ],
        sites=[
            SiteEvaluation(
                address=str(address),
                n_components=len(result.max_ci[address]),
                l0={f"{t:g}": value for t, value in site.items()},
                share=site[0.0] / len(result.max_ci[address]),
                max_ci_above={f"{t:g}": int((result.max_ci[address] > t).sum()) for t in THRESHOLDS},
            )
            for address, site in result.l0.items()
        ],
    )


def print_evaluation(evaluation: Evaluation) -> None:
    """Three tables on standard output."""
    out = Console()
    if not out.is_terminal:
        out = Console(width=140)  # a file or a pipe has no width; nothing is cut for the want of one
    metrics = Table(
        "figure", "value", "unit", title=f"Decomposition, on {evaluation.tokens:,} held-out tokens"
    )
    for metric in evaluation.metrics:
        metrics.add_row(metric.label, f"{metric.value:.4g}", metric.unit)
    target = next(m.value for m in evaluation.metrics if m.name == "ce_target")
    title = f"CI masks in one block only (target {target:.4f})"
    blocks = Table("block", "cross-entropy", "above target", "L0", title=title)
    for block in evaluation.blocks:
        above = f"{block.above_target:+.4f}"
        blocks.add_row(str(block.block), f"{block.cross_entropy:.4f}", above, f"{block.l0:.1f}")
    sites = Table(title="Sites: mean components per position, and components, with CI above …")
    columns = [
        "site",
        "C",
        *(f"L0 >{t:g}" for t in THRESHOLDS),
        "share",
        *(f"max >{t:g}" for t in THRESHOLDS),
    ]
    for number, column in enumerate(columns):
        sites.add_column(column, justify="right" if number else "left", no_wrap=True, overflow="fold")
    for site in evaluation.sites:
        sites.add_row(
            site.address,
            str(site.n_components),
            *(f"{value:.2f}" for value in site.l0.values()),
            f"{site.share:.2%}",
            *(str(value) for value in site.max_ci_above.values()),
        )
    for table in (metrics, blocks, sites):
        out.print(table)
