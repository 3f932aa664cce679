"""``tributary index RUN``: rank the entries of every key once, so that queries of a large store are quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backend.pipelines.common import console
from storage.run_directory import resolve_run


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=1000, help="Entries kept for each list")] = 32,
    subrun: Annotated[str | None, typer.Option(help="An attribution subrun; default the newest")] = None,
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
) -> None:
    """Index a run's attributions. Queries that ask for no more than K entries then read a few blocks only."""
    store = resolve_run(run_name, runs).attributions(subrun)
    store.build_index(k)
    console.print(f"indexed {store.path}", soft_wrap=True)
