from __future__ import annotations
from typing import Any, Literal
from backend.errors import ServiceError

Format = Literal["json", "csv"]


def import_graph(*_: Any) -> Any:
    raise ServiceError(503, "not_yet", "This is being built", "Ask again later.")


def export(*_: Any) -> Any:
    raise ServiceError(503, "not_yet", "This is being built", "Ask again later.")
