"""``tributary compact RUN``: a small copy of a run's attributions, its loss measured and stated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backend.pipelines.common import console
from storage.compact import compact
from storage.run_directory import resolve_run


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    subrun: Annotated[str | None, typer.Option(help="An attribution subrun; default the newest")] = None,
    abs_above: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Keep attr_abs only into components whose CI exceeds this somewhere"
        ),
    ] = 0.0,
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
) -> None:
    """Write a compact copy of a run's attributions beside them. A compact copy cannot be merged."""
    run = resolve_run(run_name, runs)
    name = compact(run, subrun, abs_above=abs_above)
    store = run.attributions(name)
    console.print(store.manifest.encoding_note)
    console.print(f"written to {store.path}", soft_wrap=True)
