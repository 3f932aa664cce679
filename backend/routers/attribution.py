"""One number: the attribution of one source to one target."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import RunDep, SubrunParam
from backend.errors import responses
from backend.keys import KeyText
from backend.schemas import AttributionValue, Metric
from backend.service.cards import attribution

router = APIRouter(prefix="/runs/{run}", tags=["attribution"])


@router.get("/attribution", responses=responses(404, 409, 422))
def get(
    run: RunDep,
    source: Annotated[KeyText, Query()],
    target: Annotated[KeyText, Query()],
    metric: Metric = "attr",
    subrun: SubrunParam = None,
) -> AttributionValue:
    """The normalised value, the raw sum and the standard error of one edge."""
    return attribution(run, source, target, metric=metric, subrun=subrun)
