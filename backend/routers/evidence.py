"""Evidence of what a component responds to: harvested from the corpus, and computed on any text."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from backend.dependencies import KeyParam, RunDep, WorkshopDep
from backend.errors import responses
from backend.evidence_schemas import (
    MAX_ASSOCIATIONS,
    MAX_EXAMPLES,
    MAX_TOKENS,
    DocumentPage,
    Evidence,
    ExampleKind,
    ExamplePage,
    FiringRequest,
    Firings,
)
from backend.keys import KeyText
from backend.service import documents, evidence, firings
from backend.service.cursors import PATTERN as CURSOR

router = APIRouter(prefix="/runs/{run}", tags=["evidence"])
_ERRORS = responses(404, 409, 422)
HarvestParam = Annotated[str | None, Query(description="A harvest subrun; default the newest complete one")]


@router.get("/components/{key}/evidence", responses=_ERRORS)
def get(
    run: RunDep,
    key: KeyParam,
    k: Annotated[int, Query(ge=1, le=MAX_ASSOCIATIONS, description="How many associations in a list")] = 10,
    subrun: HarvestParam = None,
) -> Evidence:
    """How often and how strongly a component fires, on and before which tokens, and with whom."""
    return evidence.evidence(run, key, k=k, subrun=subrun)


@router.get("/components/{key}/examples", responses=_ERRORS)
def examples(
    run: RunDep,
    key: KeyParam,
    kind: ExampleKind = "random",
    token: Annotated[
        int | None, Query(ge=0, lt=2**31, description="Only examples whose firing token has this id")
    ] = None,
    cursor: Annotated[
        str | None,
        Query(
            json_schema_extra={"pattern": CURSOR},
            description="next_cursor of the page before, with the same kind and token",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_EXAMPLES)] = 10,
    subrun: HarvestParam = None,
) -> ExamplePage:
    """Places in the corpus where a component fires, page by page: drawn uniformly, or the strongest."""
    return evidence.examples(run, key, kind=kind, token=token, cursor=cursor, limit=limit, subrun=subrun)


@router.get("/documents/{number}", responses=responses(404, 409, 422, 503))
async def document(
    run: RunDep,
    workshop: WorkshopDep,
    connection: Request,
    number: Annotated[int, Path(ge=0, lt=2**31, description="Number of the document in the corpus")],
    start: Annotated[int, Query(ge=0, lt=2**31, description="First token wanted")] = 0,
    length: Annotated[int, Query(ge=1, le=MAX_TOKENS, description="How many tokens")] = 512,
    key: Annotated[KeyText | None, Query()] = None,
) -> DocumentPage:
    """Tokens of a document; with a key, its causal importance and activation at each, computed now."""
    return await documents.page(
        workshop, run, number, start=start, length=length, key=key, gone=connection.is_disconnected
    )


@router.post("/firings", responses=responses(404, 409, 413, 422, 503))
async def fire(run: RunDep, workshop: WorkshopDep, request: FiringRequest, connection: Request) -> Firings:
    """What components do on any text, computed now: those asked for, and those that fire most."""
    return await firings.fire(workshop, run, request, connection.is_disconnected)
