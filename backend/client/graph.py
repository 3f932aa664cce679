"""A graph of a prompt, and what can be asked of it: edges, interventions, circuits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from backend.circuit_schemas import Circuit, CircuitList, CircuitRequest
from backend.client.bodies import strictly
from backend.client.columns import Edges, NodeColumns, read_edges
from backend.client.connection import Connection, OnProgress, OnSnapshot
from backend.client.errors import raise_refusal
from backend.graph_schemas import (
    GraphDetail,
    GraphMetric,
    GraphSummary,
    Group,
    NodeEdges,
    NodeNote,
    Workspace,
)
from backend.intervention_schemas import (
    Adversary,
    EdgeCheck,
    EdgeCheckRequest,
    Intervention,
    InterventionList,
    InterventionRequest,
    NodeChange,
    Regime,
)
from backend.job_schemas import Job


class Graph:
    """A graph that is stored, and what can be done with it. ``detail`` is what the server says of it."""

    def __init__(self, client: Connection, detail: GraphDetail) -> None:
        self._client = client
        self.detail = detail
        self._path = f"/graphs/{detail.id}"

    @classmethod
    def open(cls, client: Connection, graph_id: int) -> Graph:
        return cls(client, client.read(GraphDetail, f"/graphs/{graph_id}"))

    def __repr__(self) -> str:
        tokens = "|".join(token.text for token in self.detail.tokens)
        return f"<graph {self.id} of {tokens!r}: {len(self.nodes):,} nodes, {self.detail.n_edges:,} edges>"

    @property
    def id(self) -> int:
        return self.detail.id

    @cached_property
    def nodes(self) -> NodeColumns:
        nodes, names = self.detail.nodes, {-1: "delta", -2: "bias"}
        keys = [
            f"{self.detail.addresses[site]}:{position}:{names.get(index, index)}"
            for site, position, index in zip(nodes.site, nodes.position, nodes.index, strict=True)
        ]
        columns = {
            name: np.array(getattr(nodes, name), dtype=np.int64)
            if name in ("site", "position", "index")
            else np.array(getattr(nodes, name), dtype=np.float64)
            for name in type(nodes).model_fields
        }
        return NodeColumns(keys, columns, {int(n): text for n, text in self.detail.labels.items()})

    @cached_property
    def edges(self) -> Edges:
        """All stored edges."""
        return self.top_edges(None)

    def top_edges(self, top: int | None, metric: GraphMetric = "attr") -> Edges:
        """Only the strongest, for which the server sends no more."""
        parameters = {"metric": metric} | ({} if top is None else {"top": top})
        return read_edges(
            self._client.request("GET", f"{self._path}/edges", params=parameters).content, self.nodes
        )

    def node_edges(self, key: str, *, metric: GraphMetric = "attr", k: int = 10) -> NodeEdges:
        """The strongest sources and targets of a node."""
        number = self.nodes.number[key]
        return self._client.read(NodeEdges, f"{self._path}/nodes/{number}/edges", metric=metric, k=k)

    def update(self, *, title: str | None = None, note: str | None = None) -> None:
        self._client.send(GraphSummary, "PATCH", self._path, {"title": title, "note": note})
        self.detail = self._client.read(GraphDetail, self._path)

    def delete(self) -> None:
        self._client.request("DELETE", self._path)

    # ---- workspace ----

    def workspace(self) -> Workspace:
        return self._client.read(Workspace, f"{self._path}/workspace")

    def save_workspace(
        self,
        *,
        pins: Sequence[str] | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Workspace:
        """Replace pins, groups (name → keys) or notes (key → text); what is not given stays.

        Raises an :class:`ApiError` of status 409 where somebody else saved at the same moment.
        """
        now = self.workspace()
        ids = {group.name: group.id for group in now.groups}
        wanted = Workspace(
            version=now.version,
            pins=now.pins if pins is None else list(pins),
            groups=now.groups
            if groups is None
            else [
                Group(id=ids.get(name, f"group-{i}-{now.version}"), name=name, members=list(members))
                for i, (name, members) in enumerate(groups.items())
            ],
            notes=now.notes if notes is None else [NodeNote(key=k, text=text) for k, text in notes.items()],
        )
        return self._client.send(Workspace, "PUT", f"{self._path}/workspace", wanted)

    # ---- files ----

    def export(self, path: Path | str, format: Literal["json", "csv"] = "json") -> Path:  # noqa: A002
        """Write the graph to a file: everything as JSON, or its edges as CSV."""
        target = Path(path)
        with (
            self._client.http.stream("GET", f"{self._path}/export", params={"format": format}) as answer,  # pyright: ignore[reportPrivateUsage]
        ):
            if not answer.is_success:
                answer.read()
            raise_refusal(answer)
            with target.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
        return target

    # ---- interventions ----

    def intervene(
        self,
        selected: Sequence[str] = (),
        *,
        regimes: Sequence[Regime] = ("ci", "stochastic", "adversarial", "target_sans"),
        changes: Mapping[str, float] | None = None,
        seed: int = 0,
        adversary_steps: int = 4,
        adversary_step_size: float = 1.0,
        progress: OnProgress | None = None,
    ) -> Intervention:
        """Predictions with the selected nodes in each regime, and with single nodes scaled (key → factor)."""
        request = InterventionRequest(
            selected=list(selected),
            regimes=list(regimes),
            changes=[NodeChange(key=key, factor=factor) for key, factor in (changes or {}).items()],
            seed=seed,
            adversary=Adversary(steps=adversary_steps, step_size=adversary_step_size),
        )
        job = self._client.send(Job, "POST", f"{self._path}/interventions", request)
        result = self._client.wait(job, progress)
        return self._client.read(Intervention, f"/interventions/{result.intervention_id}")

    def ablate(self, *keys: str) -> Intervention:
        """What the target model predicts without these nodes."""
        return self.intervene(regimes=(), changes=dict.fromkeys(keys, 0.0))

    def interventions(self) -> list[Intervention]:
        """Newest first."""
        return self._client.read(InterventionList, f"{self._path}/interventions").interventions

    def delete_intervention(self, intervention_id: int) -> None:
        self._client.request("DELETE", f"/interventions/{intervention_id}")

    def check_edge(self, source: str, target: str, epsilon: float = 0.01) -> EdgeCheck:
        """Perturb the source; compare what the edge predicts with what the target does."""
        request = EdgeCheckRequest(source=source, target=target, epsilon=epsilon)
        return self._client.send(EdgeCheck, "POST", f"{self._path}/edges:check", request)

    # ---- circuits ----

    def find_circuits(
        self,
        coefficients: Sequence[float] | None = None,
        *,
        progress: OnProgress | None = None,
        snapshot: OnSnapshot | None = None,
        **options: Any,
    ) -> list[Circuit]:
        """Optimise one sparse circuit for each coefficient; options as in ``CircuitRequest``."""
        given = options if coefficients is None else options | {"coefficients": list(coefficients)}
        request = strictly(CircuitRequest, given)
        job = self._client.send(Job, "POST", f"{self._path}/circuits", request)
        ids = self._client.wait(job, progress, snapshot).circuit_ids or []
        return [self.circuit(circuit_id) for circuit_id in ids]

    def circuits(self) -> list[Circuit]:
        """Newest first."""
        return self._client.read(CircuitList, f"{self._path}/circuits").circuits

    def circuit(self, circuit_id: int) -> Circuit:
        return self._client.read(Circuit, f"/circuits/{circuit_id}")

    def delete_circuit(self, circuit_id: int) -> None:
        """With the graphs that were computed from it."""
        self._client.request("DELETE", f"/circuits/{circuit_id}")

    def open_circuit(self, circuit_id: int, progress: OnProgress | None = None) -> Graph:
        """The graph of a circuit: same prompt and settings, importance from the circuit."""
        body = {
            "prompt_id": self.detail.prompt_id,
            "circuit_id": circuit_id,
            "settings": self.detail.settings.model_dump(mode="json"),
        }
        job = self._client.send(Job, "POST", f"/runs/{self.detail.run}/graphs", body)
        result = self._client.wait(job, progress)
        assert result.graph_id is not None
        return Graph.open(self._client, result.graph_id)
