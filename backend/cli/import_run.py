"""``tributary import PATH``: open a decomposition that another program made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backend.cli.options import RUNS, Json, RunsFolder
from backend.importing.options import ImportedRun, ImportOptions
from backend.importing.run import import_run

_PATH = typer.Argument(
    metavar="PATH",
    help="A run directory of the public code, its checkpoint, or a file of dataset attributions",
    show_default=False,
)


def command(
    path: Annotated[Path, _PATH],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The new run's name; default: the directory's")
    ] = None,
    target: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The target model's directory or configuration")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="PATH", help="tokenizer.json, or a directory that has one")
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Text for the run, .txt or .jsonl; may be given several times"),
    ] = None,
    step: Annotated[int | None, typer.Option(min=0, help="Step of the checkpoint; default: the last")] = None,
    leave_whole: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Decomposed modules to take as whole; may be given several times"
        ),
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="RUN", help="Existing run that dataset attributions are added to")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title shown on the run's page")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the model and its text")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing from the model hub")] = False,
    runs: RunsFolder = RUNS,
    as_json: Json = False,
) -> None:
    """Open a decomposition that another program made: read it once, check it, and write it as a run."""
    imported = import_run(
        path,
        ImportOptions(
            runs=runs,
            name=name,
            target=target,
            tokenizer=tokenizer,
            text=tuple(text or ()),
            checkpoint=step,
            title=title,
            licence=licence,
            leave_whole=tuple(leave_whole or ()),
            into=into,
            offline=offline,
        ),
    )
    typer.echo(_document(imported) if as_json else _report(imported))


def _report(imported: ImportedRun) -> str:
    """What was found and written, as plain lines that fit a terminal and a log."""
    width = max((len(finding.name) for finding in imported.found), default=0)
    lines = [f"{finding.name:<{width}}  {finding.value}" for finding in imported.found]
    lines += ["", *(f"note: {note.text}" for note in imported.notes)] if imported.notes else []
    lines += ["", *(f"warning: {warning}" for warning in imported.warnings)] if imported.warnings else []
    lines += ["", f"written to {imported.path}; next:"]
    lines += [f"  {command}" for command in imported.next_commands]
    return "\n".join(lines)


def _document(imported: ImportedRun) -> str:
    import json

    return json.dumps(
        {
            "path": str(imported.path),
            "found": {finding.name: finding.value for finding in imported.found},
            "notes": [note.model_dump() for note in imported.notes],
            "ignored_settings": list(imported.ignored_settings),
            "warnings": list(imported.warnings),
            "next": list(imported.next_commands),
        },
        indent=2,
    )
