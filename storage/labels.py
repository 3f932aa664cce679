"""What people call components: a log of changes, of which each label is the newest state.

A change is never altered or removed, so whatever was written can be found again. Changes belong to
steps, which are what undo takes back: typing in one field without a longer pause is one step, and so is
a whole imported file. An undo or a redo is a change of its own that names the step it is about.

A label belongs to a run by name and digest, as prompts do. Its ``version`` is the id of its newest
change, 0 where there never was one; who changes a label says which version it was read at.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, select, update
from sqlalchemy.engine import RowMapping

from storage.database import Database
from storage.errors import ConflictError, DatabaseDamagedError, StorageError, UnknownRecordError
from storage.graph_rows import now
from storage.graph_schema import label_changes
from storage.label_records import (
    ImportedLabel,
    ImportRecord,
    ImportResult,
    Kind,
    LabelContent,
    LabelHistory,
    LabelRecord,
    StepRecord,
)

#: Seconds between two changes of one field that are one step all the same.
_PAUSE = 10.0
_SEALED = (
    "run",
    "run_digest",
    "key",
    "kind",
    "name",
    "text",
    "rating",
    "author",
    "created",
    "updated",
    "changed_by",
    "changed",
)


class LabelStore:
    """The labels of all runs in one database. Threads may share one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, str], tuple[int, dict[str, LabelRecord]]] = {}

    # ---- reading --------------------------------------------------------------------------------

    def revision(self, run: str, run_digest: str) -> int:
        """Grows with every change of any label of the run; 0 where there was none."""
        with self._database.read() as connection:
            return _revision(connection, _of_run(run, run_digest))

    def labels(self, run: str, run_digest: str) -> tuple[LabelRecord, ...]:
        """All that are not empty, in no order; after the first time only what changed is read."""
        which = _of_run(run, run_digest)
        with self._database.read() as connection:
            revision = _revision(connection, which)
            read, labels = self._known.get((run, run_digest), (0, {}))
            if revision != read:
                # Nothing is ever removed, unless somebody did it past the program.
                labels = dict(labels) if 0 < read < revision else {}
                since = which & (label_changes.c.id > read) if labels else which
                for label in _current(connection, since):
                    if label.content.empty:
                        labels.pop(label.key, None)
                    else:
                        labels[label.key] = label
                self._known[run, run_digest] = (revision, labels)
        return tuple(labels.values())

    def earlier(self, run: str, run_digest: str) -> tuple[LabelRecord, ...]:
        """Those of earlier makings of the run, the newest of each key."""
        old = (label_changes.c.run == run) & (label_changes.c.run_digest != run_digest)
        with self._database.read() as connection:
            return _filled(connection, old)

    def history(self, run: str, run_digest: str, key: str) -> LabelHistory:
        with self._database.read() as connection:
            return _Log.read(connection, run, run_digest, key).history()

    def imports(self, run: str, run_digest: str, limit: int = 10) -> list[ImportRecord]:
        """The last imports, newest first."""
        c = label_changes.c
        with self._database.read() as connection:
            found = connection.execute(
                select(c.step, func.max(c.changed_by), func.max(c.changed), func.count())
                .where(_of_run(run, run_digest), c.kind == "import")
                .group_by(c.step)
                .order_by(c.step.desc())
                .limit(limit)
            ).all()
            newest = _newest(_of_run(run, run_digest)).subquery()
            standing = {
                (int(step), str(kind)): int(count)
                for step, kind, count in connection.execute(
                    select(c.step, c.kind, func.count())
                    .join(newest, newest.c.id == c.id)
                    .where(c.step.in_([row[0] for row in found]))
                    .group_by(c.step, c.kind)
                )
            }
        return [
            ImportRecord(
                step,
                author,
                changed,
                labels,
                standing.get((step, "import"), 0) + standing.get((step, "redo"), 0),
                standing.get((step, "undo"), 0),
            )
            for step, author, changed, labels in found
        ]

    # ---- changing -------------------------------------------------------------------------------

    def save(
        self,
        run: str,
        run_digest: str,
        key: str,
        expected_version: int,
        content: LabelContent,
        author: str,
        *,
        new_step: bool = False,
    ) -> LabelHistory:
        """Say this of the component; what is said already changes nothing.

        With ``new_step`` it never goes on with the step before.
        """
        with self._database.write() as connection:
            log = _Log.read(connection, run, run_digest, key)
            log.check(expected_version)
            if content != log.content:
                row = log.editing(content, author)
                log.add(connection, row | {"step": 0} if new_step else row)
            return log.history()

    def undo(self, run: str, run_digest: str, key: str, expected_version: int, author: str) -> LabelHistory:
        """Take the last step back, whoever made it."""
        with self._database.write() as connection:
            log = _Log.read(connection, run, run_digest, key)
            log.check(expected_version)
            if not log.done:
                raise UnknownRecordError(f"there is nothing to undo on {key}", "it is as it was at first")
            log.add(connection, log.undoing(author))
            return log.history()

    def redo(self, run: str, run_digest: str, key: str, expected_version: int, author: str) -> LabelHistory:
        """Bring the step back that was undone last."""
        with self._database.write() as connection:
            log = _Log.read(connection, run, run_digest, key)
            log.check(expected_version)
            if not log.undone:
                raise UnknownRecordError(
                    f"there is nothing to redo on {key}", "nothing was undone since its last change"
                )
            log.add(connection, log.redoing(author))
            return log.history()

    def add_file(
        self,
        run: str,
        run_digest: str,
        labels: Sequence[ImportedLabel],
        author: str,
        *,
        replace: bool = False,
    ) -> ImportResult:
        """Add the labels of a file as one step; with ``replace`` also where there is another already.

        Each key is there once.
        """
        step, fates = 0, {fate: list[str]() for fate in ("added", "replaced", "kept", "same")}
        with self._database.write() as connection:
            there = {label.key: label.content for label in _current(connection, _of_run(run, run_digest))}
            moment, rows = now(), list[dict[str, Any]]()
            for label in labels:
                old = there.get(label.key, LabelContent())
                if old == label.content:
                    fate = "same"
                elif old.empty:
                    fate = "added"
                else:
                    fate = "replaced" if replace else "kept"
                fates[fate].append(label.key)
                if fate in ("added", "replaced"):
                    times = (label.author, label.created, label.updated, author, moment)
                    rows.append(_row(run, run_digest, label.key, "import", label.content, *times))
            if rows:
                step = _insert(connection, {**rows[0], "step": 0})
                if rows[1:]:
                    connection.execute(insert(label_changes), [{**row, "step": step} for row in rows[1:]])
        return ImportResult(step, *(tuple(keys) for keys in fates.values()))

    def undo_file(self, run: str, run_digest: str, step: int, author: str) -> tuple[list[str], list[str]]:
        """Take an import back; the keys where that was done, and those changed since, which stay."""
        return self._file(run, run_digest, step, author, "undo")

    def redo_file(self, run: str, run_digest: str, step: int, author: str) -> tuple[list[str], list[str]]:
        """Bring an import back that was undone; as :meth:`undo_file`."""
        return self._file(run, run_digest, step, author, "redo")

    def _file(
        self, run: str, run_digest: str, step: int, author: str, kind: Literal["undo", "redo"]
    ) -> tuple[list[str], list[str]]:
        changed, kept = list[str](), list[str]()
        c = label_changes.c
        mine = select(c.key).where(_of_run(run, run_digest), c.step == step, c.kind == "import")
        with self._database.write() as connection:
            rows = connection.execute(
                select(label_changes).where(_of_run(run, run_digest), c.key.in_(mine)).order_by(c.key, c.id)
            ).mappings()
            logs = [
                _Log(run, run_digest, key, list(changes))
                for key, changes in groupby(rows.all(), key=lambda row: str(row["key"]))
            ]
            if not logs:
                raise UnknownRecordError(f"there is no import {step} of {run}", "look at the list of imports")
            new = list[dict[str, Any]]()
            for log in logs:
                if (log.done if kind == "undo" else log.undone)[-1:] != [step]:
                    kept.append(log.key)
                    continue
                new.append(log.undoing(author) if kind == "undo" else log.redoing(author))
                changed.append(log.key)
            if new:
                connection.execute(insert(label_changes), new)
        return changed, kept

    def verify(self) -> list[str]:
        """Compare every change with its checksum; what is wrong, one sentence each."""
        with self._database.read() as connection:
            wrong = list[str]()
            for row in connection.execute(select(label_changes)).mappings():
                try:
                    _checked(row)
                except StorageError as error:
                    wrong.append(error.message)
        return wrong


