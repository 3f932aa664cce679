"""Rows of label sets as records, and the sums over them that several questions share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Integer, Select, case, func, select
from sqlalchemy.engine import RowMapping

from storage.graph_schema import label_items, label_sets, label_trials
from storage.label_records import Attempt, Item, Judge, LabelSet, Trial

#: The stages whose label is the component's own, one for each strategy.
FINAL_STAGES = ("evidence", "unify")
Record = TypeVar("Record", Item, Trial, Attempt)
#: Columns of text that hold JSON.
_JSON = frozenset(("answer", "material", "details", "messages"))


def record(kind: type[Record], row: RowMapping) -> Record:
    """A row as a record, whose fields have the names of the columns."""
    return kind(**{field.name: _value(kind, field.name, row[field.name]) for field in fields(kind)})


def _value(kind: type, name: str, value: Any) -> Any:
    if name == "counted":
        return bool(value)
    # What an attempt was answered is kept word for word.
    if name in _JSON and not (kind is Attempt and name == "answer"):
        return json.loads(value or ("[]" if name == "messages" else "{}"))
    return value


def label_set(row: RowMapping) -> LabelSet:
    return LabelSet(
        id=row["id"],
        run=row["run"],
        run_digest=row["run_digest"],
        name=row["name"],
        strategy=row["strategy"],
        settings=cast("Mapping[str, Any]", json.loads(row["settings"] or "{}")),
        ended=row["ended"],
        created=row["created"],
        judge=Judge(row["judge_model"], row["judge_endpoint"]) if row["judge_model"] else None,
    )


def of_run(run: str, run_digest: str) -> ColumnElement[bool]:
    """The sets of a run as it is now."""
    return (label_sets.c.run == run) & (label_sets.c.run_digest == run_digest)


def final(set_id: int) -> ColumnElement[bool]:
    """The items of a set that have the labels of components."""
    return (label_items.c.set_id == set_id) & label_items.c.stage.in_(FINAL_STAGES)


def how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Rows of which this holds; 0 of no rows."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def total(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The sum of a column; 0 of no rows."""
    return func.coalesce(func.sum(column), 0 if isinstance(column.type, Integer) else 0.0)


def counted(set_id: int) -> Select[Any]:
    """Of every component and kind the columns of :class:`TrialCounts`."""
    of = label_trials.c
    # Counts of trials that are not done are 0.
    return (
        select(
            of.key,
            of.kind,
            *(total(of[name]).label(name) for name in ("hits", "positives", "rejections", "negatives")),
            *(how_many(of.status == status).label(status) for status in ("failed", "impossible")),
        )
        .where(of.set_id == set_id)
        .group_by(of.key, of.kind)
    )
