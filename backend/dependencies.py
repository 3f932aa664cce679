"""What the routes share: the library of runs, the run in the path, the workshop, and common parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from backend.jobs import JobQueue
from backend.keys import KeyText
from backend.schemas import MAX_K
from backend.service.library import Library
from backend.service.run import Run
from backend.service.workshop import Workshop


def _library(request: Request) -> Library:
    library = request.app.state.library
    assert isinstance(library, Library)
    return library


LibraryDep = Annotated[Library, Depends(_library)]


def _run(
    library: LibraryDep, run: Annotated[str, Path(description="Name of a run, as listed by /api/runs")]
) -> Run:
    return library.get(run)


def _workshop(request: Request) -> Workshop:
    workshop = request.app.state.workshop
    assert isinstance(workshop, Workshop)
    return workshop


def _jobs(request: Request) -> JobQueue:
    return _workshop(request).jobs


def _owner(
    x_tributary_owner: Annotated[
        str | None, Header(max_length=200, description="The secret of the link that tributary serve printed")
    ] = None,
) -> str | None:
    return x_tributary_owner


RunDep = Annotated[Run, Depends(_run)]
WorkshopDep = Annotated[Workshop, Depends(_workshop)]
JobsDep = Annotated[JobQueue, Depends(_jobs)]
#: What a request says to be the owner's secret; to be checked by what needs it.
OwnerDep = Annotated[str | None, Depends(_owner)]
KeyParam = Annotated[KeyText, Path()]
KParam = Annotated[int, Query(ge=1, le=MAX_K, description="How many entries")]
RawParam = Annotated[bool, Query(description="Raw sums instead of normalised values")]
SubrunParam = Annotated[
    str | None, Query(description="An attribution subrun; default the newest complete one")
]
IdParam = Annotated[int, Path(ge=1, lt=2**63)]
