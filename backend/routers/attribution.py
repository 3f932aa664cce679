"""One number: the attribution of one source to one target."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import RawParam, RunDep, SubrunParam
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
    raw: RawParam = False,
    subrun: SubrunParam = None,
) -> AttributionValue:
    """One edge, with its standard error; an exact zero where source and target are not connected."""
    return attribution(run, source, target, metric=metric, raw=raw, subrun=subrun)
