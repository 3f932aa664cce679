"""Components: the table, cards, and their strongest sources and targets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import KeyParam, KParam, RawParam, RunDep, SubrunParam
from backend.errors import responses
from backend.keys import SiteText
from backend.schemas import (
    MAX_PAGE,
    BatchRequest,
    BatchResponse,
    ComponentCard,
    ComponentPage,
    ComponentSort,
    EntryList,
    Metric,
    Sign,
)
from backend.service import cards
from backend.service.listing import list_components

router = APIRouter(prefix="/runs/{run}", tags=["components"])
_ERRORS = responses(404, 409, 422)


@router.get("/components", name="list", responses=_ERRORS)
def list_page(
    run: RunDep,
    site: Annotated[SiteText | None, Query(description="Only components of this site")] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=200, description="Part of a key, or text in one of the component's top input tokens"
        ),
    ] = None,
    sort: ComponentSort = "key",
    cursor: Annotated[
        str | None,
        Query(
            json_schema_extra={"pattern": "^[0-9]{1,9}-[0-9a-f]{12}$"},
            description="next_cursor of the page before, with the same site, q and sort",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 200,
) -> ComponentPage:
    """Components with their statistics, page by page; those without statistics sort last."""
    return list_components(run, site=site, q=q, sort=sort, cursor=cursor, limit=limit)


@router.get("/components/{key}", responses=_ERRORS)
def get(
    run: RunDep,
    key: KeyParam,
    metric: Metric = "attr",
    k: KParam = 10,
    raw: RawParam = False,
    subrun: SubrunParam = None,
) -> ComponentCard:
    """A card: identity, activity, and the k strongest sources and targets of either sign."""
    return cards.card(run, key, metric=metric, k=k, raw=raw, subrun=subrun)


@router.post("/components:batch", responses=responses(404, 409, 413, 422))
def batch(run: RunDep, request: BatchRequest) -> BatchResponse:
    """Many cards in one request; keys that have none are listed with the reason."""
    return cards.batch(run, request)


@router.get("/components/{key}/sources", responses=_ERRORS)
def sources(
    run: RunDep,
    key: KeyParam,
    metric: Metric = "attr",
    sign: Sign = "positive",
    k: KParam = 10,
    raw: RawParam = False,
    subrun: SubrunParam = None,
) -> EntryList:
    """What flows directly into a component or output token, strongest first."""
    return cards.entries(run, key, "sources", metric=metric, sign=sign, k=k, raw=raw, subrun=subrun)


@router.get("/components/{key}/targets", responses=_ERRORS)
def targets(
    run: RunDep,
    key: KeyParam,
    metric: Metric = "attr",
    sign: Sign = "positive",
    k: KParam = 10,
    raw: RawParam = False,
    subrun: SubrunParam = None,
) -> EntryList:
    """What a component, delta, bias or embedded token flows directly into, strongest first."""
    return cards.entries(run, key, "targets", metric=metric, sign=sign, k=k, raw=raw, subrun=subrun)
