"""Label sets, to look at; making them is routers/labelling.py."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import IdParam, KeyParam, RunDep, WorkshopDep
from backend.errors import responses
from backend.label_set_schemas import MAX_LABELS, LabelComparison, LabelOrigin, LabelSetList, LabelSetPage
from backend.service import label_sets
from storage.label_records import ItemStatus

router = APIRouter(prefix="/runs/{run}/label-sets", tags=["label_sets"])
_ERRORS = responses(404, 409, 422, 503)
_Start = Annotated[int, Query(ge=0, lt=2**31, description="How many to pass over")]
_Limit = Annotated[int, Query(ge=1, le=MAX_LABELS)]


@router.get("", name="list", responses=_ERRORS)
def list_all(run: RunDep, workshop: WorkshopDep) -> LabelSetList:
    """The label sets of a run as it is now, with what they cost and their scores."""
    return label_sets.list_sets(workshop, run)


@router.get("/{id}", responses=_ERRORS)
def get(
    run: RunDep,
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002 (the path's name)
    q: Annotated[
        str | None, Query(max_length=200, description="Only with all these words in key or label")
    ] = None,
    status: Annotated[ItemStatus | None, Query(description="Only with a label, or only what failed")] = None,
    start: _Start = 0,
    limit: _Limit = 100,
) -> LabelSetPage:
    """The labels of one set, each with its own scores."""
    return label_sets.page(workshop, run, id, q=q, status=status, start=start, limit=limit)


@router.get("/{id}/components/{key}", responses=_ERRORS)
def origin(
    run: RunDep,
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    key: KeyParam,
) -> LabelOrigin:
    """How one label came to be: what was asked, word for word, and what came back."""
    return label_sets.origin(workshop, run, id, key)


@router.get("/{id}/compare", responses=_ERRORS)
def compare(
    run: RunDep,
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    other: Annotated[int, Query(ge=1, lt=2**63, description="The set it is compared with")],
    start: _Start = 0,
    limit: _Limit = 100,
) -> LabelComparison:
    """Two sets side by side, and the differences of their scores."""
    return label_sets.compare(workshop, run, id, other, start=start, limit=limit)
