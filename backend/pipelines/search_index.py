"""``tributary search-index RUN``: index the run's text once, so that it can be searched."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.cli.options import find_run
from backend.pipelines.common import console, progress
from backend.service.search import Searches

if TYPE_CHECKING:
    from backend.service.run import Run
    from storage.search_index import Report, SearchIndex

_UNITS = {"writing text": "tokens", "indexing text": "bytes"}


@contextmanager
def bars() -> Generator[Report]:
    """Shows each phase of indexing as a bar of its own."""
    with ExitStack() as stack:
        showing: list[tuple[str, Any]] = []

        def report(phase: str, done: int, total: int) -> None:
            if not showing or showing[-1][0] != phase:
                stack.pop_all().close()
                bar = stack.enter_context(progress(phase, total, _UNITS.get(phase, "")))
                showing.append((phase, bar))
            showing[-1][1](done)

        yield report


def build(run: Run, beside: Path) -> SearchIndex:
    """Index a run's text and say what was written."""
    started = time.monotonic()
    with bars() as report:
        index = Searches(beside).build(run, report)
    console.print(
        f"indexed {index.tokens:,} tokens, {index.n_bytes:,} bytes of text in {time.monotonic() - started:.1f} s: "
        f"{index.path}, {index.size:,} bytes",
        soft_wrap=True,
    )
    return index


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    again: Annotated[bool, typer.Option("--again", help="Make a new index where there is one")] = False,
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
) -> None:
    """Index a run's text for searching. What is interrupted begins again; it takes a minute a gigabyte."""
    run = find_run(run_name, runs)
    reader = None if again else Searches(runs).reader(run)
    if reader is None:
        build(run, runs)
    else:
        console.print(f"{run.name} is indexed already: {reader.index.path}", soft_wrap=True)