class _Log:
    """All changes of one label, replayed: ``done`` and ``undone`` are stacks of steps."""

    def __init__(self, run: str, run_digest: str, key: str, rows: Iterable[RowMapping]) -> None:
        self.run, self.run_digest, self.key = run, run_digest, key
        self.done: list[int] = []
        self.undone: list[int] = []
        self.label = LabelRecord(key, LabelContent(), "", "", "", 0)
        #: The last change of kind edit or import of each step: what the step made of the label.
        self._made: dict[int, tuple[LabelRecord, Kind, str, str]] = {}
        self._before: dict[int, LabelContent] = {}
        self._last: tuple[Kind, int, str, str] | None = None
        for row in rows:
            self._take(_checked(row), _label(row))

    @classmethod
    def read(cls, connection: Connection, run: str, run_digest: str, key: str) -> _Log:
        query = (
            select(label_changes)
            .where(_of_run(run, run_digest), label_changes.c.key == key)
            .order_by(label_changes.c.id)
        )
        return cls(run, run_digest, key, connection.execute(query).mappings())

    @property
    def content(self) -> LabelContent:
        return self.label.content

    def _take(self, row: Mapping[str, Any], label: LabelRecord) -> None:
        kind, step = cast("Kind", row["kind"]), int(row["step"])
        try:
            if kind == "undo":
                moved = self.done.pop()
                self.undone.append(moved)
            elif kind == "redo":
                moved = self.undone.pop()
                self.done.append(moved)
            else:
                moved = step
                if self.done[-1:] != [step]:
                    self._before[step] = self.content
                    self.done.append(step)
                self.undone.clear()
                self._made[step] = (label, kind, str(row["changed_by"]), str(row["changed"]))
        except IndexError:
            raise _damaged(row, "it undoes what was not done") from None
        if moved != step:
            raise _damaged(row, "it is about another step than the last one")
        self.label = label
        self._last = (kind, step, str(row["changed_by"]), str(row["changed"]))

    def check(self, expected_version: int) -> None:
        if self.label.version != expected_version:
            other = (self._last[2] if self._last else "") or "someone else"
            raise ConflictError(
                f"the label of {self.key} was changed by {other} since "
                f"(version {self.label.version}, not {expected_version})",
                "look at both and choose",
                self.label.version,
            )

    def _typing(self, content: LabelContent, author: str, moment: str) -> int:
        """The step that a change goes on with; 0 for one that begins a step.

        One person's typing in one field goes on until a longer pause. Taking most of a text away begins
        a step, so that what was there can be had back.
        """
        if self._last is None or self._last[0] != "edit" or self._last[2] != author:
            return 0
        step = self._last[1]
        seconds = (datetime.fromisoformat(moment) - datetime.fromisoformat(self._last[3])).total_seconds()
        fields = _differing(self._before[step], self.content) | _differing(self.content, content)
        if len(fields) != 1 or not 0 <= seconds <= _PAUSE:
            return 0
        field = fields.pop()
        if field == "rating":
            return step
        old, new = getattr(self.content, field), getattr(content, field)
        return step if 2 * len(new) >= len(old) else 0

    def undoing(self, author: str) -> dict[str, Any]:
        """The row that takes the last step back."""
        empty = LabelRecord(self.key, LabelContent(), "", "", "", 0)
        before = self._made[self.done[-2]][0] if len(self.done) > 1 else empty
        return self._again("undo", self.done[-1], before, author)

    def redoing(self, author: str) -> dict[str, Any]:
        """The row that brings the last step back that was undone."""
        step = self.undone[-1]
        return self._again("redo", step, self._made[step][0], author)

    def _again(self, kind: Kind, step: int, state: LabelRecord, author: str) -> dict[str, Any]:
        times = (state.author, state.created, state.updated, author, now())
        return {**_row(self.run, self.run_digest, self.key, kind, state.content, *times), "step": step}

    def editing(self, content: LabelContent, author: str) -> dict[str, Any]:
        """The row that says something else; step 0 where it begins one."""
        moment = now()
        times = (author, moment if self.content.empty else self.label.created, moment, author, moment)
        row = _row(self.run, self.run_digest, self.key, "edit", content, *times)
        return {**row, "step": self._typing(content, author, moment)}

    def add(self, connection: Connection, row: dict[str, Any]) -> None:
        ident = _insert(connection, row)
        row = row | {"id": ident, "step": row["step"] or ident}
        self._take(row, _label(row))

    def history(self) -> LabelHistory:
        steps = {
            step: StepRecord(
                step,
                kind,
                "done" if step in self.done else "undone" if step in self.undone else "passed",
                self._before[step],
                label.content,
                author,
                changed,
            )
            for step, (label, kind, author, changed) in self._made.items()
        }
        return LabelHistory(
            self.label,
            tuple(steps.values()),
            steps[self.done[-1]] if self.done else None,
            steps[self.undone[-1]] if self.undone else None,
        )


