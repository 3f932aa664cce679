"""Wire models of interventions on a graph, and of checks of its edges. As in schemas.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from backend.keys import NodeKeyText
from backend.prompt_schemas import PositionPredictions
from backend.request_schemas import MAX_NODES, Body, Finite
from backend.schemas import Schema, Token

Regime = Literal["ci", "stochastic", "adversarial", "target_sans"]


class Adversary(Body):
    steps: Annotated[int, Field(ge=1, le=1000)] = 4
    step_size: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0


class NodeChange(Body):
    key: NodeKeyText = Field(description="A component, delta, bias, embedding or learned position")
    factor: Finite = Field(description="What it contributes is multiplied by this; 0 ablates")


class InterventionRequest(Body):
    """Forward passes with a chosen node set in each regime, and one with single nodes changed."""

    selected: Annotated[list[NodeKeyText], Field(max_length=MAX_NODES)] = Field(default=[])
    regimes: Annotated[list[Regime], Field(max_length=4)] = Field(default=[])
    changes: Annotated[list[NodeChange], Field(max_length=1000)] = Field(default=[])
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    adversary: Adversary = Adversary()


class ChangedToken(Schema):
    token_id: int
    text: str
    probability: float
    logit: float
    probability_before: float
    logit_before: float


class ChangedPredictions(Schema):
    position: int
    top: list[ChangedToken] = Field(description="Most probable first")


class Intervention(Schema):
    """What was asked, and what it did. ``after`` and ``kl`` are by regime, and by ``changes``."""

    id: int
    graph_id: int
    run: str
    selected: list[str]
    regimes: list[Regime]
    changes: list[NodeChange]
    seed: int
    adversary: Adversary
    ignored: int = Field(description="Selected nodes that are no components; nothing can be done to them")
    tokens: list[Token]
    before: list[PositionPredictions] = Field(description="Of the target model, at each position")
    after: dict[str, list[ChangedPredictions]]
    kl: dict[str, list[float]] = Field(
        description="Divergence from the target model at each position, in nats"
    )
    seconds: float = Field(description="The computation took")
    peak_bytes: int
    created: str


class InterventionList(Schema):
    interventions: list[Intervention] = Field(description="Newest first")
    seconds: float


class EdgeCheckRequest(Body):
    source: NodeKeyText
    target: NodeKeyText
    epsilon: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.01


class EdgeCheck(Schema):
    """The source's activation was scaled by 1 + ε; what the edge predicts, and what happened."""

    source: str
    target: str
    epsilon: float
    predicted: float = Field(description="Change of the target: ε times the edge's attr")
    actual: float = Field(description="Change with every other cut point held: direct paths only")
    total: float = Field(description="Change with nothing held: all paths")
    before: float
    after: float
    seconds: float
    peak_bytes: int
