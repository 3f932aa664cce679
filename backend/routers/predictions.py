"""Next-token probabilities of a text that need not be kept."""

from __future__ import annotations

from fastapi import APIRouter, Request

from backend.dependencies import RunDep, WorkshopDep
from backend.errors import responses
from backend.prompt_schemas import PredictionRequest, Predictions
from backend.service import predictions

router = APIRouter(prefix="/runs/{run}", tags=["predictions"])


@router.post("/predictions", responses=responses(404, 409, 413, 422, 503))
async def predict(
    run: RunDep, workshop: WorkshopDep, request: PredictionRequest, connection: Request
) -> Predictions:
    """The target model's most probable next tokens, and a search among them by text."""
    return await predictions.predict(workshop, run, request, connection.is_disconnected)