def _differing(one: LabelContent, other: LabelContent) -> set[str]:
    return {name for name in ("name", "text", "rating") if getattr(one, name) != getattr(other, name)}


def _of_run(run: str, run_digest: str) -> ColumnElement[bool]:
    return and_(label_changes.c.run == run, label_changes.c.run_digest == run_digest)


def _newest(which: ColumnElement[bool]) -> Select[tuple[int]]:
    """The id of the newest change of each key."""
    return select(func.max(label_changes.c.id).label("id")).where(which).group_by(label_changes.c.key)


def _current(connection: Connection, which: ColumnElement[bool]) -> list[LabelRecord]:
    query = select(label_changes).where(label_changes.c.id.in_(_newest(which)))
    rows = connection.execute(query).mappings()
    return [_label(_checked(row)) for row in rows]


def _revision(connection: Connection, which: ColumnElement[bool]) -> int:
    query = select(func.coalesce(func.max(label_changes.c.id), 0)).where(which)
    return int(connection.execute(query).scalar_one())


def _filled(connection: Connection, which: ColumnElement[bool]) -> tuple[LabelRecord, ...]:
    return tuple(label for label in _current(connection, which) if not label.content.empty)


def _insert(connection: Connection, row: dict[str, Any]) -> int:
    """Write a change, the id of which is its step where it has none."""
    returned = insert(label_changes).values(row).returning(label_changes.c.id)
    ident = int(connection.execute(returned).scalar_one())
    if row["step"] == 0:
        mine = label_changes.c.id == ident
        connection.execute(update(label_changes).where(mine).values({"step": ident}))
    return ident


