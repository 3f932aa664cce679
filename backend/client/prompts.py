"""Prompts of a run, what follows them, and their graphs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from backend.client.bodies import TextOrIds, settings_of, source
from backend.client.connection import Connection, OnProgress
from backend.client.graph import Graph
from backend.client.part import RunPart
from backend.graph_schemas import GraphEstimate, GraphList, GraphSettings, GraphSummary, PromptDetail
from backend.job_schemas import Job
from backend.prompt_schemas import Predictions, PromptList
from backend.prompt_schemas import Prompt as PromptModel
from backend.schemas import OpeningList


@dataclass
class Prompt:
    """A prompt that is kept. ``model`` is what the server says of it."""

    _client: Connection = field(repr=False)
    model: PromptModel

    @property
    def id(self) -> int:
        return self.model.id

    @property
    def tokens(self) -> list[str]:
        return self.model.tokens

    @property
    def token_ids(self) -> list[int]:
        return self.model.token_ids

    @property
    def _run(self) -> str:
        return f"/runs/{self.model.run}"

    def rename(self, title: str) -> None:
        path = f"{self._run}/prompts/{self.id}"
        self.model = self._client.send(PromptModel, "PATCH", path, {"title": title})

    def delete(self) -> None:
        """With its graphs, circuits, interventions, pins and notes."""
        self._client.request("DELETE", f"{self._run}/prompts/{self.id}")

    def predict(
        self, *, k: int = 10, positions: Literal["last", "all"] = "last", q: str | None = None
    ) -> Predictions:
        return _predictions(self._client, self._run, self.token_ids, k, positions, q)

    def graphs(self) -> list[GraphSummary]:
        """Newest first."""
        return self._client.read(PromptDetail, f"{self._run}/prompts/{self.id}").graphs

    def estimate(self, settings: GraphSettings | None = None, **options: Any) -> GraphEstimate:
        """How large a graph would be; settings as in :meth:`graph`."""
        body = {"prompt_id": self.id, "settings": settings_of(settings, options)}
        return self._client.send(GraphEstimate, "POST", f"{self._run}/graphs:estimate", body)

    def graph(
        self,
        settings: GraphSettings | None = None,
        *,
        circuit_id: int | None = None,
        title: str = "",
        progress: OnProgress | None = None,
        **options: Any,
    ) -> Graph:
        """Compute a graph and wait for it, or take the stored one of the same settings.

        Settings as a :class:`GraphSettings` or by name: ``delta``, ``alive_above``, ``max_edges`` …
        """
        job = self.start_graph(settings, circuit_id=circuit_id, title=title, **options)
        result = self._client.wait(job, progress)
        assert result.graph_id is not None
        return Graph.open(self._client, result.graph_id)

    def start_graph(
        self,
        settings: GraphSettings | None = None,
        *,
        circuit_id: int | None = None,
        title: str = "",
        **options: Any,
    ) -> Job:
        """As :meth:`graph` without waiting; ``client.wait`` and ``client.cancel`` take the job."""
        body = {
            "prompt_id": self.id,
            "settings": settings_of(settings, options),
            "circuit_id": circuit_id,
            "title": title,
        }
        return self._client.send(Job, "POST", f"{self._run}/graphs", body)


class PromptsOfRun(RunPart):
    """Prompts, predictions and graphs of a run."""

    def openings(self, n: int = 4) -> OpeningList:
        """How some of the run's own documents begin."""
        return self._client.read(OpeningList, f"{self._path}/openings", n=n)

    def prompts(self) -> list[Prompt]:
        """Newest first."""
        found = self._client.read(PromptList, f"{self._path}/prompts").prompts
        return [Prompt(self._client, prompt) for prompt in found]

    def prompt(self, text: TextOrIds, title: str = "") -> Prompt:
        """Keep a prompt; the one of the same tokens where it is there already."""
        body = source(text) | {"title": title}
        return Prompt(self._client, self._client.send(PromptModel, "POST", f"{self._path}/prompts", body))

    def predict(
        self,
        text: TextOrIds,
        *,
        k: int = 10,
        positions: Literal["last", "all"] = "last",
        q: str | None = None,
    ) -> Predictions:
        """Most probable next tokens; with ``q`` only those whose text contains it."""
        return _predictions(self._client, self._path, text, k, positions, q)

    def graphs(self) -> list[GraphSummary]:
        """Newest first; ``client.graph(id)`` opens one."""
        return self._client.read(GraphList, f"{self._path}/graphs").graphs

    def import_graph(self, document: Path | bytes | Mapping[str, Any]) -> Graph:
        """Read back what :meth:`Graph.export` wrote."""
        if isinstance(document, Path):
            content = document.read_bytes()
        else:
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
        answer = self._client.request(
            "POST",
            f"{self._path}/graphs:import",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        return Graph.open(self._client, GraphSummary.model_validate_json(answer.content).id)


def _predictions(
    client: Connection, run: str, text: TextOrIds, k: int, positions: Literal["last", "all"], q: str | None
) -> Predictions:
    body = source(text) | {"k": k, "positions": positions, "q": q}
    return client.send(Predictions, "POST", f"{run}/predictions", body)
