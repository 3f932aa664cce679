"""What the parts of a run's interface share. Each is about one topic; ``Run`` has them all."""

from __future__ import annotations

from backend.client.connection import Connection


class RunPart:
    def __init__(self, client: Connection, name: str) -> None:
        self._client = client
        self.name = name
        self._path = f"/runs/{name}"
