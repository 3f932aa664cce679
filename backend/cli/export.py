"""``tributary export RUN --format four-edge PATH``: attributions for the public code's reader."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from backend.cli.options import RUNS, RunArgument, RunsFolder
from backend.importing.four_edge import export_four_edge
from backend.pipelines.common import console, progress
from storage.run_directory import resolve_run


def command(
    run_name: RunArgument,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write", show_default=False)],
    form: Annotated[
        Literal["four-edge"],
        typer.Option(
            "--format", help="four-edge: raw sums of four edge types, as the public code keeps them"
        ),
    ],
    subrun: Annotated[str | None, typer.Option(help="An attribution subrun; default the newest")] = None,
    runs: RunsFolder = RUNS,
) -> None:
    """Write a run's attributions as a published file, which the public code loads; says what is left out."""
    assert form == "four-edge"
    store = resolve_run(run_name, runs).attributions(subrun)
    started = time.monotonic()
    with progress("exporting", 100, "%") as update:
        exported = export_four_edge(
            store, path.expanduser(), lambda _, done, total: update(100 * done // max(total, 1))
        )
    for sentence in exported.left_out:
        console.print(sentence, soft_wrap=True, highlight=False)
    console.print(
        f"wrote {exported.n_matrices:,} matrices of {store.subrun} to {exported.path}, {exported.size:,} bytes, "
        f"in {time.monotonic() - started:.1f} s",
        soft_wrap=True,
    )
