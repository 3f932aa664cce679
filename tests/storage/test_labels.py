"""Labels of components: what is kept of every change, undo and redo, files, many writers, kill -9."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage.labels
from storage.errors import ConflictError, DatabaseDamagedError, InvalidValueError, UnknownRecordError
from storage.graphs import GraphDatabase
from storage.label_records import ImportedLabel, LabelContent, LabelHistory
from storage.labels import LabelStore
from tests.storage.graph_support import DIGEST, RUN, add_seeded, check_seeded, context, make_older, start

KEY, OTHER = "0.attn.q:17", "1.glu.down:3"
NOTHING = LabelContent()


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> str:
        return f"2026-01-01T00:{int(self.seconds) // 60:02d}:{self.seconds % 60:06.3f}+00:00"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(storage.labels, "now", clock)
    return clock


@pytest.fixture
def labels(tmp_path: Path, clock: Clock) -> Iterator[LabelStore]:
    database = GraphDatabase(tmp_path / "labels.sqlite3")
    yield database.labels
    assert database.verify() == []
    database.close()


def name(text: str) -> LabelContent:
    return LabelContent(name=text)


def said(store: LabelStore, key: str = KEY) -> LabelContent:
    return store.history(RUN, DIGEST, key).label.content


# ---- saying something ---------------------------------------------------------------------------


def test_a_label_is_kept_with_who_and_when(labels: LabelStore, clock: Clock) -> None:
    before = labels.history(RUN, DIGEST, KEY)
    assert (before.label.content, before.label.version, before.steps) == (NOTHING, 0, ())
    first = labels.save(RUN, DIGEST, KEY, 0, LabelContent("plurals", "see document 3", 4), "Ann")
    clock.seconds = 90
    second = labels.save(
        RUN, DIGEST, KEY, first.label.version, LabelContent("plural nouns", "see document 3", 4), "Ben"
    )
    assert labels.labels(RUN, DIGEST) == (second.label,)
    label = second.label
    assert (label.author, label.created[14:19], label.updated[14:19]) == ("Ben", "00:00", "01:30")
    assert label.version > first.label.version
    assert [(step.author, step.after.name, step.state) for step in second.steps] == [
        ("Ann", "plurals", "done"),
        ("Ben", "plural nouns", "done"),
    ]
    # Another component, another run and another making of this run know nothing of it.
    assert said(labels, OTHER) == NOTHING
    assert labels.labels("other", DIGEST) == labels.labels(RUN, "e" * 64) == ()
    assert labels.earlier(RUN, "e" * 64) == (label,)
    assert labels.earlier(RUN, DIGEST) == ()


def test_what_is_said_already_changes_nothing(labels: LabelStore) -> None:
    first = labels.save(RUN, DIGEST, KEY, 0, name("a"), "Ann")
    assert labels.save(RUN, DIGEST, KEY, first.label.version, name("a"), "Ben") == first
    assert labels.revision(RUN, DIGEST) == first.label.version


def test_what_is_read_again_is_what_a_first_reader_sees(labels: LabelStore, clock: Clock) -> None:
    reader = LabelStore(labels._database)  # pyright: ignore[reportPrivateUsage]
    versions = {KEY: 0, OTHER: 0}
    for key, content in [
        (KEY, name("a")),
        (OTHER, name("b")),
        (KEY, name("c")),
        (KEY, NOTHING),
        (OTHER, name("d")),
    ]:
        clock.seconds += 11
        versions[key] = labels.save(RUN, DIGEST, key, versions[key], content, "Ann").label.version
        first = LabelStore(labels._database).labels(RUN, DIGEST)  # pyright: ignore[reportPrivateUsage]
        assert set(reader.labels(RUN, DIGEST)) == set(labels.labels(RUN, DIGEST)) == set(first)
    assert [label.content.name for label in reader.labels(RUN, DIGEST)] == ["d"]


def test_who_read_an_older_version_is_told(labels: LabelStore) -> None:
    read = labels.save(RUN, DIGEST, KEY, 0, name("a"), "Ann").label.version
    newer = labels.save(RUN, DIGEST, KEY, read, name("ab"), "Ben").label.version
    for change in (
        lambda: labels.save(RUN, DIGEST, KEY, read, name("ac"), "Ann"),
        lambda: labels.undo(RUN, DIGEST, KEY, read, "Ann"),
        lambda: labels.redo(RUN, DIGEST, KEY, read, "Ann"),
        lambda: labels.save(RUN, DIGEST, KEY, 0, NOTHING, "Ann"),
    ):
        with pytest.raises(ConflictError, match="changed by Ben since") as conflict:
            change()
        assert conflict.value.version == newer
    assert said(labels) == name("ab")


def test_half_a_character_is_refused_and_changes_nothing(labels: LabelStore) -> None:
    with pytest.raises(InvalidValueError):
        labels.save(RUN, DIGEST, KEY, 0, name("\ud800"), "Ann")
    assert labels.revision(RUN, DIGEST) == 0


# ---- steps --------------------------------------------------------------------------------------


def test_typing_is_one_step_until_a_pause(labels: LabelStore, clock: Clock) -> None:
    version = 0

    def save(content: LabelContent, author: str = "Ann", seconds: float = 1) -> LabelHistory:
        nonlocal version
        clock.seconds += seconds
        found = labels.save(RUN, DIGEST, KEY, version, content, author)
        version = found.label.version
        return found

    save(name("p"))
    save(name("plu"))
    assert len(save(name("plurals")).steps) == 1
    assert len(save(LabelContent("plurals", rating=3)).steps) == 2  # another field
    assert len(save(LabelContent("plurals", rating=5)).steps) == 2
    assert len(save(LabelContent("plurals", "note", 5)).steps) == 3
    assert len(save(LabelContent("plurals", "note on", 5), seconds=11).steps) == 4  # a pause
    assert len(save(LabelContent("plurals", "note on it", 5), "Ben").steps) == 5  # another person
    assert len(save(LabelContent("plurals", "", 5), "Ben").steps) == 6  # most of it taken away
    names: list[tuple[str, str, int | None]] = []
    while (found := labels.history(RUN, DIGEST, KEY)).undo is not None:
        version = labels.undo(RUN, DIGEST, KEY, version, "Ann").label.version
        content = said(labels)
        names.append((content.name, content.text, content.rating))
    assert names == [
        ("plurals", "note on it", 5),
        ("plurals", "note on", 5),
        ("plurals", "note", 5),
        ("plurals", "", 5),
        ("plurals", "", None),
        ("", "", None),
    ]
    assert len(found.steps) == 6
    with pytest.raises(UnknownRecordError, match="nothing to undo"):
        labels.undo(RUN, DIGEST, KEY, version, "Ann")


def test_a_step_of_its_own_is_one_however_soon(labels: LabelStore) -> None:
    version = labels.save(RUN, DIGEST, KEY, 0, name("a"), "Ann").label.version
    version = labels.save(RUN, DIGEST, KEY, version, name("ab"), "Ann").label.version
    found = labels.save(RUN, DIGEST, KEY, version, name("abc"), "Ann", new_step=True)
    assert [step.after.name for step in found.steps] == ["ab", "abc"]


def test_undo_gives_back_who_and_when(labels: LabelStore, clock: Clock) -> None:
    first = labels.save(RUN, DIGEST, KEY, 0, name("ann's"), "Ann")
    clock.seconds = 60
    second = labels.save(RUN, DIGEST, KEY, first.label.version, name("ben's"), "Ben")
    clock.seconds = 120
    undone = labels.undo(RUN, DIGEST, KEY, second.label.version, "Cleo")
    assert (undone.label.author, undone.label.updated) == ("Ann", first.label.updated)
    assert undone.redo is not None
    assert undone.redo.after == name("ben's")
    redone = labels.redo(RUN, DIGEST, KEY, undone.label.version, "Cleo")
    assert (redone.label.author, redone.label.updated) == ("Ben", second.label.updated)
    assert redone.redo is None


@dataclass
class Model:
    """Undo as everybody knows it: a stack of states, and one of states taken back."""

    states: list[LabelContent] = field(default_factory=lambda: [NOTHING])
    ahead: list[LabelContent] = field(default_factory=list[LabelContent])


UNUSED = count()
ACTIONS = st.lists(st.one_of(st.sampled_from(["undo", "redo"]), st.integers(1, 4)), max_size=24)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(actions=ACTIONS)
def test_undo_and_redo_are_those_of_an_editor(
    labels: LabelStore, clock: Clock, actions: list[str | int]
) -> None:
    model, mine = Model(), f"0.attn.q:{next(UNUSED)}"
    version = 0
    written: set[LabelContent] = set()
    for action in actions:
        clock.seconds += 11
        if action == "undo" and len(model.states) > 1:
            model.ahead.append(model.states.pop())
            version = labels.undo(RUN, DIGEST, mine, version, "Ann").label.version
        elif action == "redo" and model.ahead:
            model.states.append(model.ahead.pop())
            version = labels.redo(RUN, DIGEST, mine, version, "Ann").label.version
        elif isinstance(action, int):
            content = LabelContent(f"name {action}", rating=action)
            if content != model.states[-1]:
                model.states.append(content)
                model.ahead.clear()
                written.add(content)
            version = labels.save(RUN, DIGEST, mine, version, content, "Ann").label.version
        found = labels.history(RUN, DIGEST, mine)
        assert found.label.content == model.states[-1]
        assert found.label.version == version
        assert (found.undo is not None, found.redo is not None) == (
            len(model.states) > 1,
            bool(model.ahead),
        )
        # Whatever was ever written can be found, also what was undone and passed over.
        assert {step.after for step in found.steps} >= written
    clock.seconds %= 60


# ---- files --------------------------------------------------------------------------------------


def imported(key: str, text: str, author: str = "Zoe") -> ImportedLabel:
    return ImportedLabel(key, name(text), author, "2025-01-01T00:00:00+00:00", "2025-02-02T00:00:00+00:00")


def test_a_file_is_one_step_and_replaces_only_when_told(labels: LabelStore) -> None:
    labels.save(RUN, DIGEST, KEY, 0, name("mine"), "Ann")
    file = [imported(KEY, "theirs"), imported(OTHER, "new"), imported("1.glu.down:4", "newer")]
    result = labels.add_file(RUN, DIGEST, file, "Ann")
    assert (result.added, result.replaced, result.kept) == ((OTHER, "1.glu.down:4"), (), (KEY,))
    label = labels.history(RUN, DIGEST, OTHER).label
    assert (label.author, label.created[:10], label.updated[:10]) == ("Zoe", "2025-01-01", "2025-02-02")
    again = labels.add_file(RUN, DIGEST, file, "Ann", replace=True)
    assert (again.added, again.replaced, again.same) == ((), (KEY,), (OTHER, "1.glu.down:4"))
    assert labels.add_file(RUN, DIGEST, file, "Ann", replace=True).step == 0
    first, second = labels.imports(RUN, DIGEST)[::-1]
    assert (first.labels, first.in_force, first.undone, first.author) == (2, 2, 0, "Ann")
    assert (second.step, second.labels, second.in_force) == (again.step, 1, 1)


def test_an_import_is_taken_back_where_nobody_changed_it_since(labels: LabelStore) -> None:
    labels.save(RUN, DIGEST, KEY, 0, name("mine"), "Ann")
    file = [imported(KEY, "theirs"), imported(OTHER, "new"), imported("1.glu.down:4", "newer")]
    step = labels.add_file(RUN, DIGEST, file, "Ann", replace=True).step
    version = labels.history(RUN, DIGEST, OTHER).label.version
    labels.save(RUN, DIGEST, OTHER, version, name("changed since"), "Ben")
    assert labels.undo_file(RUN, DIGEST, step, "Ann") == ([KEY, "1.glu.down:4"], [OTHER])
    assert {label.key: label.content.name for label in labels.labels(RUN, DIGEST)} == {
        KEY: "mine",
        OTHER: "changed since",
    }
    (record,) = labels.imports(RUN, DIGEST)
    assert (record.labels, record.in_force, record.undone) == (3, 0, 2)
    assert labels.redo_file(RUN, DIGEST, step, "Ann") == ([KEY, "1.glu.down:4"], [OTHER])
    assert said(labels) == name("theirs")
    assert labels.history(RUN, DIGEST, KEY).label.author == "Zoe"
    for unknown in (step + 1, 10**6):
        with pytest.raises(UnknownRecordError, match=f"no import {unknown}"):
            labels.undo_file(RUN, DIGEST, unknown, "Ann")
    with pytest.raises(UnknownRecordError):
        labels.undo_file("other", DIGEST, step, "Ann")


def test_four_thousand_labels_of_a_file(labels: LabelStore) -> None:
    file = [imported(f"0.mlp.up:{index}", f"name {index}") for index in range(4_000)]
    started = time.monotonic()
    step = labels.add_file(RUN, DIGEST, file, "Ann").step
    assert len(labels.labels(RUN, DIGEST)) == 4_000
    changed, kept = labels.undo_file(RUN, DIGEST, step, "Ann")
    assert (len(changed), kept, labels.labels(RUN, DIGEST)) == (4_000, [], ())
    assert time.monotonic() - started < 30


# ---- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE label_changes SET name = 'other' WHERE id = 1",
        "UPDATE label_changes SET rating = NULL WHERE id = 2",
        "UPDATE label_changes SET author = 'Eve' WHERE id = 2",
        "UPDATE label_changes SET run_digest = 'x' WHERE id = 1",
    ],
)
def test_an_altered_change_is_named(tmp_path: Path, statement: str) -> None:
    database = GraphDatabase(tmp_path / "labels.sqlite3")
    version = database.labels.save(RUN, DIGEST, KEY, 0, name("a"), "Ann").label.version
    database.labels.save(RUN, DIGEST, KEY, version, LabelContent("a", rating=2), "Ann")
    with sqlite3.connect(database.path) as connection:
        connection.execute(statement)
    connection.close()
    (wrong,) = database.verify()
    assert "of the label of 0.attn.q:17 is damaged" in wrong
    if "run_digest" not in statement:
        with pytest.raises(DatabaseDamagedError, match="of the label of"):
            database.labels.history(RUN, DIGEST, KEY)


def test_a_file_of_the_version_before_gets_labels_and_keeps_its_graphs(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    make_older(path, "0002")
    full = GraphDatabase(tmp_path / "full.sqlite3")
    graph = add_seeded(full, 4)
    full.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ATTACH ? AS full", (str(full.path),))
        for table in ("prompts", "graphs", "chunks"):
            connection.execute(f"INSERT INTO {table} SELECT * FROM full.{table}")
    connection.close()
    database = GraphDatabase(path)
    database.labels.save(RUN, DIGEST, KEY, 0, name("a"), "Ann")
    assert check_seeded(database, graph.id) == 4
    assert database.verify() == []


# ---- many at once -------------------------------------------------------------------------------


def test_of_many_who_change_one_version_one_wins(tmp_path: Path) -> None:
    database = GraphDatabase(tmp_path / "labels.sqlite3")

    def save(number: int) -> bool:
        try:
            database.labels.save(RUN, DIGEST, KEY, 0, name(f"name {number}"), f"person {number}")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(save, range(12)))
    assert won.count(True) == 1
    found = database.labels.history(RUN, DIGEST, KEY)
    assert (found.label.content, len(found.steps)) == (name(f"name {won.index(True)}"), 1)


def add_until_all_are_there(path: Path, person: str, lines: int, answer: Connection) -> None:
    """Append to one note until so many lines were confirmed, joining with what others wrote meanwhile."""
    store = GraphDatabase(path).labels
    written = 0
    while written < lines:
        now = store.history(RUN, DIGEST, KEY).label
        line = f"{person} {written}\n"
        try:
            store.save(RUN, DIGEST, KEY, now.version, LabelContent(text=now.content.text + line), person)
        except ConflictError:
            continue
        written += 1
    answer.send(written)


def test_two_servers_that_write_one_note_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite3"
    GraphDatabase(path).close()
    pipes = [context.Pipe() for _ in range(3)]
    for number, (_, theirs) in enumerate(pipes):
        start(add_until_all_are_there, path, f"person {number}", 8, theirs)
    for ours, _ in pipes:
        assert ours.poll(60)
        assert ours.recv() == 8
    database = GraphDatabase(path)
    found = database.labels.history(RUN, DIGEST, KEY)
    assert sorted(found.label.content.text.splitlines()) == sorted(
        f"person {person} {line}" for person in range(3) for line in range(8)
    )
    assert all(later.before == earlier.after for earlier, later in pairwise(found.steps))
    assert database.verify() == []


def change_for_ever(path: Path, first: int, confirm: Connection) -> None:
    """Save, undo, import; tell of each change only after it was confirmed."""
    store = GraphDatabase(path).labels
    choice = random.Random(first)
    for number in range(first, first + 10**6):
        key = f"0.attn.q:{number % 7}"
        version = store.history(RUN, DIGEST, key).label.version
        if number % 5 == 4:
            labels = [imported(f"1.glu.down:{index}", f"file {number}") for index in range(50)]
            store.add_file(RUN, DIGEST, labels, "Ann", replace=True)
            confirm.send(("file", "", f"file {number}"))
        elif choice.random() < 0.3 and version:
            found = store.history(RUN, DIGEST, key)
            if found.undo is not None:
                after = store.undo(RUN, DIGEST, key, version, "Ann").label
                confirm.send(("label", key, after.content.name))
        else:
            store.save(RUN, DIGEST, key, version, LabelContent(f"name {number}", "n" * 3000), "Ann")
            confirm.send(("label", key, f"name {number}"))


def test_what_was_confirmed_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite3"
    choice = random.Random(4)
    GraphDatabase(path).close()
    for round_number in range(5):
        ours, theirs = context.Pipe(duplex=False)
        process = start(change_for_ever, path, round_number * 1000, theirs)
        theirs.close()
        assert ours.poll(60)
        time.sleep(choice.uniform(0.02, 0.15))
        process.kill()
        process.join()
        confirmed: dict[str, str] = {}
        last = ""
        while True:
            try:
                kind, key, text = ours.recv()
            except (EOFError, OSError):
                break
            confirmed["1.glu.down:0" if kind == "file" else key] = text
            last = "1.glu.down:0" if kind == "file" else key
        database = GraphDatabase(path)
        assert database.verify() == []
        # Only the change that was under way may stand in front of what was confirmed.
        differing = [key for key, text in confirmed.items() if said(database.labels, key).name != text]
        assert len(differing) <= 1, (differing, last)
        # A file is there as a whole or not at all.
        files = {said(database.labels, f"1.glu.down:{index}") for index in range(50)}
        assert len(files) == 1
        database.close()
        assert confirmed
