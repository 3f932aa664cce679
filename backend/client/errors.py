"""What the client raises."""

from __future__ import annotations

import httpx

from backend.job_schemas import Job
from backend.schemas import ErrorBody


class ApiError(Exception):
    """A request that the server refused."""

    def __init__(self, status: int, body: ErrorBody) -> None:
        super().__init__(f"{body.message} ({body.code}). {body.hint}")
        self.status = status
        self.body = body

    @property
    def code(self) -> str:
        return self.body.code


class JobFailedError(Exception):
    """A computation that failed or was cancelled; ``job`` says why."""

    def __init__(self, job: Job) -> None:
        reason = job.error.message if job.error else f"it was {job.state}"
        super().__init__(f"the {job.kind} was not computed: {reason}")
        self.job = job


def raise_refusal(answer: httpx.Response) -> None:
    """Raise what the server said, unless it did as it was asked."""
    if answer.is_success:
        return
    try:
        body = ErrorBody.model_validate_json(answer.content)
    except ValueError:
        body = ErrorBody(code="not_tributary", message=f"{answer.url} answered {answer.status_code}", hint="")
    raise ApiError(answer.status_code, body)
