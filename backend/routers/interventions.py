"""Interventions on a graph: forward passes with chosen nodes, and checks of single edges."""

from __future__ import annotations

from fastapi import APIRouter, Request

from backend.dependencies import IdParam, WorkshopDep
from backend.errors import responses
from backend.intervention_schemas import (
    EdgeCheck,
    EdgeCheckRequest,
    Intervention,
    InterventionList,
    InterventionRequest,
)
from backend.job_schemas import Job
from backend.service import interventions

router = APIRouter(tags=["interventions"])
_ERRORS = responses(404, 409, 422, 503)


@router.post("/graphs/{id}/interventions", status_code=202, responses=responses(404, 409, 413, 422, 503))
def compute(workshop: WorkshopDep, id: IdParam, request: InterventionRequest) -> Job:  # noqa: A002
    """Predictions with the selected components in each regime, and with single nodes changed."""
    return interventions.request(workshop, id, request)


@router.get("/graphs/{id}/interventions", name="list", responses=_ERRORS)
def list_all(workshop: WorkshopDep, id: IdParam) -> InterventionList:  # noqa: A002
    """All interventions on a graph."""
    return interventions.list_interventions(workshop, id)


@router.get("/interventions/{id}", responses=_ERRORS)
def get(workshop: WorkshopDep, id: IdParam) -> Intervention:  # noqa: A002
    """One intervention."""
    return interventions.get(workshop, id)


@router.delete("/interventions/{id}", status_code=204, responses=_ERRORS)
def delete(workshop: WorkshopDep, id: IdParam) -> None:  # noqa: A002
    """Delete an intervention."""
    interventions.delete(workshop, id)


@router.post("/graphs/{id}/edges:check", responses=responses(404, 409, 413, 422, 503))
async def check_edge(
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    request: EdgeCheckRequest,
    connection: Request,
) -> EdgeCheck:
    """Perturb the source and compare what the edge predicts with what happens to the target."""
    return await interventions.check_edge(workshop, id, request, connection.is_disconnected)
