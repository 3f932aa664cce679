"""Jobs: watching and cancelling what takes long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path
from fastapi.sse import EventSourceResponse, ServerSentEvent

from backend.dependencies import JobsDep
from backend.errors import NothingMore, responses
from backend.graph_schemas import CircuitSnapshot, Job, JobList
from backend.service.timing import Stopwatch

router = APIRouter(prefix="/jobs", tags=["jobs"])
_ERRORS = responses(404, 422)

#: Named in full, for the framework would document them as events too.
_STREAM_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": response["description"],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
    }
    for status, response in _ERRORS.items()
}

JobParam = Annotated[str, Path(max_length=100, description="As a request for a computation gave it")]
#: Seconds that a cancellation waits for the computation to have stopped.
_PATIENCE = 2.0


@router.get("", name="list", responses=responses())
def list_all(jobs: JobsDep) -> JobList:
    """Jobs that wait, run, or were finished lately."""
    watch = Stopwatch()
    return JobList(jobs=jobs.list(), seconds=watch.seconds)


@router.get("/{id}", responses=_ERRORS)
def get(jobs: JobsDep, id: JobParam) -> Job:  # noqa: A002 (the path's name)
    """How far a job is, or what came of it."""
    return jobs.get(id)


@router.delete("/{id}", responses=_ERRORS)
async def cancel(jobs: JobsDep, id: JobParam) -> Job:  # noqa: A002
    """Stop the computation itself; one that is over stays as it is."""
    jobs.cancel(id)
    return await jobs.ended(id, _PATIENCE)


def _position(
    jobs: JobsDep,
    id: JobParam,  # noqa: A002
    last_event_id: Annotated[
        str | None, Header(max_length=40, description="Continue after this event")
    ] = None,
) -> int:
    """The event to continue after; refuses before the stream begins."""
    text = last_event_id or ""
    after = int(text) if text.isascii() and text.isdigit() else 0
    if not jobs.has_more(id, after):
        raise NothingMore
    return after


@router.get(
    "/{id}/events",
    response_class=EventSourceResponse,
    responses=_STREAM_ERRORS
    | {204: {"description": "The job is over and its end was seen: do not ask again"}},
)
async def events(
    jobs: JobsDep,
    id: JobParam,  # noqa: A002
    after: Annotated[int, Depends(_position)],
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: progress and end carry a Job, snapshot a CircuitSnapshot; ids only grow."""
    async for event in jobs.follow(id, after):
        yield ServerSentEvent(event=event.name, id=str(event.id), data=event.data)


#: What the events carry, for the OpenAPI document.
EXTRA_MODELS = (Job, CircuitSnapshot)
