"""What the routes share: the library of runs, the run in the path, and common parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from backend.keys import KeyText
from backend.schemas import MAX_K
from backend.service.library import Library
from backend.service.run import Run


def _library(request: Request) -> Library:
    library = request.app.state.library
    assert isinstance(library, Library)
    return library


LibraryDep = Annotated[Library, Depends(_library)]


def _run(
    library: LibraryDep, run: Annotated[str, Path(description="Name of a run, as listed by /api/runs")]
) -> Run:
    return library.get(run)


RunDep = Annotated[Run, Depends(_run)]
KeyParam = Annotated[KeyText, Path()]
KParam = Annotated[int, Query(ge=1, le=MAX_K, description="How many entries")]
RawParam = Annotated[bool, Query(description="Raw sums instead of normalised values")]
SubrunParam = Annotated[
    str | None, Query(description="An attribution subrun; default the newest complete one")
]
