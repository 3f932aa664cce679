"""``tributary label``: let a language model label components, and measure how good its labels are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from backend.cli.options import RUNS, Json, RunArgument, RunsFolder, find_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from backend.autolabel.estimate import Estimate
    from backend.autolabel.job import Limits, Plan
    from backend.autolabel.runner import Tally
    from storage.label_records import Trial
    from storage.label_sets import LabelSets

#: Failed components that a summary names.
_NAMED = 5


def command(
    run_name: RunArgument,
    endpoint: Annotated[
        str,
        typer.Option(
            help="Address of a server with /chat/completions, as http://127.0.0.1:8080/v1", show_default=False
        ),
    ],
    model: Annotated[str, typer.Option(help="The model's name at that server", show_default=False)],
    strategy: Annotated[
        Literal["evidence", "context"],
        typer.Option(help="evidence: texts and tokens; context: also what drives it and what it drives"),
    ] = "evidence",
    keys: Annotated[
        str | None, typer.Option(help="Only these components, with commas between them", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="So many components, by mean causal importance")] = 100,
    max_density: Annotated[
        float, typer.Option(min=0, max=1, help="With --top: none that fires at more of all positions")
    ] = 0.1,
    name: Annotated[
        str | None,
        typer.Option(help="The label set; one that is there is gone on with", show_default="of the model"),
    ] = None,
    key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable that holds the key of the server", show_default=False),
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="Price of a million tokens of prompts", show_default=False)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="Price of a million tokens of answers", show_default=False)
    ] = None,
    cap: Annotated[
        float | None, typer.Option(min=0, help="The whole set must not cost more", show_default=False)
    ] = None,
    cap_tokens: Annotated[
        int | None, typer.Option(min=0, help="The whole set must not take more tokens", show_default=False)
    ] = None,
    judge_endpoint: Annotated[
        str | None,
        typer.Option(help="Server of the model that scores the labels", show_default="--endpoint"),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="The model that scores the labels", show_default="--model")
    ] = None,
    judge_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable that holds the key of its server", show_default=False),
    ] = None,
    judge_price_in: Annotated[
        float | None,
        typer.Option(min=0, help="Its price of a million tokens of prompts", show_default=False),
    ] = None,
    judge_price_out: Annotated[
        float | None,
        typer.Option(min=0, help="Its price of a million tokens of answers", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost")] = False,
    trials: Annotated[int, typer.Option(min=0, max=20, help="Questions of each kind to score a label")] = 1,
    examples: Annotated[int, typer.Option(min=1, max=60, help="Texts shown of a component")] = 12,
    seed: Annotated[int, typer.Option(help="Chooses the texts of scoring")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Questions at the same time")] = 8,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0.01, help="At most", show_default=False)
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option(min=1, help="At most", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that one answer may take")] = 120.0,
    retries: Annotated[int, typer.Option(min=0, max=50, help="Attempts after a passing failure")] = 6,
    max_output: Annotated[int, typer.Option(min=16, help="Tokens of an answer at most")] = 800,
    harvest: Annotated[str | None, typer.Option(help="A harvest subrun; default the newest")] = None,
    subrun: Annotated[str | None, typer.Option(help="An attribution subrun; default the newest")] = None,
    device: Annotated[str, typer.Option(envvar="TRIBUTARY_DEVICE", help="auto, cpu or cuda")] = "auto",
    folder: RunsFolder = RUNS,
    as_json: Json = False,
) -> None:
    """Ask a language model what components do, and score its labels. Stop with Ctrl-C; the same command goes on.

    Nothing is sent anywhere but to --endpoint and --judge-endpoint. docs/labelling.md has the whole story.
    """
    from backend.autolabel.caller import Patience
    from backend.autolabel.chat import Endpoint
    from backend.autolabel.job import Limits, check_name, default_name, make_plan, prices_of
    from backend.cli.serve import make_settings
    from storage.graphs import GraphDatabase

    where = Endpoint.of(endpoint, model, key_env)
    judge = where.judge(judge_endpoint, judge_model, judge_key_env)
    limits = Limits(
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        timeout=timeout,
        max_output=max_output,
        prices=prices_of(price_in, price_out),
        judge_prices=prices_of(judge_price_in, judge_price_out, "--judge-"),
        cap=cap,
        cap_tokens=cap_tokens,
        patience=Patience(retries=retries),
    )
    if dry_run:
        limits.check_prices(where, judge=judge)
    else:
        limits.check(where, judge=judge)
    set_name = check_name(default_name(strategy, where) if name is None else name)
    run = find_run(run_name, folder)
    plan = make_plan(
        run,
        where,
        judge=judge,
        strategy=strategy,
        keys=None if keys is None else [key.strip() for key in keys.split(",") if key.strip()],
        top=top,
        max_density=max_density,
        harvest=harvest,
        attributions=subrun,
        examples=examples,
        trials=trials,
        seed=seed,
    )
    settings = make_settings("127.0.0.1", 0, folder, ())
    database = GraphDatabase(settings.database_path, settings.journal)
    try:
        if dry_run:
            _dry_run(plan, database.label_sets, set_name, limits, as_json)
            return
        complete = _label(plan, database.label_sets, set_name, limits, device, as_json)
    finally:
        database.close()
    if not complete:
        raise typer.Exit(1)


# ---- what it would cost -------------------------------------------------------------------------


def _dry_run(plan: Plan, sets: LabelSets, name: str, limits: Limits, as_json: bool) -> None:
    found = sets.find(plan.run.name, plan.run.digest, name)
    if found is not None:
        sets.check(found, plan.strategy.name, plan.settings, plan.judge_record)
    estimate = plan.estimate(sets, found)
    if as_json:
        _print({"run": plan.run.name, "set": name, **_estimate_json(plan, estimate, limits)})
        return
    typer.echo(_estimate_words(plan, estimate, limits))
    typer.echo("Nothing was sent.")


def _estimate_json(plan: Plan, estimate: Estimate, limits: Limits) -> dict[str, Any]:
    return {
        "components": len(plan.keys),
        "never_fire": plan.silent,
        "too_dense": plan.dense,
        "judge": None if plan.judge_record is None else asdict(plan.judge_record),
        "estimate": {
            "requests": estimate.requests,
            "prompt_tokens": estimate.usage.prompt_tokens,
            "completion_tokens": estimate.usage.completion_tokens,
            "cost": limits.cost(plan, estimate),
        },
    }


def _estimate_words(plan: Plan, estimate: Estimate, limits: Limits) -> str:
    judged = "" if plan.judge.same_model(plan.endpoint) else f", judged by {plan.judge.model}"
    words = (
        f"{len(plan.keys):,} components of {plan.run.name}, strategy {plan.strategy.name}{judged}: at most "
        f"{estimate.requests:,} questions, about {estimate.usage.prompt_tokens:,} tokens of prompts and "
        f"{estimate.usage.completion_tokens:,} of answers"
    )
    cost = limits.cost(plan, estimate)
    if cost is not None:
        words += f", about {cost:.4g} at these prices"
    if limits.cap is not None:
        words += f"; the cap is {limits.cap:g}"
    if limits.cap_tokens is not None:
        words += f"; the cap is {limits.cap_tokens:,} tokens"
    if plan.silent:
        words += f". {plan.silent:,} more never fire and are left out"
    if plan.dense:
        words += (
            f". {plan.dense:,} of larger mean importance fire at more positions than --max-density allows "
            "and are left out"
        )
    return words + "."


# ---- the work -----------------------------------------------------------------------------------


def _label(plan: Plan, sets: LabelSets, name: str, limits: Limits, device: str, as_json: bool) -> bool:
    """Whether everything was labelled and scored."""
    from backend.autolabel.job import work
    from backend.pipelines.common import choose_device, console
    from backend.pipelines.load import load_decomposition

    chosen = choose_device(device)
    label_set, new = sets.open_set(
        plan.run.name, plan.run.digest, name, plan.strategy.name, plan.settings, plan.judge_record
    )
    estimate = plan.estimate(sets, label_set)
    console.print(_estimate_words(plan, estimate, limits), soft_wrap=True, highlight=False, markup=False)
    if not new:
        there = sets.progress(label_set.id).done
        console.print(f"going on with {name!r}: {there:,} labels are there", soft_wrap=True, markup=False)

    def pool() -> Any:
        from backend.autolabel.silence import fires

        note = "looking for texts in which the components are silent …"
        console.print(note, soft_wrap=True, highlight=False, markup=False)
        model = load_decomposition(plan.run.directory, chosen)
        return plan.silent_pool(lambda ids: fires(model, plan.keys, ids))

    started = time.monotonic()
    try:
        with _bars(sets, label_set.id, limits) as report:
            ended = asyncio.run(work(plan, label_set, sets, limits, pool, report))
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here", markup=False)
        raise
    summary = _summary(plan, sets, label_set.id, ended, time.monotonic() - started)
    if not limits.priced:
        summary["spending"]["cost"] = None
    summary = {"run": plan.run.name, "set": name, **summary, **_estimate_json(plan, estimate, limits)}
    if as_json:
        _print(summary)
    else:
        _print_summary(summary, limits)
    return ended == "finished" and not summary["failed"] and not summary["failed_trials"]


@contextmanager
def _bars(sets: LabelSets, set_id: int, limits: Limits) -> Generator[Callable[[Tally], None]]:
    """A progress bar for each phase."""
    from contextlib import ExitStack

    from backend.pipelines.common import progress

    with ExitStack() as stack:
        phase: str | None = None
        update: Any = None
        shown = 0.0
        note = ""

        def report(tally: Tally) -> None:
            nonlocal phase, update, shown, note
            if tally.phase != phase:
                stack.close()
                unit = "label" if tally.phase == "labels" else "question"
                update = stack.enter_context(progress(tally.phase, tally.total, unit, tally.done))
                phase = tally.phase
            if limits.priced and time.monotonic() - shown > 1:
                shown = time.monotonic()
                note = f"{sets.spending(set_id).cost:.4g} spent"
            failed = f"{tally.failed} failed" if tally.failed else ""
            update(tally.done, ", ".join(filter(None, (note, failed))))

        yield report


def _summary(plan: Plan, sets: LabelSets, set_id: int, ended: str, seconds: float) -> dict[str, Any]:
    from backend.autolabel.scoring import set_score

    wanted = set(plan.keys)
    items = [i for i in sets.items(set_id) if i.key in wanted]
    final = [i for i in items if i.stage == plan.strategy.stages[-1]]
    trials = [t for t in sets.trials(set_id) if t.key in wanted]
    spent = sets.spending(set_id)
    scores: dict[str, Any] = {}
    for kind in ("detection", "fuzzing") if plan.trials else ():
        found = set_score(trials, kind)
        interval = None if found.interval is None else [found.interval.low, found.interval.high]
        scores[kind] = {
            "components": found.components,
            "mean": found.mean,
            "interval": interval,
            "failed": found.failed,
            "impossible": found.impossible,
            "impossible_because": _reasons([t for t in trials if t.kind == kind]),
        }
    return {
        "ended": ended,
        "labelled": sum(i.status == "done" for i in final),
        "failed": sum(i.status == "failed" for i in items),
        "failed_trials": sum(t.status == "failed" for t in trials),
        "failures": [
            {"stage": i.stage, "key": i.key, "error": i.error} for i in items if i.status == "failed"
        ],
        "labels": {i.key: i.label for i in final if i.status == "done"},
        "scores": scores,
        "spending": {
            "requests": spent.requests,
            "failed_requests": spent.failed,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "uncounted_requests": spent.uncounted,
            "cost": spent.cost,
        },
        "seconds": round(seconds, 3),
    }


def _reasons(trials: list[Trial]) -> dict[str, int]:
    """Why questions could not be asked, the most common reason first."""
    from collections import Counter

    return dict(Counter(t.error for t in trials if t.status == "impossible").most_common())


def _print(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _print_summary(summary: dict[str, Any], limits: Limits) -> None:
    spending = summary["spending"]
    typer.echo(
        f"{summary['labelled']:,} of {summary['components']:,} components have a label in {summary['set']!r}"
    )
    for kind, found in summary["scores"].items():
        rest = [f"{found[what]:,} {what}" for what in ("failed", "impossible") if found[what]]
        why = next(iter(found["impossible_because"]), "")
        told = (f"; questions {', '.join(rest)}" if rest else "") + (f" (mostly: {why})" if why else "")
        if found["mean"] is None:
            typer.echo(f"{kind}: not scored{told}")
            continue
        low, high = found["interval"]
        labels = "1 label" if found["components"] == 1 else f"{found['components']:,} labels"
        typer.echo(
            f"{kind}: {found['mean']:.0%} right (95 % interval {low:.0%} to {high:.0%}, guessing gives 50 %) "
            f"over {labels}{told}"
        )
    cost = "" if not limits.priced else f", {spending['cost']:.4g}"
    typer.echo(
        f"{spending['requests']:,} requests, {spending['prompt_tokens']:,} + "
        f"{spending['completion_tokens']:,} tokens{cost}"
        + (
            f" ({spending['uncounted_requests']} requests at their upper bound)"
            if spending["uncounted_requests"]
            else ""
        )
    )
    for failure in summary["failures"][:_NAMED]:
        typer.echo(f"failed: {failure['key']} ({failure['stage']}): {failure['error']}", err=True)
    if len(summary["failures"]) > _NAMED:
        typer.echo(f"and {len(summary['failures']) - _NAMED:,} more", err=True)
    if summary["ended"] == "cap":
        typer.echo("stopped before the cap; a higher one goes on from here", err=True)
    elif summary["ended"] != "finished":
        typer.echo(f"stopped: {summary['ended']}", err=True)
    if summary["failed"] or summary["failed_trials"]:
        typer.echo("the same command asks again what failed", err=True)