# ---- rows ---------------------------------------------------------------------------------------


def _row(
    run: str,
    run_digest: str,
    key: str,
    kind: Kind,
    content: LabelContent,
    author: str,
    created: str,
    updated: str,
    changed_by: str,
    changed: str,
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "run": run,
        "run_digest": run_digest,
        "key": key,
        "kind": kind,
        "name": content.name,
        "text": content.text,
        "rating": content.rating,
        "author": author,
        "created": created,
        "updated": updated,
        "changed_by": changed_by,
        "changed": changed,
    }
    return values | {"crc": _seal(values)}


def _seal(values: Mapping[str, Any]) -> int:
    # A half of a character is refused by the database, in its own words.
    text = "\0".join(str(values[name]) for name in _SEALED)
    return zlib.crc32(text.encode(errors="surrogatepass"))


def _checked(row: RowMapping | Mapping[str, Any]) -> Mapping[str, Any]:
    values = cast("Mapping[str, Any]", row)
    if values["crc"] != _seal(values):
        raise _damaged(values, "it does not match its checksum")
    return values


def _damaged(row: Mapping[str, Any], what: str) -> DatabaseDamagedError:
    return DatabaseDamagedError(
        f"change {row['id']} of the label of {row['key']} is damaged: {what}",
        "restore the database from a copy",
    )


def _label(row: Mapping[str, Any] | RowMapping) -> LabelRecord:
    return LabelRecord(
        key=row["key"],
        content=LabelContent(row["name"], row["text"], row["rating"]),
        author=row["author"],
        created=row["created"],
        updated=row["updated"],
        version=row["id"],
    )
