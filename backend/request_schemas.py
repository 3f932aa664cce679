"""What the bodies of requests are made of: their base, and numbers and texts within their limits.

Everything sent to the server is checked strictly: a body of the wrong types is refused, not converted.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field

from backend.schemas import Schema

#: Characters of a prompt's text; the run's context is always far shorter.
MAX_TEXT = 200_000
MAX_IDS = 100_000
#: Nodes in one selection, group or list of pins.
MAX_NODES = 100_000

Id = Annotated[int, Field(ge=1, lt=2**63)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
#: Attention costs the square of a prompt's length; positions are stored in 16 bits.
Position = Annotated[int, Field(ge=0, lt=2**15)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[
    str, Field(min_length=1, max_length=MAX_TEXT, description="Tokenised with the run's own tokenizer")
]
TokenIds = Annotated[
    list[TokenId], Field(min_length=1, max_length=MAX_IDS, description="Used exactly as given")
]
Title = Annotated[str, Field(max_length=200)]
Note = Annotated[str, Field(max_length=20_000)]


class Body(Schema):
    """What is sent to the server."""

    model_config = ConfigDict(strict=True)


def _source(value: Any) -> str | None:
    """Which of the alternatives a request uses to name its prompt."""
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return next((name for name in ("prompt_id", "text", "token_ids") if name in given), None)


#: The tag of an alternative is its field, so that an error names no more than the field.
BY_SOURCE = Discriminator(
    _source, custom_error_type="no_prompt", custom_error_message="give a text or token_ids"
)
BY_SOURCE_OR_ID = Discriminator(
    _source, custom_error_type="no_prompt", custom_error_message="give a prompt_id, a text or token_ids"
)
