"""``tributary label-sets list|export|delete``: labels that language models gave, and what they cost."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from backend.cli.options import RUNS, Json, RunArgument, RunsFolder, find_run

if TYPE_CHECKING:
    from backend.label_set_schemas import LabelSetScore, LabelSetSummary
    from backend.service.run import Run
    from storage.label_records import LabelSet
    from storage.label_sets import LabelSets

label_sets = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List, export and delete labels of language models."
)
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The label set's name", show_default=False)]


@label_sets.command("list")
def list_sets(run_name: RunArgument, as_json: Json = False, folder: RunsFolder = RUNS) -> None:
    """The label sets of a run, newest first, with their scores and what they cost."""
    from backend.service.label_sets import summary

    with _opened(run_name, folder) as (run, store):
        sets = [summary(store, found) for found in store.sets(run.name, run.digest)]
    if as_json:
        import json

        document = {"run": run.name, "sets": [found.model_dump(mode="json") for found in sets]}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    if not sets:
        typer.echo(f"{run.name} has no label sets; tributary label makes one", err=True)
    for found in sets:
        typer.echo(found.name)
        for line in _lines(found):
            typer.echo(f"  {line}")


@label_sets.command("export")
def export_set(
    run_name: RunArgument,
    name: _Name,
    output: Annotated[
        Path | None, typer.Option(help="A file, CSV where its name ends so; default standard output")
    ] = None,
    form: Annotated[
        Literal["json", "csv"] | None, typer.Option("--format", help="json or csv", show_default="json")
    ] = None,
    folder: RunsFolder = RUNS,
) -> None:
    """Write the labels of a set with their scores, who gave them and when."""
    from backend.service.label_set_files import export

    by_name = "csv" if output is not None and output.suffix.lower() == ".csv" else "json"
    with _opened(run_name, folder) as (run, store):
        found = _find(store, run, name)
        _, _, content = export(store, run, found, form or by_name)
        labelled = store.progress(found.id).done
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        output.write_bytes(content)
        typer.echo(f"{labelled:,} labels written to {output}", err=True)


@label_sets.command("delete")
def delete_set(
    run_name: RunArgument,
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    folder: RunsFolder = RUNS,
) -> None:
    """Delete a set for good: labels, scores, and every question with its answer. Labels that were adopted stay."""
    from backend.service.label_sets import summary
    from storage.errors import StorageError

    with _opened(run_name, folder) as (run, store):
        found = _find(store, run, name)
        for line in _lines(summary(store, found)):
            typer.echo(f"  {line}", err=True)
        if not yes:
            if not sys.stdin.isatty():
                raise StorageError("nobody is there to confirm", "give --yes to delete it without a question")
            if not typer.confirm(f"Delete {name!r} with all answers for good?", err=True):
                typer.echo("nothing was deleted", err=True)
                raise typer.Exit(1)
        store.delete(found.id)
    typer.echo(f"{name!r} is deleted", err=True)


@contextmanager
def _opened(run_name: str, folder: Path) -> Generator[tuple[Run, LabelSets]]:
    from backend.cli.serve import make_settings
    from storage.graphs import GraphDatabase

    run = find_run(run_name, folder)
    settings = make_settings("127.0.0.1", 0, folder, ())
    database = GraphDatabase(settings.database_path, settings.journal)
    try:
        yield run, database.label_sets
    finally:
        database.close()


def _find(store: LabelSets, run: Run, name: str) -> LabelSet:
    from storage.errors import UnknownRecordError

    found = store.find(run.name, run.digest, name)
    if found is None:
        names = ", ".join(repr(one.name) for one in store.sets(run.name, run.digest))
        raise UnknownRecordError(
            f"{run.name} has no label set {name!r}", f"there are {names}" if names else "there is none"
        )
    return found


def _lines(found: LabelSetSummary) -> list[str]:
    spent = found.spending
    cost = f", {spent.cost:.4g} spent" if spent.cost else ""
    failed = f", {found.failed:,} failed" if found.failed else ""
    ended = f"{found.ended or 'not ended'}, {found.created[:16].replace('T', ' ')}"
    lines = [
        f"{found.labelled:,} of {found.components:,} labels{failed}, {ended}",
        f"strategy {found.strategy} by {found.model} at {found.endpoint}",
    ]
    if found.judge is not None:
        judge = found.judge
        own = (judge.model, judge.endpoint) == (found.model, found.endpoint)
        judged = "itself" if own else f"{judge.model} at {judge.endpoint}"
        scores = ", ".join(
            f"{kind} {_score(score)}"
            for kind, score in (("detection", found.detection), ("fuzzing", found.fuzzing))
        )
        lines.append(f"judged by {judged}: {scores}")
    lines.append(
        f"{spent.requests:,} requests, {spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens{cost}"
    )
    return lines


def _score(found: LabelSetScore) -> str:
    if found.mean is None or found.interval is None:
        return "not scored"
    labels = "1 label" if found.components == 1 else f"{found.components:,} labels"
    return f"{found.mean:.0%} ({found.interval.low:.0%} to {found.interval.high:.0%}, {labels})"
