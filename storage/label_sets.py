"""Label sets: labels that a language model gave, every request that was sent for them, and their scores.

A set belongs to a run by name and digest, as prompts do. A request is written down with the most that it
can cost before it is sent, and with what it did cost when it is over: whatever happens between, no
money is forgotten. What failed keeps the reason and is tried again; it never counts as an answer.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.database import Database
from storage.errors import SettingsDifferError, UnknownRecordError
from storage.graph_rows import json_text, now
from storage.graph_schema import label_attempts, label_items, label_sets, label_trials
from storage.label_locks import held
from storage.label_records import (
    Attempt,
    GivenLabel,
    Item,
    ItemStatus,
    Judge,
    LabelSet,
    Progress,
    SetAccuracy,
    Spending,
    Trial,
    TrialCounts,
    TrialKind,
)
from storage.label_rows import FINAL_STAGES, counted, final, how_many, label_set, of_run, record, total


class LabelSets:
    """The label sets of a database. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- sets -----------------------------------------------------------------------------------

    def open_set(
        self,
        run: str,
        run_digest: str,
        name: str,
        strategy: str,
        settings: Mapping[str, Any],
        judge: Judge | None = None,
    ) -> tuple[LabelSet, bool]:
        """The set of this name, and whether it is new.

        Raises :class:`SettingsDifferError` where one of this name was made in another way, or judged by
        another than ``judge``: labels of two ways of asking must not be mixed, nor scores of two judges.
        """
        with self._database.write() as connection:
            found = _find(connection, run, run_digest, name)
            if found is None:
                values = {
                    "run": run,
                    "run_digest": run_digest,
                    "name": name,
                    "strategy": strategy,
                    "settings": json_text(dict(settings)),
                    "created": now(),
                }
                connection.execute(insert(label_sets).values(values))
                found = _find(connection, run, run_digest, name)
                assert found is not None
                return found, True
        self.check(found, strategy, settings, judge)
        return found, False

    def check(
        self, found: LabelSet, strategy: str, settings: Mapping[str, Any], judge: Judge | None = None
    ) -> None:
        """Raises what :meth:`open_set` raises."""
        check_settings(found, strategy, settings)
        if judge is not None:
            with self._database.read() as connection:
                _check_judge(connection, found, judge)

    def judge_by(self, set_id: int, judge: Judge) -> None:
        """Write down who judges the labels; to be called by who is :meth:`working` on the set.

        Raises :class:`SettingsDifferError` once another one has judged a label.
        """
        mine = label_sets.c.id == set_id
        with self._database.write() as connection:
            found = label_set(connection.execute(select(label_sets).where(mine)).mappings().one())
            _check_judge(connection, found, judge)
            values = {"judge_model": judge.model, "judge_endpoint": judge.endpoint}
            connection.execute(update(label_sets).where(mine).values(values))

    def find(self, run: str, run_digest: str, name: str) -> LabelSet | None:
        with self._database.read() as connection:
            return _find(connection, run, run_digest, name)

    def sets(self, run: str, run_digest: str) -> list[LabelSet]:
        """Newest first."""
        query = select(label_sets).where(of_run(run, run_digest))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(label_sets.c.id.desc())).mappings()
            return [label_set(row) for row in rows]

    def get(self, set_id: int) -> LabelSet:
        with self._database.read() as connection:
            row = connection.execute(select(label_sets).filter_by(id=set_id)).mappings().one_or_none()
        if row is None:
            raise UnknownRecordError(f"there is no label set {set_id}", "it may have been deleted")
        return label_set(row)

    def end(self, set_id: int, reason: str) -> None:
        """Say why the work on it stops; empty where it begins again."""
        with self._database.write() as connection:
            connection.execute(update(label_sets).where(label_sets.c.id == set_id).values(ended=reason))

    def delete(self, set_id: int) -> None:
        """With everything that hangs on it. Raises a :class:`StorageError` where somebody works on it."""
        with self.working(set_id), self._database.write() as connection:
            connection.execute(delete(label_sets).where(label_sets.c.id == set_id))

    @contextmanager
    def working(self, set_id: int) -> Generator[None]:
        """Keep all others from working on the set meanwhile: none would know what the other spends."""
        path = self._database.path.absolute()
        with held(path.with_name(f"{path.name}.labelling"), set_id):
            yield

    # ---- items ----------------------------------------------------------------------------------

    def add_items(self, set_id: int, stage: str, keys: Sequence[str]) -> None:
        """Make sure that these are there; what is known of them stays."""
        if not keys:
            return
        rows = [{"set_id": set_id, "stage": stage, "key": key, "status": "pending"} for key in keys]
        with self._database.write() as connection:
            connection.execute(upsert(label_items).on_conflict_do_nothing(), rows)

    def save_item(self, set_id: int, item: Item) -> None:
        values = {
            "status": item.status,
            "label": item.label,
            "answer": json_text(dict(item.answer)),
            "material": json_text(dict(item.material)),
            "error": item.error,
        }
        key = {"set_id": set_id, "stage": item.stage, "key": item.key}
        with self._database.write() as connection:
            connection.execute(
                upsert(label_items)
                .values(key | values)
                .on_conflict_do_update(["set_id", "stage", "key"], set_=values)
            )

    def outline(self, set_id: int) -> list[tuple[str, ItemStatus, str]]:
        """Key, status and label of every component, and nothing of what lies behind them."""
        columns = (label_items.c.key, label_items.c.status, label_items.c.label)
        query = select(*columns).where(final(set_id))
        with self._database.read() as connection:
            return [(key, status, label) for key, status, label in connection.execute(query)]

    def final_items(self, set_id: int, keys: Sequence[str] | None = None) -> dict[str, Item]:
        """What a set says of some components or all, by key."""
        query = select(label_items).where(final(set_id))
        if keys is not None:
            query = query.where(label_items.c.key.in_(keys))
        with self._database.read() as connection:
            return {row["key"]: record(Item, row) for row in connection.execute(query).mappings()}

    def items(self, set_id: int, stage: str | None = None, key: str | None = None) -> list[Item]:
        """In the order in which they were added."""
        query = select(label_items).where(label_items.c.set_id == set_id).order_by(label_items.c.id)
        if stage is not None:
            query = query.where(label_items.c.stage == stage)
        if key is not None:
            query = query.where(label_items.c.key == key)
        with self._database.read() as connection:
            return [record(Item, row) for row in connection.execute(query).mappings()]

    def progress(self, set_id: int) -> Progress:
        status = label_items.c.status
        query = select(func.count(), how_many(status == "done"), how_many(status == "failed")).where(
            final(set_id)
        )
        with self._database.read() as connection:
            components, done, failed = connection.execute(query).one()
        return Progress(components, done, failed)

    def labels(self, run: str, run_digest: str) -> dict[str, GivenLabel]:
        """Key → label, of the newest set that has one for the key."""
        query = (
            select(label_items.c.key, label_items.c.label, label_sets.c.name, label_sets.c.created)
            .join(label_sets, label_items.c.set_id == label_sets.c.id)
            .where(
                of_run(run, run_digest),
                label_items.c.stage.in_(FINAL_STAGES),
                label_items.c.status == "done",
            )
            .order_by(label_sets.c.id)
        )
        with self._database.read() as connection:
            return {
                key: GivenLabel(label, name, created)
                for key, label, name, created in connection.execute(query)
            }

    def revision(self, run: str, run_digest: str) -> str:
        """Another one as soon as :meth:`labels` may answer otherwise: a label that is there stays as it is."""
        query = (
            select(func.count(), func.count(label_sets.c.id.distinct()), func.max(label_sets.c.id))
            .join(label_sets, label_items.c.set_id == label_sets.c.id)
            .where(of_run(run, run_digest), label_items.c.status == "done")
        )
        with self._database.read() as connection:
            return "-".join(str(value) for value in connection.execute(query).one())

    # ---- trials ---------------------------------------------------------------------------------

    def save_trial(self, set_id: int, trial: Trial) -> None:
        values = {
            "status": trial.status,
            "label": trial.label,
            "positives": trial.positives,
            "negatives": trial.negatives,
            "hits": trial.hits,
            "rejections": trial.rejections,
            "details": json_text(dict(trial.details or {})),
            "error": trial.error,
        }
        key = {"set_id": set_id, "key": trial.key, "kind": trial.kind, "number": trial.number}
        with self._database.write() as connection:
            connection.execute(
                upsert(label_trials)
                .values(key | values)
                .on_conflict_do_update(["set_id", "key", "kind", "number"], set_=values)
            )

    def trials(self, set_id: int, key: str | None = None) -> list[Trial]:
        """By key, kind and number."""
        query = (
            select(label_trials)
            .where(label_trials.c.set_id == set_id)
            .order_by(label_trials.c.key, label_trials.c.kind, label_trials.c.number)
        )
        if key is not None:
            query = query.where(label_trials.c.key == key)
        with self._database.read() as connection:
            return [record(Trial, row) for row in connection.execute(query).mappings()]

    def trial_counts(
        self, set_id: int, keys: Sequence[str] | None = None
    ) -> dict[tuple[str, TrialKind], TrialCounts]:
        """The trials of each component and kind, added up; of some components or all."""
        query = counted(set_id)
        if keys is not None:
            query = query.where(label_trials.c.key.in_(keys))
        with self._database.read() as connection:
            rows = cast("list[tuple[Any, ...]]", connection.execute(query).all())
        return {(row[0], row[1]): TrialCounts(*row[2:]) for row in rows}

    def accuracies(self, set_id: int) -> dict[TrialKind, SetAccuracy]:
        """The mean accuracy of the components of a set, without reading them one by one."""
        each = counted(set_id).subquery()
        judged = each.c.positives + each.c.negatives
        accuracy = (each.c.hits + each.c.rejections) * 1.0 / func.nullif(judged, 0)
        query = select(
            each.c.kind,
            func.count(accuracy),
            func.avg(accuracy),
            func.sum(each.c.failed),
            func.sum(each.c.impossible),
        ).group_by(each.c.kind)
        with self._database.read() as connection:
            return {kind: SetAccuracy(*values) for kind, *values in connection.execute(query)}

    # ---- attempts -------------------------------------------------------------------------------

    def begin_attempt(
        self,
        set_id: int,
        purpose: str,
        key: str,
        messages: Sequence[Mapping[str, str]],
        at_most: tuple[int, int],
        cost: float,
    ) -> int:
        """Write a request down before it is sent; ``at_most`` are tokens of the prompt and the answer."""
        with self._database.write() as connection:
            mine = (
                label_attempts.c.set_id == set_id,
                label_attempts.c.purpose == purpose,
                label_attempts.c.key == key,
            )
            number = connection.execute(select(func.count()).where(*mine)).scalar_one()
            values = {
                "set_id": set_id,
                "purpose": purpose,
                "key": key,
                "number": number + 1,
                "state": "sent",
                "messages": json_text([dict(message) for message in messages]),
                "prompt_tokens": at_most[0],
                "completion_tokens": at_most[1],
                "cost": cost,
                "created": now(),
            }
            ident = connection.execute(insert(label_attempts).values(values)).inserted_primary_key
            assert ident is not None
            return int(ident[0])

    def finish_attempt(
        self,
        attempt_id: int,
        state: Literal["answered", "failed"],
        *,
        answer: str = "",
        error: str = "",
        tokens: tuple[int, int] = (0, 0),
        counted: bool = False,
        cost: float = 0.0,
        seconds: float = 0.0,
        model: str = "",
    ) -> None:
        values = {
            "state": state,
            "answer": answer,
            "error": error,
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "counted": int(counted),
            "cost": cost,
            "seconds": seconds,
            "model": model,
        }
        with self._database.write() as connection:
            connection.execute(update(label_attempts).where(label_attempts.c.id == attempt_id).values(values))

    def attempts(self, set_id: int, key: str) -> list[Attempt]:
        """All requests for one component, in the order in which they were sent."""
        query = select(label_attempts).where(label_attempts.c.set_id == set_id, label_attempts.c.key == key)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(label_attempts.c.id)).mappings()
            return [record(Attempt, row) for row in rows]

    def answered(self, set_id: int) -> dict[str, tuple[str, str]]:
        """Of every component the model that answered with its label, as the server called it, and when."""
        of = label_attempts.c
        query = select(of.key, of.model, of.created).where(
            of.set_id == set_id, of.purpose.in_(FINAL_STAGES), of.state == "answered"
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(of.id))
            return {key: (model, created) for key, model, created in rows}

    def spending(self, set_id: int) -> Spending:
        of = label_attempts.c
        query = select(
            func.count(),
            how_many(of.state != "answered"),
            total(of.prompt_tokens),
            total(of.completion_tokens),
            how_many(of.counted == 0),
            total(of.cost),
        ).where(of.set_id == set_id)
        with self._database.read() as connection:
            return Spending(*connection.execute(query).one())


