"""The runs that are served, and what each is."""

from __future__ import annotations

from fastapi import APIRouter

from backend.dependencies import LibraryDep, RunDep
from backend.errors import responses
from backend.run_schemas import RunDetail, RunList
from backend.service.overview import describe, list_runs

router = APIRouter(prefix="/runs", tags=["runs"])


@router.get("", name="list", responses=responses())
def list_all(library: LibraryDep) -> RunList:
    """All runs, newly written ones included; a damaged one is listed with what is wrong."""
    return list_runs(library)


@router.get("/{run}", responses=responses(404, 409, 422))
def get(run: RunDep) -> RunDetail:
    """What a run is, how good its decomposition is, what has been computed, and its provenance."""
    return describe(run)
