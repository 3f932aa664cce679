"""Components: the table, cards, and their strongest sources and targets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import KeyParam, KParam, RawParam, RunDep, SubrunParam, WorkshopDep
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
    Labelled,
    Metric,
    Sign,
)
from backend.service import cards
from backend.service.clusters import CLUSTER_PATTERN
from backend.service.clusters import find as find_clustering
from backend.service.cursors import PATTERN as CURSOR
from backend.service.listing import Listing, list_components

router = APIRouter(prefix="/runs/{run}", tags=["components"])
_ERRORS = responses(404, 409, 422)


@router.get("/components", name="list", responses=responses(404, 409, 422, 503))
def list_page(
    run: RunDep,
    workshop: WorkshopDep,
    site: Annotated[SiteText | None, Query(description="Only components of this site")] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Part of a key, or text in one of the component's top input tokens, or in its label or note",
        ),
    ] = None,
    fires_on: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Only components that fire on this token more often than by chance: its text, in any case "
            "of letters, with or without a space before it",
        ),
    ] = None,
    min_density: Annotated[float | None, Query(ge=0, le=1)] = None,
    max_density: Annotated[float | None, Query(ge=0, le=1)] = None,
    min_mean_ci: Annotated[float | None, Query(ge=0, le=1)] = None,
    max_mean_ci: Annotated[float | None, Query(ge=0, le=1)] = None,
    label: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Only components whose label, as the table shows it, has all of these words in it",
        ),
    ] = None,
    labelled: Annotated[
        Labelled | None,
        Query(description="Only components that have a label, none, or one given by a person or by a model"),
    ] = None,
    strongest_source: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Only components whose strongest source, of either sign by normalised attr, is this: a key, "
            "anything in a site (0.attn.q, embed) or in a layer (0, 0.attn), or an input token by its text; text "
            "with a digit, a dot or a colon in double quotes",
        ),
    ] = None,
    strongest_target: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="As strongest_source, of the strongest target: a key, a site or output, a layer, or an "
            "output token by its text",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        Query(
            json_schema_extra={"pattern": CLUSTER_PATTERN},
            description="Only members of this cluster, or alone, or unknown to the clustering",
        ),
    ] = None,
    clustering: Annotated[
        str | None, Query(description="The clustering that cluster is of; default the newest")
    ] = None,
    iteration: Annotated[
        int | None, Query(ge=0, description="Its iteration; default the one that is shown")
    ] = None,
    sort: ComponentSort = "key",
    cursor: Annotated[
        str | None,
        Query(
            json_schema_extra={"pattern": CURSOR},
            description="next_cursor of the page before, with the same filters and sort",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 200,
) -> ComponentPage:
    """Components with their statistics, page by page; those without what is sorted by come last."""
    if cluster is not None:
        clustering = find_clustering(run, clustering).subrun
    listing = Listing(
        site=site,
        q=q,
        fires_on=fires_on,
        min_density=min_density,
        max_density=max_density,
        min_mean_ci=min_mean_ci,
        max_mean_ci=max_mean_ci,
        label=label,
        labelled=labelled,
        strongest_source=strongest_source,
        strongest_target=strongest_target,
        sort=sort,
        cluster=cluster,
        clustering=clustering,
        iteration=iteration,
    )
    return list_components(workshop, run, listing, cursor=cursor, limit=limit)


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
