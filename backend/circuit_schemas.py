"""Wire models of sparse circuits: the fewest nodes that keep a prediction. As in schemas.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from backend.request_schemas import Body, TokenId
from backend.schemas import Schema


class CircuitRequest(Body):
    """Which prediction to keep, and how hard to press for few nodes."""

    loss: Literal["ce", "kl", "logit"] = "kl"
    position: Annotated[int, Field(ge=-1, lt=2**15)] = Field(
        default=-1, description="Where the prediction is; −1 is the last token"
    )
    token_id: TokenId | None = Field(default=None, description="The token to keep; default the most probable")
    coefficients: Annotated[
        list[Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]], Field(min_length=1, max_length=32)
    ] = Field(default=[0.01, 0.03, 0.1, 0.3])
    steps: Annotated[int, Field(ge=1, le=100_000)] = 300
    learning_rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.05
    p: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] = Field(
        default=1.0, description="Exponent of the penalty on importance"
    )
    masks: Literal["stochastic", "ci"] = "stochastic"
    adversary_steps: Annotated[int, Field(ge=0, le=100)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class CircuitSnapshot(Schema):
    """One entry for each coefficient."""

    step: int
    loss: list[float]
    alive: list[int]
    probability: list[float]


class Circuit(Schema):
    id: int
    graph_id: int = Field(description="The graph it was asked for; 0 where that was deleted")
    prompt_id: int
    run: str
    coefficient: float
    settings: CircuitRequest
    alive: int = Field(description="Components at positions with causal importance above 0")
    loss: float = Field(description="At the chosen position, under the kind of masks that was optimised")
    kl: float = Field(description="From the target model's distribution there, in nats")
    probability: float = Field(description="Of the token that was to be kept")
    kl_alone: float = Field(description="Of the circuit by itself: importances as masks, deltas off")
    probability_alone: float
    history: list[CircuitSnapshot] = Field(description="One entry in each list: this coefficient's")
    graphs: list[int] = Field(description="Graphs that were computed from it")
    seconds: float = Field(description="The whole sweep took")
    peak_bytes: int
    created: str


class CircuitList(Schema):
    circuits: list[Circuit] = Field(description="Newest first")
    seconds: float
