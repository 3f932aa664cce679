"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from backend.service.run import Run

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path", show_default=False)
]
RunsFolder = Annotated[Path, typer.Option("--runs", envvar="TRIBUTARY_RUNS", help="Folder of runs")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else")]
RUNS = Path("runs")


def find_run(name_or_path: str, folder: Path) -> Run:
    """Open the run that an argument names; raises :class:`storage.errors.RunError`."""
    from backend.service.library import open_run, run_name
    from storage.run_directory import resolve_run

    path = resolve_run(name_or_path, folder).path
    return open_run(run_name(path), path)


def visible(text: str) -> str:
    """A token's text with its whitespace made visible."""
    named = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "⏎"}
    return "".join(named.get(c, c if c.isprintable() else f"\\x{ord(c):02x}") for c in text)
