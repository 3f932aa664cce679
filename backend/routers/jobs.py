"""Jobs: watching and cancelling what takes long."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from backend.circuit_schemas import CircuitSnapshot
from backend.dependencies import JobsDep
from backend.errors import NothingMore, responses
from backend.job_schemas import Job, JobList
from backend.jobs import JobQueue
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
#: Seconds of silence after which a stream says that it is still there.
HEARTBEAT = 15.0
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


class EventStream(StreamingResponse):
    """A stream whose source is closed with it, however it ends.

    The framework's own streams of events raise where a browser leaves while an event is under way.
    """

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes]) -> None:
        # What stands between must not gather events before it passes them on.
        super().__init__(source, headers={"X-Accel-Buffering": "no"})
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._source):
            await super().__call__(scope, receive, send)


async def _written(jobs: JobQueue, job_id: str, after: int) -> AsyncGenerator[bytes]:
    async with aclosing(jobs.follow(job_id, after, HEARTBEAT)) as events:
        async for event in events:
            if event is None:
                yield KEEPALIVE_COMMENT
            else:
                data = event.data.model_dump_json()
                yield format_sse_event(event=event.name, id=str(event.id), data_str=data)


@router.get(
    "/{id}/events",
    status_code=200,
    response_class=EventStream,
    responses=_STREAM_ERRORS
    | {204: {"description": "The job is over and its end was seen: do not ask again"}},
)
async def events(
    jobs: JobsDep,
    id: JobParam,  # noqa: A002
    after: Annotated[int, Depends(_position)],
) -> EventStream:
    """Server-sent events: progress and end carry a Job, snapshot a CircuitSnapshot; ids only grow."""
    return EventStream(_written(jobs, id, after))


#: What the events carry, for the OpenAPI document.
EXTRA_MODELS = (Job, CircuitSnapshot)
#: One event as the document describes it; ``data`` is JSON.
EVENT_SCHEMA = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "snapshot", "end"]},
        "id": {"type": "string"},
        "data": {"type": "string"},
    },
}
