"""What requests are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json

from backend.graph_schemas import CustomTarget, GraphSettings

M = TypeVar("M", bound=BaseModel)
#: A prompt's text, or its token ids exactly.
TextOrIds = str | Sequence[int]


def source(text: TextOrIds) -> dict[str, Any]:
    """A text as requests name it."""
    return {"text": text} if isinstance(text, str) else {"token_ids": [int(token) for token in text]}


def settings_of(settings: GraphSettings | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a graph, complete."""
    base = {} if settings is None else settings.model_dump(mode="json")
    return strictly(GraphSettings, base | dict(options)).model_dump(mode="json")


def strictly(model: type[M], values: Mapping[str, Any]) -> M:
    """What the server would read: tuples count as lists, models as their fields."""
    return model.model_validate_json(to_json(dict(values)))


def logit_difference(name: str, position: int, token_id: int, other_id: int) -> CustomTarget:
    """A target: the logit of one token minus that of another at the same position."""
    return CustomTarget.model_validate(
        {
            "name": name,
            "terms": [
                {"position": position, "token_id": token_id, "weight": 1.0},
                {"position": position, "token_id": other_id, "weight": -1.0},
            ],
        }
    )
