"""``tributary runs``: which runs there are and what each has."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from backend.cli.options import RUNS, Json, RunsFolder

#: Of runs that hold no language model.
_KINDS = {"model": "model", "attributions": "no model", "toy": "toy model"}


def runs(folder: RunsFolder = RUNS, as_json: Json = False) -> None:
    """List runs and what each has."""
    from backend.service.library import Library
    from backend.service.overview import list_runs

    library = Library(folder)
    found = list_runs(library)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    if not found.runs and not found.damaged:
        typer.echo(f"There are no runs in {Path(folder).resolve()}; tributary decompose makes one.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "kind", "blocks", "matrices", "components", "attributions", "evaluated", "title"):
        table.add_column(name, justify="right" if name in ("blocks", "matrices", "components") else "left")
    for run in found.runs:
        subruns = library.get(run.name).directory.attribution_subruns()
        table.add_row(
            run.name,
            run.family if run.family is not None else _KINDS[run.kind],
            str(run.n_blocks) if run.n_blocks else "",
            f"{run.n_decomposed} of {run.n_modules}"
            if run.n_modules > run.n_decomposed
            else str(run.n_modules),
            f"{run.n_components:,}",
            subruns[0] + (f" (+{len(subruns) - 1})" if len(subruns) > 1 else "") if subruns else "none",
            "yes" if run.has_evaluation else "no",
            run.title,
        )
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    for damaged in found.damaged:
        typer.echo(f"{damaged.name}: {damaged.error.message}; {damaged.error.hint}", err=True)
