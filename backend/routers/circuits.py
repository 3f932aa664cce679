"""Sparse circuits: causal importance optimised for one prompt."""

from __future__ import annotations

from fastapi import APIRouter

from backend.circuit_schemas import Circuit, CircuitList, CircuitRequest
from backend.dependencies import IdParam, WorkshopDep
from backend.errors import responses
from backend.job_schemas import Job
from backend.service import circuits

router = APIRouter(tags=["circuits"])
_ERRORS = responses(404, 409, 422, 503)


@router.post("/graphs/{id}/circuits", status_code=202, responses=responses(404, 409, 413, 422, 503))
def compute(workshop: WorkshopDep, id: IdParam, request: CircuitRequest) -> Job:  # noqa: A002 (the path's name)
    """Optimise one circuit for each coefficient; the job's events show how it goes."""
    return circuits.request(workshop, id, request)


@router.get("/graphs/{id}/circuits", name="list", responses=_ERRORS)
def list_all(workshop: WorkshopDep, id: IdParam) -> CircuitList:  # noqa: A002
    """The circuits of a graph's prompt."""
    return circuits.list_circuits(workshop, id)


@router.get("/circuits/{id}", responses=_ERRORS)
def get(workshop: WorkshopDep, id: IdParam) -> Circuit:  # noqa: A002
    """One circuit. It is opened by asking for a graph with its id as circuit_id."""
    return circuits.get(workshop, id)


@router.delete("/circuits/{id}", status_code=204, responses=_ERRORS)
def delete(workshop: WorkshopDep, id: IdParam) -> None:  # noqa: A002
    """Delete a circuit with the graphs that were computed from it."""
    circuits.delete(workshop, id)
