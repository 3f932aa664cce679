"""Wire models of labelling that is started from the page. As in schemas.py.

An estimate comes first; starting sends back its ``digest``, so that nobody pays for what they have not seen.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from backend.keys import KeyText
from backend.request_schemas import Body, Id
from backend.schemas import Schema

#: Components that one request names.
MAX_KEYS = 50_000
_Money = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
_Tokens = Annotated[int, Field(ge=0, lt=2**53)]


class LabelPrices(Schema):
    """Of a million tokens."""

    prompt: float
    completion: float


class Labelling(Schema):
    """What the server was started to let label components. Without the right, the page only looks at sets."""

    available: bool = Field(description="Whether labels can be made from the page at all")
    owner: bool = Field(description="Whether this request came with the right to start it")
    endpoint: str | None = Field(description="Host and port of the language model's server")
    model: str | None
    prices: LabelPrices | None
    cap: float | None = Field(description="What may be spent from the page, in all")
    cap_tokens: int | None
    cap_left: float | None = Field(description="What is left of it until the server is stopped")
    cap_tokens_left: int | None
    hint: str = Field(description="How to get the right; empty for whoever has it")


class LabelRequest(Body):
    """What is to be labelled. ``go_on`` names a set whose components, strategy and texts are taken."""

    strategy: Literal["evidence", "context"] = "evidence"
    keys: list[KeyText] | None = Field(default=None, min_length=1, max_length=MAX_KEYS)
    top: int = Field(default=100, ge=1, le=MAX_KEYS, description="Without keys: so many, by mean CI")
    max_density: float = Field(
        default=0.1, ge=0, le=1, description="Without keys: none that fires at more of all positions"
    )
    trials: int = Field(default=1, ge=0, le=20, description="Questions of each kind to score a label")
    examples: int = Field(default=12, ge=1, le=60, description="Texts shown of a component")
    name: str | None = Field(default=None, max_length=80, description="Of the set; default of the model")
    go_on: Id | None = None


class LabelStart(LabelRequest):
    """The same as was estimated, with what it may cost at most."""

    estimate: str = Field(max_length=64, description="The digest of its estimate")
    cap: _Money | None = Field(default=None, description="This job must not cost more; needed with prices")
    cap_tokens: _Tokens | None = Field(default=None, description="This job must not take more tokens")


class LabelEstimate(Schema):
    """What is still to be asked, counted on the prompts themselves; answers are guessed."""

    run: str
    name: str
    label_set_id: int | None = Field(description="The set of this name, which is gone on with")
    strategy: Literal["evidence", "context"]
    components: int
    never_fire: int = Field(description="Of the components asked for; they are left out")
    too_dense: int = Field(description="Of larger mean CI than the chosen ones, passed over by max_density")
    requests: int = Field(description="At most, if nothing has to be asked twice")
    prompt_tokens: int
    completion_tokens: int
    cost: float | None = Field(description="At the prices of the server; null without")
    spent: float | None = Field(description="By earlier parts of the set; null without prices")
    spent_tokens: int
    digest: str = Field(description="To be sent back on starting")
    seconds: float
