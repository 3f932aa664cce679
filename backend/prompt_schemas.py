"""Wire models of prompts and of what the target model expects in them. As in schemas.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from backend.request_schemas import BY_SOURCE, Body, Text, Title, TokenIds
from backend.schemas import Schema

# ---- prompts -------------------------------------------------------------------------------------


class Prompt(Schema):
    """A text as the tokens that the target model sees."""

    id: int
    run: str
    text: str = Field(description="What was typed, or where token ids were given, what they decode to")
    token_ids: list[int]
    tokens: list[str] = Field(description="The text of each token")
    title: str
    created: str
    graphs: int = Field(description="How many graphs it has")
    seconds: float


class PromptOfText(Body):
    text: Text
    title: Title = ""


class PromptOfTokens(Body):
    token_ids: TokenIds
    title: Title = ""


PromptRequest = Annotated[
    Annotated[PromptOfText, Tag("text")] | Annotated[PromptOfTokens, Tag("token_ids")], BY_SOURCE
]


class PromptUpdate(Body):
    title: Title


class PromptList(Schema):
    run: str
    prompts: list[Prompt] = Field(description="Newest first")
    seconds: float


# ---- predictions ---------------------------------------------------------------------------------


class _PredictionOptions(Body):
    k: Annotated[int, Field(ge=1, le=1000, description="How many tokens at each position")] = 10
    positions: Literal["last", "all"] = "last"
    q: Annotated[
        str | None,
        Field(max_length=200, description="Only tokens whose text contains this, most probable first"),
    ] = None


class PredictionsOfText(_PredictionOptions):
    text: Text


class PredictionsOfTokens(_PredictionOptions):
    token_ids: TokenIds


PredictionRequest = Annotated[
    Annotated[PredictionsOfText, Tag("text")] | Annotated[PredictionsOfTokens, Tag("token_ids")], BY_SOURCE
]


class PredictedToken(Schema):
    token_id: int
    text: str
    probability: float
    logit: float


class PositionPredictions(Schema):
    position: int
    top: list[PredictedToken] = Field(description="Most probable first")


class Predictions(Schema):
    """Next-token probabilities of the target model."""

    run: str
    token_ids: list[int]
    tokens: list[str]
    context: int = Field(description="The most tokens this model reads")
    positions: list[PositionPredictions]
    total: int = Field(description="How many tokens match q; all of them without q")
    seconds: float
    peak_bytes: int = Field(description="Most memory that the computation held at once")
