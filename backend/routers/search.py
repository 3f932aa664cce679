"""Searching the run's text."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import RunDep, WorkshopDep
from backend.errors import responses
from backend.job_schemas import Job
from backend.search_schemas import MAX_CONTEXT, MAX_HITS_PAGE, SearchIndexInfo, SearchMode, SearchPage
from backend.service import search as service
from storage.search import MAX_HITS
from storage.search_text import MAX_QUERY

router = APIRouter(prefix="/runs/{run}", tags=["search"])


@router.get("/search", name="find", responses=responses(404, 409, 422))
def find(
    run: RunDep,
    workshop: WorkshopDep,
    q: Annotated[str, Query(max_length=MAX_QUERY, description="What to search for; any text is a query")],
    mode: Annotated[
        SearchMode,
        Query(
            description='words: all of them near each other; "in quotes": in a row; sea*: words that begin so. '
            "exact: the text as it stands, pieces of words and signs included"
        ),
    ] = "words",
    case: Annotated[bool, Query(description="Tell capital letters from small ones")] = False,
    document: Annotated[int | None, Query(ge=0, lt=2**31, description="Only this document")] = None,
    cursor: Annotated[int, Query(ge=0, le=MAX_HITS, description="Number of the first hit wanted")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_HITS_PAGE)] = 50,
    left: Annotated[int, Query(ge=0, le=MAX_CONTEXT, description="Tokens before the match")] = 24,
    right: Annotated[int, Query(ge=0, le=MAX_CONTEXT, description="Tokens after the match")] = 24,
) -> SearchPage:
    """Hits in the order of the corpus. The count is exact, or said to be a lower bound."""
    return service.search(
        workshop.searches,
        run,
        q,
        mode=mode,
        match_case=case,
        document=document,
        cursor=cursor,
        limit=limit,
        context=(left, right),
    )


@router.get("/search-index", name="index", responses=responses(404, 409, 422))
def index(run: RunDep, workshop: WorkshopDep) -> SearchIndexInfo:
    """Whether the run's text can be searched already."""
    return service.index_info(workshop.searches, run)


@router.post("/search-index", name="build", status_code=202, responses=responses(404, 409, 422, 503))
def build(run: RunDep, workshop: WorkshopDep) -> Job:
    """Index the run's text. A job that is done where it was; a large corpus is refused with the command."""
    return service.request_index(workshop, run)
