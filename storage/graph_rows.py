"""Between rows of the graph database and the values of ``storage.graph_records``; both ways checked.

A row's ``crc`` is the CRC-32 of all its fields that never change. Its ``columns`` says of which pieces
each of its columns is made (name → CRC-32 of the pieces' own CRC-32), in the order in which they were
given: a column that is lost or belongs elsewhere is noticed like one that was altered.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, cast

import numpy as np
from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.engine import RowMapping

from storage.errors import DatabaseDamagedError, InvalidValueError, StorageError, UnknownRecordError
from storage.files import canonical_json
from storage.graph_columns import Chunk, ColumnError, pack_all, unpack
from storage.graph_records import (
    CircuitRecord,
    Columns,
    GraphRecord,
    InterventionRecord,
    JsonObject,
    PromptRecord,
)
from storage.graph_schema import chunks, circuits, graphs, interventions, prompts

#: What a row is called in messages.
NAMES = {"prompts": "prompt", "graphs": "graph", "circuits": "circuit", "interventions": "intervention"}
_RESTORE = "delete it and make it again, or restore the database from a copy"
#: The fields of a table that its ``crc`` covers.
_SEALED: dict[str, tuple[str, ...]] = {
    "graphs": (
        "settings",
        "settings_digest",
        "provenance",
        "summary",
        "columns",
        "status",
        "n_nodes",
        "n_edges",
    ),
    "circuits": ("settings", "summary", "columns"),
    "interventions": ("request", "summary", "columns"),
}

GRAPHS = select(graphs, prompts.c.run, prompts.c.run_digest).join(prompts, graphs.c.prompt_id == prompts.c.id)
PROMPTS = select(
    prompts,
    select(func.count()).where(graphs.c.prompt_id == prompts.c.id).scalar_subquery().label("graphs"),
)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def json_text(value: object) -> str:
    """A value as canonical JSON; raises :class:`InvalidValueError` for one that is not JSON."""
    try:
        return canonical_json(value).decode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValueError(f"a value that cannot be stored ({error})") from None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def unknown(table: Table, ident: int) -> UnknownRecordError:
    return UnknownRecordError(f"there is no {NAMES[table.name]} {ident}", "it may have been deleted")


def damaged(table: Table, ident: int, what: str) -> DatabaseDamagedError:
    return DatabaseDamagedError(f"{NAMES[table.name]} {ident} is damaged: {what}", _RESTORE)


# ---- rows ---------------------------------------------------------------------------------------


def _seal(table: Table, values: Mapping[str, Any]) -> int:
    return zlib.crc32("\n".join(str(values[name]) for name in _SEALED[table.name]).encode())


def sealed(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a new row, with their ``crc`` and the time."""
    return values | {"crc": _seal(table, values), "created": now()}


def _checked(table: Table, row: RowMapping) -> None:
    if row["crc"] != _seal(table, cast("Mapping[str, Any]", row)):
        raise damaged(table, row["id"], "it does not match its checksum")


def prompt_record(row: RowMapping) -> PromptRecord:
    if digest(str(row["token_ids"])) != row["token_digest"]:
        raise damaged(prompts, row["id"], "its tokens do not match their checksum")
    return PromptRecord(
        id=row["id"],
        run=row["run"],
        run_digest=row["run_digest"],
        token_ids=tuple(json.loads(row["token_ids"])),
        text=row["text"],
        title=row["title"],
        created=row["created"],
        graphs=row["graphs"],
    )


def graph_record(row: RowMapping) -> GraphRecord:
    _checked(graphs, row)
    return GraphRecord(
        id=row["id"],
        prompt_id=row["prompt_id"],
        run=row["run"],
        run_digest=row["run_digest"],
        circuit_id=row["circuit_id"],
        settings=json.loads(row["settings"]),
        settings_digest=row["settings_digest"],
        provenance=json.loads(row["provenance"]),
        summary=json.loads(row["summary"]),
        status=row["status"],
        n_nodes=row["n_nodes"],
        n_edges=row["n_edges"],
        bytes=row["bytes"],
        title=row["title"],
        note=row["note"],
        created=row["created"],
    )


def circuit_record(row: RowMapping) -> CircuitRecord:
    _checked(circuits, row)
    return CircuitRecord(
        id=row["id"],
        prompt_id=row["prompt_id"],
        settings=json.loads(row["settings"]),
        summary=json.loads(row["summary"]),
        title=row["title"],
        bytes=row["bytes"],
        created=row["created"],
    )


