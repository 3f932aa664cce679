"""Labelling started from the page: whether that is possible, what it would cost, and the job."""

from __future__ import annotations

from fastapi import APIRouter

from backend.dependencies import OwnerDep, RunDep, WorkshopDep
from backend.errors import responses
from backend.job_schemas import Job
from backend.labelling_schemas import LabelEstimate, Labelling, LabelRequest, LabelStart
from backend.service import labelling

router = APIRouter(tags=["labelling"])
_ERRORS = responses(404, 409, 413, 422, 503)


@router.get("/labelling", responses=responses(422))
def get(workshop: WorkshopDep, owner: OwnerDep) -> Labelling:
    """Which model the page may ask, at what prices, and whether whoever asks this may start it."""
    return labelling.describe(workshop.treasury, owner)


@router.post("/runs/{run}/label-sets:estimate", responses=_ERRORS)
def estimate(run: RunDep, workshop: WorkshopDep, request: LabelRequest, owner: OwnerDep) -> LabelEstimate:
    """What labelling would cost. Sends nothing to the language model. Only for the owner."""
    return labelling.estimate(workshop, run, request, owner)


@router.post("/runs/{run}/label-sets", status_code=202, responses=_ERRORS)
def start(run: RunDep, workshop: WorkshopDep, request: LabelStart, owner: OwnerDep) -> Job:
    """Label and score what was estimated, or go on with a set. Only for the owner; anybody may stop it."""
    return labelling.start(workshop, run, request, owner)