def check_settings(found: LabelSet, strategy: str, settings: Mapping[str, Any]) -> None:
    """Raises :class:`SettingsDifferError` where the set was made in another way."""
    wanted = json.loads(json_text(dict(settings))) | {"strategy": strategy}
    there = dict(found.settings) | {"strategy": found.strategy}
    differing = sorted(k for k in wanted.keys() | there.keys() if wanted.get(k) != there.get(k))
    if differing:
        first = differing[0]
        raise SettingsDifferError(
            f"the label set {found.name!r} was made with another {first.replace('_', ' ')} "
            f"({there.get(first)!r}, not {wanted.get(first)!r})",
            "give the same options to go on with it, or another --name",
        )


def _find(connection: Connection, run: str, run_digest: str, name: str) -> LabelSet | None:
    query = select(label_sets).where(of_run(run, run_digest), label_sets.c.name == name)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else label_set(row)


def _check_judge(connection: Connection, found: LabelSet, judge: Judge) -> None:
    """A judge that has not judged anything, as one whose name was misspelt, may still be another."""
    if found.judge in (None, judge):
        return
    answered = select(label_trials.c.id).where(
        label_trials.c.set_id == found.id, label_trials.c.status == "done"
    )
    if connection.execute(answered.limit(1)).first() is None:
        return
    raise SettingsDifferError(
        f"the labels of {found.name!r} are judged by {found.judge.model!r} at {found.judge.endpoint}, "
        f"not by {judge.model!r} at {judge.endpoint}",
        "name the same judge to go on with it, or give another --name",
    )
