"""``tributary search``: words and exact text in the run's corpus, as lines around each match."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.options import RUNS, Json, RunArgument, RunsFolder, find_run

if TYPE_CHECKING:
    from backend.search_schemas import SearchPage
    from backend.service.run import Run
    from backend.service.search import Searches

#: Characters on each side of a match.
_SIDE = 44


def search(
    run_name: RunArgument,
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help='Words, all near each other; "in quotes": in a row; sea*: words that begin so',
            show_default=False,
        ),
    ],
    exact: Annotated[
        bool, typer.Option("--exact", help="The text as it stands, pieces of words and signs included")
    ] = False,
    match_case: Annotated[
        bool, typer.Option("--match-case", help="Tell capital letters from small ones")
    ] = False,
    document: Annotated[int | None, typer.Option(min=0, help="Only this document")] = None,
    first: Annotated[int, typer.Option(min=0, max=10_000, help="Number of the first hit to list")] = 0,
    n: Annotated[int, typer.Option("-n", min=1, max=200, help="How many hits to list")] = 20,
    folder: RunsFolder = RUNS,
    as_json: Json = False,
) -> None:
    """Search a run's text. A small corpus is indexed on the way; see search-index for a large one."""
    from backend.service.search import Searches
    from backend.service.search import search as find
    from storage.search_text import parse

    run = find_run(run_name, folder)
    mode = "exact" if exact else "words"
    parse(query, mode, match_case=match_case)
    searches = Searches(folder)
    _indexed(run, searches)
    found = find(
        searches,
        run,
        query,
        mode=mode,
        match_case=match_case,
        document=document,
        cursor=first,
        limit=n,
        context=(24, 24),
        seconds=60.0,
    )
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _print(found)


def _indexed(run: Run, searches: Searches) -> None:
    """Index a small corpus now; a large one is refused with the command."""
    from backend.service.search import SERVED_TOKENS
    from storage.errors import NotComputedError

    if searches.reader(run) is not None:
        return
    count = len(searches.source(run).corpus.tokens)
    if count > SERVED_TOKENS:
        raise NotComputedError(
            f"the text of {run.name} has {count:,} tokens and is not indexed yet",
            f"run: tributary search-index {run.name}",
        )
    from backend.pipelines.search_index import make_index_shown

    make_index_shown(run.directory, searches.source(run).corpus, searches.beside)


def _print(found: SearchPage) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for hit in found.hits:
        text, matched = _flat(hit.left + hit.match + hit.right), len(hit.left)
        low, high = matched - _SIDE, matched + len(hit.match) + _SIDE
        line = Text(" " * -low + text[max(0, low) : high].ljust(high - max(0, low)))
        line.no_wrap, line.overflow = True, "ellipsis"
        for span in hit.spans:
            style = "bold reverse" if span.term == 0 else "bold underline"
            line.stylize(style, max(0, span.start - low), max(0, span.end - low))
        line.append(f"  {hit.title[:40]}, token {hit.document_position:,}", style="dim")
        console.print(line)
    more = "more than " if found.ended != "complete" else ""
    shown = f"{found.hits[0].number + 1:,}–{found.hits[-1].number + 1:,} of " if found.hits else ""
    console.print(Text(f"{shown}{more}{found.total:,} in {found.tokens:,} tokens"))
    if found.ended == "time":
        console.print(
            Text(f"stopped after {found.seconds_limit:g} s with {found.searched:.0%} of the text searched")
        )


def _flat(text: str) -> str:
    """On one line, each line break as a sign; nothing that a terminal would obey."""
    return "".join("↵" if c == "\n" else c if c.isprintable() else "·" for c in text)
