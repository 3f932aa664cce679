from __future__ import annotations
from typing import Any, Literal
from backend.errors import ServiceError

Format = Literal["json", "csv"]


def request(*_: Any) -> Any:
    raise ServiceError(503, "not_yet", "This is being built", "Ask again later.")


def list_circuits(*_: Any) -> Any:
    raise ServiceError(503, "not_yet", "This is being built", "Ask again later.")


def get(*_: Any) -> Any:
    raise ServiceError(503, "not_yet", "This is being built", "Ask again later.")


def delete(*_: Any) -> Any:
    raise ServiceError(503, "not_yet", "This is being built", "Ask again later.")
