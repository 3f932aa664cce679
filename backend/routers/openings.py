"""Prompts to start from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from backend.dependencies import RunDep
from backend.errors import responses
from backend.schemas import OpeningList
from backend.service.openings import openings

router = APIRouter(prefix="/runs/{run}", tags=["prompts"])


@router.get("/openings", name="openings", responses=responses(404, 409, 422))
def list_openings(run: RunDep, n: Annotated[int, Query(ge=1, le=20)] = 4) -> OpeningList:
    """How some documents of the run's own corpus begin: text that the model can be expected to know."""
    return openings(run, n)
