"""Wire models of jobs: what the server computes after it has answered. As in schemas.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backend.schemas import ErrorBody, Schema

JobKind = Literal["graph", "intervention", "circuits", "search_index", "labels"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


class JobResult(Schema):
    graph_id: int | None = None
    intervention_id: int | None = None
    circuit_ids: list[int] | None = None
    search_subrun: str | None = None
    label_set_id: int | None = None
    ended: str | None = Field(
        default=None, description='Of labels: "finished", or "cap" where going on might have cost too much'
    )


class LabellingProgress(Schema):
    """What a labelling has come to; money in the currency of the prices that the server was started with."""

    label_set_id: int
    name: str
    failed: int = Field(description="Questions of this job without an answer that can be used")
    requests: int = Field(description="Sent by this job; as everything here, those of earlier ones left out")
    tokens: int = Field(description="Of prompts and answers; what nobody counted is here at its largest")
    cost: float | None = Field(description="null without prices")
    cap: float | None = Field(description="What this job may spend at most")
    cap_tokens: int | None


class Job(Schema):
    """A computation: waiting, running, or finished and remembered for a while."""

    id: str
    kind: JobKind
    run: str
    state: JobState
    phase: str = Field(description="What it is doing")
    done: int
    total: int = Field(description="Of this phase; 0 where that is not known")
    seconds_left: float | None = Field(description="In this phase, from the rate measured so far")
    seconds: float = Field(description="Computing so far, or in all")
    ahead: int = Field(description="Jobs that are computed before it while it is queued")
    created: str
    error: ErrorBody | None
    result: JobResult | None
    labelling: LabellingProgress | None = Field(default=None, description="Of labels only")


class JobList(Schema):
    jobs: list[Job] = Field(description="Newest first")
    seconds: float
