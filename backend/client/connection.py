"""Requests to a server, and watching its jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from backend.circuit_schemas import CircuitSnapshot
from backend.client.errors import JobFailedError, raise_refusal
from backend.job_schemas import Job, JobList, JobResult

M = TypeVar("M", bound=BaseModel)
#: Seconds before a stream that was cut is taken up again.
_RECONNECT = 0.5
OnProgress = Callable[[Job], object]
OnSnapshot = Callable[[CircuitSnapshot], object]


class Connection:
    """What the client and everything that it hands out ask through."""

    def __init__(
        self, url: str = "http://127.0.0.1:8642", *, token: str | None = None, timeout: float = 60.0
    ) -> None:
        """``token`` where the server asks for one (it is bound to more than loopback)."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=f"{url.rstrip('/')}/api", headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    # ---- requests ----

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request below /api; raises :class:`ApiError`."""
        answer = self.http.request(method, path, **options)
        raise_refusal(answer)
        return answer

    def read(self, model: type[M], path: str, **parameters: Any) -> M:
        """GET as a wire model; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return model.model_validate_json(self.request("GET", path, params=given).content)

    def send(self, model: type[M], method: str, path: str, body: BaseModel | Mapping[str, Any]) -> M:
        content = body.model_dump(mode="json") if isinstance(body, BaseModel) else dict(body)
        return model.model_validate_json(self.request(method, path, json=content).content)

    # ---- jobs ----

    def jobs(self) -> list[Job]:
        """Newest first."""
        return self.read(JobList, "/jobs").jobs

    def job(self, job_id: str) -> Job:
        return self.read(Job, f"/jobs/{job_id}")

    def cancel(self, job_id: str) -> Job:
        """Stop the computation itself."""
        return Job.model_validate_json(self.request("DELETE", f"/jobs/{job_id}").content)

    def wait(
        self, job: Job, progress: OnProgress | None = None, snapshot: OnSnapshot | None = None
    ) -> JobResult:
        """The result of a job, watched until its end; a stream that is cut is taken up where it was.

        Whatever ``progress`` or ``snapshot`` raises, and Ctrl-C, cancels the computation.
        """
        try:
            while job.state in ("queued", "running"):
                for event in self.events(job.id):
                    if isinstance(event, Job):
                        job = event
                        if progress is not None:
                            progress(job)
                    elif snapshot is not None:
                        snapshot(event)
        except BaseException:
            if job.state in ("queued", "running"):
                self.cancel(job.id)
            raise
        if job.result is None:
            raise JobFailedError(job)
        return job.result

    def events(self, job_id: str) -> Iterator[Job | CircuitSnapshot]:
        """What the server tells of a job, until its end."""
        last = ""
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                with self.http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
                    if not answer.is_success:
                        answer.read()
                    raise_refusal(answer)
                    if answer.status_code == 204:
                        return
                    for number, name, data in _server_sent(answer.iter_lines()):
                        last = number
                        yield (CircuitSnapshot if name == "snapshot" else Job).model_validate_json(data)
                        if name == "end":
                            return
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout):
                pass
            time.sleep(_RECONNECT)  # the next request shows whether the server is still there


def _server_sent(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """(id, name, data) of server-sent events."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields.get("id", ""), fields.get("event", "message"), fields.get("data", "")
            fields = {}
