"""The graph database: prompts, graphs, sparse circuits, interventions and workspaces in one SQLite file.

What people call components lies in the same file and is asked for through ``labels``.

Several threads and several processes may use one file at once. Whatever a method confirmed by returning
survives a crash. Methods take and return the plain values of ``storage.graph_records``.

Raises, from ``storage.errors``: ``UnknownRecordError`` for an id that names nothing, ``ConflictError``
for a workspace that someone else has saved since, ``DatabaseBusyError`` where others kept the file
locked for longer than the busy timeout, ``DatabaseDamagedError`` for a file or a column that is not
what was written, ``DatabaseVersionError`` for a file of a newer program, ``DatabaseError`` for what
the file system refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from sqlalchemy import Connection, Table, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.database import Database, Journal
from storage.errors import ConflictError, InvalidValueError, StorageError, UnknownRecordError
from storage.graph_records import (
    CircuitRecord,
    Columns,
    GraphRecord,
    GraphStatus,
    Group,
    InterventionRecord,
    JsonObject,
    Note,
    PromptRecord,
    StoredAmount,
    Workspace,
)
from storage.graph_rows import (
    GRAPHS,
    PROMPTS,
    Parts,
    StoredPart,
    as_object,
    circuit_record,
    digest,
    graph_record,
    group_members,
    intervention_record,
    json_text,
    now,
    one_length,
    prompt_record,
    sealed,
    unknown,
)
from storage.graph_schema import circuits, graphs, groups, interventions, notes, pins, prompts, workspaces
from storage.journal import Mode
from storage.label_sets import LabelSets
from storage.labels import LabelStore


class GraphDatabase:
    """One file. Safe to share between threads; every process opens its own."""

    def __init__(self, path: Path, journal: Journal = "auto", *, busy_timeout: float = 30.0) -> None:
        """Open the file, make it if there is none, bring an older one up to date."""
        self._database = Database(path, journal, busy_timeout)
        #: What people call components.
        self.labels = LabelStore(self._database)
        #: What language models call them.
        self.label_sets = LabelSets(self._database)

    @property
    def path(self) -> Path:
        return self._database.path

    @property
    def journal(self) -> Mode:
        """What was chosen."""
        return self._database.mode

    @property
    def journal_reason(self) -> str:
        return self._database.mode_reason

    def close(self) -> None:
        self._database.close()

    # ---- prompts --------------------------------------------------------------------------------

    def add_prompt(
        self, run: str, run_digest: str, token_ids: Sequence[int], text: str, title: str = ""
    ) -> tuple[PromptRecord, bool]:
        """The prompt, and whether it is new. One that exists keeps its text and title."""
        tokens = json_text([int(token) for token in token_ids])
        key = {"run": run, "run_digest": run_digest, "token_digest": digest(tokens)}
        with self._database.write() as connection:
            found = connection.execute(PROMPTS.filter_by(**key)).mappings().one_or_none()
            if found is not None:
                return prompt_record(found), False
            values = key | {"token_ids": tokens, "text": text, "title": title, "created": now()}
            ident = _insert(connection, prompts, values)
            return prompt_record(connection.execute(PROMPTS.filter_by(id=ident)).mappings().one()), True

    def prompts(self, run: str, run_digest: str) -> list[PromptRecord]:
        """Newest first."""
        query = PROMPTS.filter_by(run=run, run_digest=run_digest).order_by(prompts.c.id.desc())
        with self._database.read() as connection:
            return [prompt_record(row) for row in connection.execute(query).mappings()]

    def prompt(self, prompt_id: int) -> PromptRecord:
        with self._database.read() as connection:
            row = connection.execute(PROMPTS.filter_by(id=prompt_id)).mappings().one_or_none()
            if row is None:
                raise unknown(prompts, prompt_id)
            return prompt_record(row)

    def rename_prompt(self, prompt_id: int, title: str) -> PromptRecord:
        self._update(prompts, prompt_id, {"title": title})
        return self.prompt(prompt_id)

    def delete_prompt(self, prompt_id: int) -> None:
        """With its graphs, circuits, interventions and workspaces."""
        self._delete(prompts, prompt_id)

    def stale(self, run: str, run_digest: str) -> StoredAmount:
        """What is stored of earlier makings of a run, which no list shows."""
        with self._database.read() as connection:
            return _stale(connection, run, run_digest)

    def purge_stale(self, run: str, run_digest: str) -> StoredAmount:
        """Delete that; says how much it was."""
        with self._database.write() as connection:
            found = _stale(connection, run, run_digest)
            connection.execute(
                delete(prompts).where(prompts.c.run == run, prompts.c.run_digest != run_digest)
            )
            return found

    # ---- graphs ---------------------------------------------------------------------------------

    def find_graph(
        self, prompt_id: int, settings: JsonObject, circuit_id: int | None = None
    ) -> GraphRecord | None:
        """The graph of equal settings (as canonical JSON), if there is one."""
        settings_digest = digest(json_text(settings))
        with self._database.read() as connection:
            return _find_graph(connection, prompt_id, settings_digest, circuit_id)

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
        parts = Parts({"nodes": nodes, "edges": edges})
        settings_text = json_text(settings)
        settings_digest = digest(settings_text)
        values = {
            "prompt_id": prompt_id,
            "circuit_id": circuit_id,
            "settings": settings_text,
            "settings_digest": settings_digest,
            "provenance": json_text(provenance),
            "summary": json_text(summary),
            "columns": parts.description,
            "status": status,
            "n_nodes": one_length("nodes", nodes),
            "n_edges": one_length("edges", edges),
            "bytes": parts.bytes,
            "title": title,
            "note": note,
        }
        with self._database.write() as connection:
            _need(connection, prompts, prompt_id)
            if circuit_id is not None:
                owner = select(circuits.c.prompt_id).where(circuits.c.id == circuit_id)
                if connection.execute(owner).scalar_one_or_none() != prompt_id:
                    raise UnknownRecordError(
                        f"prompt {prompt_id} has no circuit {circuit_id}", "it may have been deleted"
                    )
            found = _find_graph(connection, prompt_id, settings_digest, circuit_id)
            if found is not None:
                return found
            ident = _insert(connection, graphs, sealed(graphs, values))
            parts.insert(connection, graphs, ident)
            return graph_record(connection.execute(GRAPHS.where(graphs.c.id == ident)).mappings().one())

    def graph(self, graph_id: int) -> GraphRecord:
        with self._database.read() as connection:
            row = connection.execute(GRAPHS.where(graphs.c.id == graph_id)).mappings().one_or_none()
            if row is None:
                raise unknown(graphs, graph_id)
            return graph_record(row)

    def graphs(self, prompt_id: int) -> list[GraphRecord]:
        """Newest first."""
        query = GRAPHS.where(graphs.c.prompt_id == prompt_id).order_by(graphs.c.id.desc())
        with self._database.read() as connection:
            _need(connection, prompts, prompt_id)
            return [graph_record(row) for row in connection.execute(query).mappings()]

    def run_graphs(self, run: str, run_digest: str) -> list[GraphRecord]:
        """Of all prompts of a run, newest first."""
        query = GRAPHS.where(prompts.c.run == run, prompts.c.run_digest == run_digest)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(graphs.c.id.desc())).mappings()
            return [graph_record(row) for row in rows]

    def graph_nodes(
        self, graph_id: int, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray | list[Any]]:
        """The columns named (default: all); no other is read or decompressed."""
        return self._columns(graphs, graph_id, "nodes", names)

    def graph_edges(self, graph_id: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        return cast("dict[str, np.ndarray]", self._columns(graphs, graph_id, "edges", names))

    def update_graph(self, graph_id: int, title: str | None = None, note: str | None = None) -> GraphRecord:
        """Change what is not None."""
        values = {name: value for name, value in (("title", title), ("note", note)) if value is not None}
        if values:
            self._update(graphs, graph_id, values)
        return self.graph(graph_id)

    def delete_graph(self, graph_id: int) -> None:
        """With its interventions and its workspace."""
        self._delete(graphs, graph_id)

    # ---- workspaces -----------------------------------------------------------------------------

    def workspace(self, graph_id: int) -> Workspace:
        with self._database.read() as connection:
            version = _workspace_version(connection, graph_id)
            pinned, grouped, noted = (
                connection.execute(
                    select(table).where(table.c.graph_id == graph_id).order_by(table.c.place)
                ).all()
                for table in (pins, groups, notes)
            )
        return Workspace(
            version,
            tuple(row.node for row in pinned),
            tuple(Group(row.id, row.name, group_members(row.members)) for row in grouped),
            tuple(Note(row.node, row.text) for row in noted),
        )

    def save_workspace(self, graph_id: int, expected_version: int, workspace: Workspace) -> int:
        """Replace the workspace as a whole; the new version. ``workspace.version`` is not looked at."""
        _only_once("pins", workspace.pins)
        _only_once("groups of id", [group.id for group in workspace.groups])
        _only_once("notes on", [note.key for note in workspace.notes])
        rows: dict[Table, list[dict[str, str]]] = {
            pins: [{"node": node} for node in workspace.pins],
            groups: [
                {"id": group.id, "name": group.name, "members": json_text(list(group.members))}
                for group in workspace.groups
            ],
            notes: [{"node": note.key, "text": note.text} for note in workspace.notes],
        }
        with self._database.write() as connection:
            version = _workspace_version(connection, graph_id)
            if version != expected_version:
                raise ConflictError(
                    f"the workspace of graph {graph_id} was saved by someone else (version {version}, "
                    f"not {expected_version})",
                    "load it again",
                    version,
                )
            values = {"graph_id": graph_id, "version": version + 1}
            connection.execute(
                upsert(workspaces).values(values).on_conflict_do_update(["graph_id"], set_=values)
            )
            for table, entries in rows.items():
                connection.execute(delete(table).where(table.c.graph_id == graph_id))
                if entries:
                    places = [
                        {"graph_id": graph_id, "place": place} | row for place, row in enumerate(entries)
                    ]
                    connection.execute(insert(table), places)
        return version + 1

    # ---- circuits -------------------------------------------------------------------------------

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
        """``summary`` is what lists show, ``result`` all the rest (history).

        ``importance`` are columns as by ``storage.graph_columns.sparse_columns``.
        """
        parts = Parts({"importance": importance, "result": {"result": [result]}})
        values = {
            "prompt_id": prompt_id,
            "settings": json_text(settings),
            "summary": json_text(summary),
            "columns": parts.description,
            "bytes": parts.bytes,
            "title": title,
        }
        with self._database.write() as connection:
            _need(connection, prompts, prompt_id)
            ident = _insert(connection, circuits, sealed(circuits, values))
            parts.insert(connection, circuits, ident)
        return self.circuit(ident)

    def circuit(self, circuit_id: int) -> CircuitRecord:
        with self._database.read() as connection:
            row = connection.execute(select(circuits).filter_by(id=circuit_id)).mappings().one_or_none()
            if row is None:
                raise unknown(circuits, circuit_id)
            return circuit_record(row)

    def circuits(self, prompt_id: int) -> list[CircuitRecord]:
        """Newest first."""
        query = select(circuits).filter_by(prompt_id=prompt_id).order_by(circuits.c.id.desc())
        with self._database.read() as connection:
            _need(connection, prompts, prompt_id)
            return [circuit_record(row) for row in connection.execute(query).mappings()]

    def circuit_result(self, circuit_id: int) -> JsonObject:
        return as_object(self._columns(circuits, circuit_id, "result")["result"])

    def circuit_importance(self, circuit_id: int) -> dict[str, np.ndarray | list[Any]]:
        """As given to :meth:`add_circuit`; ``storage.graph_columns.dense_arrays`` makes arrays [T, C] of it."""
        return self._columns(circuits, circuit_id, "importance")

    def rename_circuit(self, circuit_id: int, title: str) -> CircuitRecord:
        self._update(circuits, circuit_id, {"title": title})
        return self.circuit(circuit_id)

    def delete_circuit(self, circuit_id: int) -> None:
        """With the graphs that were made from it."""
        self._delete(circuits, circuit_id)

    # ---- interventions --------------------------------------------------------------------------

    def add_intervention(
        self, graph_id: int, request: JsonObject, summary: JsonObject, result: JsonObject, *, title: str = ""
    ) -> InterventionRecord:
        """``summary`` is what lists show, ``result`` all the rest."""
        parts = Parts({"result": {"result": [result]}})
        values = {
            "graph_id": graph_id,
            "request": json_text(request),
            "summary": json_text(summary),
            "columns": parts.description,
            "bytes": parts.bytes,
            "title": title,
        }
        with self._database.write() as connection:
            _need(connection, graphs, graph_id)
            ident = _insert(connection, interventions, sealed(interventions, values))
            parts.insert(connection, interventions, ident)
        return self.intervention(ident)

    def intervention(self, intervention_id: int) -> InterventionRecord:
        query = select(interventions).filter_by(id=intervention_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
            if row is None:
                raise unknown(interventions, intervention_id)
            return intervention_record(row)

    def interventions(self, graph_id: int) -> list[InterventionRecord]:
        """Newest first."""
        query = select(interventions).filter_by(graph_id=graph_id).order_by(interventions.c.id.desc())
        with self._database.read() as connection:
            _need(connection, graphs, graph_id)
            return [intervention_record(row) for row in connection.execute(query).mappings()]

    def intervention_result(self, intervention_id: int) -> JsonObject:
        return as_object(self._columns(interventions, intervention_id, "result")["result"])

    def rename_intervention(self, intervention_id: int, title: str) -> InterventionRecord:
        self._update(interventions, intervention_id, {"title": title})
        return self.intervention(intervention_id)

    def delete_intervention(self, intervention_id: int) -> None:
        self._delete(interventions, intervention_id)

    # ---- the whole file -------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Read everything and compare it with its checksums; what is wrong, one sentence each."""
        with self._database.read() as connection:
            pages = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            lost = [row[0] for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
            idents = {
                table: list(connection.execute(select(table.c.id)).scalars())
                for table in (prompts, circuits, graphs, interventions)
            }
        wrong = [] if pages == ["ok"] else pages
        wrong += [f"a row of {table} hangs on nothing" for table in lost]
        for ident in idents[prompts]:
            wrong += _wrong(lambda ident=ident: self.prompt(ident))
        for ident in idents[circuits]:
            wrong += _wrong(lambda ident=ident: self.circuit_importance(ident))
            wrong += _wrong(lambda ident=ident: self.circuit_result(ident))
        for ident in idents[graphs]:
            wrong += _wrong(lambda ident=ident: self.graph_nodes(ident))
            wrong += _wrong(lambda ident=ident: self.graph_edges(ident))
        for ident in idents[interventions]:
            wrong += _wrong(lambda ident=ident: self.intervention_result(ident))
        return wrong + self.labels.verify()

    # ---- common to several tables ---------------------------------------------------------------

    def _columns(
        self, table: Table, ident: int, part: str, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray | list[Any]]:
        with self._database.read() as connection:
            stored = StoredPart(connection, table, ident, part, names)
        return stored.unpack()

    def _update(self, table: Table, ident: int, values: dict[str, str]) -> None:
        with self._database.write() as connection:
            if connection.execute(update(table).where(table.c.id == ident).values(values)).rowcount != 1:
                raise unknown(table, ident)

    def _delete(self, table: Table, ident: int) -> None:
        with self._database.write() as connection:
            if connection.execute(delete(table).where(table.c.id == ident)).rowcount != 1:
                raise unknown(table, ident)


def _insert(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    return int(connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one())


def _need(connection: Connection, table: Table, ident: int) -> None:
    if connection.execute(select(table.c.id).where(table.c.id == ident)).first() is None:
        raise unknown(table, ident)


def _find_graph(
    connection: Connection, prompt_id: int, settings_digest: str, circuit_id: int | None
) -> GraphRecord | None:
    query = GRAPHS.where(
        graphs.c.prompt_id == prompt_id,
        graphs.c.settings_digest == settings_digest,
        graphs.c.circuit_id.is_not_distinct_from(circuit_id),
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else graph_record(row)


def _stale(connection: Connection, run: str, run_digest: str) -> StoredAmount:
    old = (prompts.c.run == run) & (prompts.c.run_digest != run_digest)
    n_prompts = connection.execute(select(func.count()).select_from(prompts).where(old)).scalar_one()
    n_graphs, size = connection.execute(
        select(func.count(), func.coalesce(func.sum(graphs.c.bytes), 0))
        .select_from(graphs)
        .join(prompts, graphs.c.prompt_id == prompts.c.id)
        .where(old)
    ).one()
    return StoredAmount(n_prompts, n_graphs, size)


def _workspace_version(connection: Connection, graph_id: int) -> int:
    _need(connection, graphs, graph_id)
    found = connection.execute(select(workspaces.c.version).where(workspaces.c.graph_id == graph_id))
    return found.scalar_one_or_none() or 0


def _only_once(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidValueError(f"there are two {what} {name[:80]!r}", "name each of them once")
        seen.add(name)


def _wrong(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except StorageError as error:
        return [error.message]
    return []