def intervention_record(row: RowMapping) -> InterventionRecord:
    _checked(interventions, row)
    return InterventionRecord(
        id=row["id"],
        graph_id=row["graph_id"],
        request=json.loads(row["request"]),
        summary=json.loads(row["summary"]),
        title=row["title"],
        bytes=row["bytes"],
        created=row["created"],
    )


# ---- columns ------------------------------------------------------------------------------------


class Parts:
    """The compressed columns of a new row, by part; made before its transaction begins."""

    def __init__(self, parts: Mapping[str, Columns]) -> None:
        try:
            self._chunks: dict[str, list[Chunk]] = {name: pack_all(part) for name, part in parts.items()}
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidValueError(f"a column that cannot be stored ({error})") from None

    @property
    def bytes(self) -> int:
        return sum(len(chunk.data) for part in self._chunks.values() for chunk in part)

    @property
    def description(self) -> str:
        """The field ``columns`` of the row. Order matters, so this is not canonical JSON."""
        return json.dumps({part: _pieces(pieces) for part, pieces in self._chunks.items()})

    def insert(self, connection: Connection, table: Table, ident: int) -> None:
        owner = f"{NAMES[table.name]}_id"
        rows = [
            {owner: ident, "part": part, **chunk.__dict__}
            for part, pieces in self._chunks.items()
            for chunk in pieces
        ]
        if rows:
            connection.execute(insert(chunks), rows)


def _pieces(pieces: Sequence[Chunk]) -> dict[str, int]:
    """Column → CRC-32 of the CRC-32 of its pieces."""
    return {
        name: zlib.crc32(np.array([chunk.crc for chunk in column], dtype="<u4").tobytes())
        for name, column in groupby(pieces, key=lambda chunk: chunk.name)
    }


class StoredPart:
    """One part of a row as it lies in the file: read in a transaction, decompressed after it."""

    def __init__(
        self, connection: Connection, table: Table, ident: int, part: str, names: Sequence[str] | None
    ) -> None:
        self._table, self._ident, self._part = table, ident, part
        row = connection.execute(select(table).where(table.c.id == ident)).mappings().one_or_none()
        if row is None:
            raise unknown(table, ident)
        _checked(table, row)
        there: dict[str, int] = json.loads(row["columns"])[part]
        for name in names or ():
            if name not in there:
                raise UnknownRecordError(
                    f"{NAMES[table.name]} {ident} has no column {name[:80]!r}",
                    f"there are {', '.join(there)}",
                )
        self._expected = {name: crc for name, crc in there.items() if names is None or name in names}
        query = (
            select(*(chunks.c[field] for field in ("name", "number", "dtype", "length", "crc", "data")))
            .where(chunks.c[f"{NAMES[table.name]}_id"] == ident, chunks.c.part == part)
            .order_by(chunks.c.name, chunks.c.number)
        )
        if names is not None:
            query = query.where(chunks.c.name.in_(self._expected))
        self._chunks = [Chunk(*row) for row in connection.execute(query)]

    def unpack(self) -> dict[str, np.ndarray | list[Any]]:
        try:
            if _pieces(self._chunks) != self._expected:
                raise ColumnError(f"the pieces of its {self._part} are not those that were written")
            pieces = {
                name: list(column) for name, column in groupby(self._chunks, key=lambda chunk: chunk.name)
            }
            return {name: unpack(pieces[name]) for name in self._expected}
        except StorageError:
            raise
        # Fields of a damaged page can hold anything, a text where a number was written too.
        except (ValueError, TypeError, OverflowError) as error:
            raise damaged(self._table, self._ident, str(error)) from error


def one_length(part: str, columns: Columns) -> int:
    """The common length of the arrays of a part; raises :class:`InvalidValueError` where they differ."""
    lengths = {name: len(values) for name, values in columns.items() if isinstance(values, np.ndarray)}
    if len(set(lengths.values())) > 1:
        raise InvalidValueError(f"the columns of the {part} differ in length: {lengths}")
    return next(iter(lengths.values()), 0)


def group_members(text: str) -> tuple[str, ...]:
    return tuple(str(member) for member in cast("list[Any]", json.loads(text)))


def as_object(column: np.ndarray | list[Any]) -> JsonObject:
    """A JSON object stored as a list of one."""
    return cast("JsonObject", column[0])
