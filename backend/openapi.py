"""Print the OpenAPI document: ``python -m backend.openapi > frontend/openapi.json``."""

from __future__ import annotations

import json

from backend.app import create_app
from backend.settings import Settings


def render() -> str:
    """The document as it is committed; needs no run, no page and no GPU."""
    return json.dumps(create_app(Settings()).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(render(), end="")
