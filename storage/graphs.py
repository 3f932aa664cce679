"""The graph database: prompts, graphs, sparse circuits, interventions and workspaces in one SQLite file.

Several threads and several processes may use one file at once. Whatever a method confirmed by returning
survives a crash. Methods take and return the plain values of ``storage.graph_records``.

Raises, from ``storage.errors``: ``UnknownRecordError`` for an id that names nothing, ``ConflictError``
for a workspace that someone else has saved since, ``DatabaseBusyError`` where others kept the file
locked for longer than the busy timeout, ``DatabaseDamagedError`` for a file or a column that is not
what was written, ``DatabaseVersionError`` for a file of a newer program, ``DatabaseError`` for what
the file system refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from storage.graph_records import (
    CircuitRecord,
    Columns,
    GraphRecord,
    GraphStatus,
    InterventionRecord,
    JsonObject,
    PromptRecord,
    StoredAmount,
    Workspace,
)

Journal = Literal["auto", "wal", "delete"]


class GraphDatabase:
    def __init__(self, path: Path, journal: Journal = "auto", *, busy_timeout: float = 30.0) -> None:
        """Open the file, make it if there is none, bring an older one up to date."""
        raise NotImplementedError

    path: Path
    #: What was chosen: "wal" or "delete".
    journal: Literal["wal", "delete"]
    #: Why, in words.
    journal_reason: str

    def close(self) -> None:
        raise NotImplementedError

    # ---- prompts ----
    def add_prompt(
        self, run: str, run_digest: str, token_ids: Sequence[int], text: str, title: str = ""
    ) -> tuple[PromptRecord, bool]:
        """The prompt, and whether it is new. One that exists keeps its text and title."""
        raise NotImplementedError

    def prompts(self, run: str, run_digest: str) -> list[PromptRecord]:
        """Newest first."""
        raise NotImplementedError

    def prompt(self, prompt_id: int) -> PromptRecord:
        raise NotImplementedError

    def rename_prompt(self, prompt_id: int, title: str) -> PromptRecord:
        raise NotImplementedError

    def delete_prompt(self, prompt_id: int) -> None:
        """With its graphs, circuits, interventions and workspaces."""
        raise NotImplementedError

    def stale(self, run: str, run_digest: str) -> StoredAmount:
        """What is stored of earlier makings of a run, which no list shows."""
        raise NotImplementedError

    def purge_stale(self, run: str, run_digest: str) -> StoredAmount:
        """Delete that; says how much it was."""
        raise NotImplementedError

    # ---- graphs ----
    def find_graph(
        self, prompt_id: int, settings: JsonObject, circuit_id: int | None = None
    ) -> GraphRecord | None:
        """The graph of equal settings (as canonical JSON), if there is one."""
        raise NotImplementedError

    def add_graph(
        self,
        prompt_id: int,
        settings: JsonObject,
        circuit_id: int | None,
        provenance: JsonObject,
        summary: JsonObject,
        nodes: Columns,
        edges: dict[str, np.ndarray],
        *,
        status: GraphStatus = "complete",
        title: str = "",
        note: str = "",
    ) -> GraphRecord:
        """Store a graph as a whole; if another process was first, that one's is returned.

        The arrays of ``nodes`` are equally long, and those of ``edges``; lists in ``nodes`` (such as
        the addresses) have any length.
        """
        raise NotImplementedError

    def graph(self, graph_id: int) -> GraphRecord:
        raise NotImplementedError

    def graphs(self, prompt_id: int) -> list[GraphRecord]:
        """Newest first."""
        raise NotImplementedError

    def run_graphs(self, run: str, run_digest: str) -> list[GraphRecord]:
        """Of all prompts of a run, newest first."""
        raise NotImplementedError

    def graph_nodes(
        self, graph_id: int, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray | list[Any]]:
        """The columns named (default: all); no other is read or decompressed."""
        raise NotImplementedError

    def graph_edges(self, graph_id: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def update_graph(self, graph_id: int, title: str | None = None, note: str | None = None) -> GraphRecord:
        """Change what is not None."""
        raise NotImplementedError

    def delete_graph(self, graph_id: int) -> None:
        """With its interventions and its workspace."""
        raise NotImplementedError

    # ---- workspaces ----
    def workspace(self, graph_id: int) -> Workspace:
        raise NotImplementedError

    def save_workspace(self, graph_id: int, expected_version: int, workspace: Workspace) -> int:
        """Replace the workspace as a whole; the new version. ``workspace.version`` is not looked at."""
        raise NotImplementedError

    # ---- circuits ----
    def add_circuit(
        self,
        prompt_id: int,
        settings: JsonObject,
        summary: JsonObject,
        result: JsonObject,
        importance: Columns,
        *,
        title: str = "",
    ) -> CircuitRecord:
        """``summary`` is what lists show, ``result`` all the rest (history); ``importance`` as by
        ``storage.graph_columns.sparse_columns``."""
        raise NotImplementedError

    def circuit(self, circuit_id: int) -> CircuitRecord:
        raise NotImplementedError

    def circuits(self, prompt_id: int) -> list[CircuitRecord]:
        raise NotImplementedError

    def circuit_result(self, circuit_id: int) -> JsonObject:
        raise NotImplementedError

    def circuit_importance(self, circuit_id: int) -> dict[str, np.ndarray | list[Any]]:
        raise NotImplementedError

    def rename_circuit(self, circuit_id: int, title: str) -> CircuitRecord:
        raise NotImplementedError

    def delete_circuit(self, circuit_id: int) -> None:
        """With the graphs that were made from it."""
        raise NotImplementedError

    # ---- interventions ----
    def add_intervention(
        self, graph_id: int, request: JsonObject, summary: JsonObject, result: JsonObject, *, title: str = ""
    ) -> InterventionRecord:
        raise NotImplementedError

    def intervention(self, intervention_id: int) -> InterventionRecord:
        raise NotImplementedError

    def interventions(self, graph_id: int) -> list[InterventionRecord]:
        raise NotImplementedError

    def intervention_result(self, intervention_id: int) -> JsonObject:
        raise NotImplementedError

    def rename_intervention(self, intervention_id: int, title: str) -> InterventionRecord:
        raise NotImplementedError

    def delete_intervention(self, intervention_id: int) -> None:
        raise NotImplementedError
