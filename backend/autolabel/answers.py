"""Reading answers strictly: one JSON object of the fields that were asked for, or the reason why not."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Parsed = TypeVar("Parsed", bound=BaseModel)


class MalformedAnswerError(Exception):
    """An answer that is not what was asked for."""


class LabelAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    # In this order: a reason that is written after the label only justifies it.
    reasoning: str = Field(max_length=8000)
    label: str = Field(min_length=1, max_length=200)
    confidence: Literal["low", "medium", "high"]

    @field_validator("label")
    @classmethod
    def _one_line(cls, value: str) -> str:
        cleaned = " ".join(value.split()).rstrip(".")
        if not cleaned:
            raise ValueError("the label is empty")
        return cleaned


class ChoiceAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    chosen: list[int] = Field(max_length=200)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of an answer, without what some servers do not understand: lengths, titles."""
    return _plain(model.model_json_schema())


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        dropped = {"title", "maxLength", "minLength", "maxItems", "default"}
        return {key: _plain(value) for key, value in node.items() if key not in dropped}
    return [_plain(item) for item in node] if isinstance(node, list) else node


def parse(text: str, model: type[Parsed]) -> Parsed:
    """The answer in a text; raises :class:`MalformedAnswerError` with a reason that the model can use.

    Around the object only what models are known to add is allowed: their thoughts before it, and a
    fence. An object somewhere in prose might be an example or a quotation, and is not taken.
    """
    body = re.sub(r"^\s*<think>.*?</think>", "", text, count=1, flags=re.DOTALL).strip()
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?\s*```", body, flags=re.DOTALL)
    if fenced:
        body = fenced[1]
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedAnswerError("it is not JSON") from None
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise MalformedAnswerError(f"{where}: {first['msg']}" if where else first["msg"]) from None
