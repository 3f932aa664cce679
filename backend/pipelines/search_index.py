"""``tributary search-index RUN``: index the run's text once, so that it can be searched."""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.pipelines.common import console, progress, provenance
from storage.corpus import TokenCorpus
from storage.errors import StorageError
from storage.run_directory import RunDirectory, resolve_run
from storage.search_index import (
    Report,
    SearchIndex,
    build_index,
    find_index,
    token_bytes,
    writable_folder,
)

#: Bytes of an index for each token, with room to spare: the text, and half as much again.
_BYTES_OF_TOKEN = 8
_UNITS = {"writing text": "tokens", "indexing text": "bytes"}


def make_index(run: RunDirectory, corpus: TokenCorpus, beside: Path, report: Report) -> SearchIndex:
    """Index a run's text into the run, or below ``beside`` where the run cannot be written to."""
    folder = writable_folder(run, beside)
    needed = _BYTES_OF_TOKEN * len(corpus.tokens)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the index may take {needed:,} bytes; {folder} has {free:,} left", "make room on the disk"
        )
    table = token_bytes(run.tokenizer(), int(run.info.target["vocab_size"]))
    made = provenance(corpus_sha256=corpus.sha256)
    try:
        return build_index(corpus, table, run.tokenizer_sha256, folder, made, report)
    except OSError as error:
        raise StorageError(
            f"the index cannot be written to {folder} ({error.strerror})",
            "make room on the disk and try again; nothing was left there",
        ) from error


def make_index_shown(run: RunDirectory, corpus: TokenCorpus, beside: Path) -> SearchIndex:
    """The same with progress on the terminal; says what was written."""
    started = time.monotonic()
    with _bars() as report:
        index = make_index(run, corpus, beside, report)
    console.print(
        f"indexed {index.tokens:,} tokens, {index.n_bytes:,} bytes of text in {time.monotonic() - started:.1f} s: "
        f"{index.path}, {index.size:,} bytes",
        soft_wrap=True,
    )
    return index


@contextmanager
def _bars() -> Generator[Report]:
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


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, demo, or a path")],
    again: Annotated[bool, typer.Option("--again", help="Make a new index where there is one")] = False,
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
) -> None:
    """Index a run's text for searching. What is interrupted begins again; it takes a minute a gigabyte."""
    run = resolve_run(run_name, runs)
    corpus = run.corpus(mapped=True)
    index = None if again else find_index(run, corpus, runs)
    if index is None:
        make_index_shown(run, corpus, runs)
    else:
        console.print(f"{run.name} is indexed already: {index.path}", soft_wrap=True)
