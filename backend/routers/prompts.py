"""Prompts: texts of a run, kept as the tokens that its model sees."""

from __future__ import annotations

from fastapi import APIRouter, Response

from backend.dependencies import IdParam, RunDep, WorkshopDep
from backend.errors import responses
from backend.graph_schemas import PromptDetail
from backend.prompt_schemas import Prompt, PromptList, PromptRequest, PromptUpdate
from backend.service import prompts

router = APIRouter(prefix="/runs/{run}/prompts", tags=["prompts"])
_ERRORS = responses(404, 409, 422, 503)


@router.post(
    "",
    status_code=201,
    responses=responses(404, 409, 413, 422, 503)
    | {200: {"model": Prompt, "description": "It was there already"}},
)
def add(run: RunDep, workshop: WorkshopDep, request: PromptRequest, response: Response) -> Prompt:
    """Keep a prompt. One of the same tokens is there once: it is returned as it is."""
    prompt, created = prompts.add(workshop, run, request)
    response.status_code = 201 if created else 200
    return prompt


@router.get("", name="list", responses=_ERRORS)
def list_all(run: RunDep, workshop: WorkshopDep) -> PromptList:
    """The prompts of a run as it is now; those of a run that was made again are not among them."""
    return prompts.list_prompts(workshop, run)


@router.get("/{id}", responses=_ERRORS)
def get(run: RunDep, workshop: WorkshopDep, id: IdParam) -> PromptDetail:  # noqa: A002 (the path's name)
    """A prompt and its graphs."""
    return prompts.get(workshop, run, id)


@router.patch("/{id}", responses=_ERRORS)
def update(
    run: RunDep,
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    request: PromptUpdate,
) -> Prompt:
    """Give a prompt another title."""
    return prompts.rename(workshop, run, id, request.title)


@router.delete("/{id}", status_code=204, responses=_ERRORS)
def delete(run: RunDep, workshop: WorkshopDep, id: IdParam) -> None:  # noqa: A002
    """Delete a prompt with its graphs, circuits, interventions, pins and notes."""
    prompts.delete(workshop, run, id)
