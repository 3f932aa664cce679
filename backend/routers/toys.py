"""Toy runs: decomposed models of features instead of tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from backend.dependencies import KeyParam, KParam, RunDep, WorkshopDep
from backend.errors import responses
from backend.keys import SiteText
from backend.service import toys
from backend.toy_schemas import (
    MAX_INPUT,
    ToyAnswer,
    ToyComponent,
    ToyDescription,
    ToyEvaluation,
    ToyOrder,
    ToyRequest,
    ToyResponse,
)
from compute.toys.config import MAX_FEATURES, STANDARD_VALUE

router = APIRouter(prefix="/runs/{run}/toy", tags=["toys"])
_ERRORS = responses(404, 409, 413, 422, 503)
ValueParam = Annotated[
    float,
    Query(ge=-MAX_INPUT, le=MAX_INPUT, allow_inf_nan=False, description="What the one feature is set to"),
]


@router.get("", responses=responses(404, 409, 422))
def get(run: RunDep) -> ToyDescription:
    """What a toy run's model is: its sizes, its matrices, what it was trained on and for."""
    return toys.describe(run)


@router.get("/matrices/{site}", responses=_ERRORS)
async def response(
    run: RunDep,
    workshop: WorkshopDep,
    site: Annotated[SiteText, Path()],
    connection: Request,
    value: ValueParam = STANDARD_VALUE,
    order: Annotated[ToyOrder, Query(description="Of the components")] = "expected",
    first_feature: Annotated[int, Query(ge=0, le=MAX_FEATURES)] = 0,
    features: Annotated[int, Query(ge=1, le=1000, description="How many features")] = 500,
    components: Annotated[
        int, Query(ge=1, le=10_000, description="How many components, the first in the order")
    ] = 1000,
) -> ToyResponse:
    """Causal importances and activations of a matrix's components to one feature at a time."""
    window = toys.Window(first_feature, features, components)
    return await toys.response(workshop, run, site, value, order, window, connection.is_disconnected)


@router.get("/components/{key}", responses=_ERRORS)
async def component(
    run: RunDep,
    workshop: WorkshopDep,
    key: KeyParam,
    connection: Request,
    value: ValueParam = STANDARD_VALUE,
    k: KParam = 10,
) -> ToyComponent:
    """What a component reads and writes, which features it answers to, and what it goes with by weights."""
    return await toys.component(workshop, run, key, value, k, connection.is_disconnected)


@router.get("/evaluation", responses=_ERRORS)
async def evaluation(
    run: RunDep, workshop: WorkshopDep, connection: Request, value: ValueParam = STANDARD_VALUE
) -> ToyEvaluation:
    """Errors of the outputs, of the weights, and against the known solution."""
    return await toys.evaluate(workshop, run, value, connection.is_disconnected)


@router.post("/answers", responses=_ERRORS)
async def answer(run: RunDep, workshop: WorkshopDep, request: ToyRequest, connection: Request) -> ToyAnswer:
    """Outputs, importances and activations for any inputs."""
    return await toys.answer_inputs(workshop, run, request, connection.is_disconnected)
