"""Label sets: what is kept of every question, what counts as spent, and what stays after a crash."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import SettingsDifferError, StorageError, UnknownRecordError
from storage.graphs import GraphDatabase
from storage.label_records import Item, Judge, SetAccuracy, Spending, Trial, TrialCounts
from storage.label_sets import LabelSets
from tests.storage.graph_support import make_older

RUN, DIGEST = "demo", "d" * 64
MESSAGES = [{"role": "user", "content": "what is it? «ä»"}]


@pytest.fixture
def sets(tmp_path: Path) -> Iterator[LabelSets]:
    database = GraphDatabase(tmp_path / "t.sqlite3")
    yield database.label_sets
    database.close()


def new_set(sets: LabelSets, name: str = "a", **settings: object) -> int:
    return sets.open_set(RUN, DIGEST, name, "evidence", {"model": "m", **settings})[0].id


def done(key: str, label: str, stage: str = "evidence") -> Item:
    return Item(stage, key, "done", label, {"confidence": "low"}, {"examples": [[0, 9]]}, "")


def test_a_set_goes_on_under_its_name_and_its_settings_only(sets: LabelSets) -> None:
    found, new = sets.open_set(RUN, DIGEST, "a", "evidence", {"model": "m", "seed": 1})
    assert new
    again, new = sets.open_set(RUN, DIGEST, "a", "evidence", {"seed": 1, "model": "m"})
    assert (again.id, new) == (found.id, False)
    with pytest.raises(SettingsDifferError, match=r"another model .'m', not 'other'"):
        sets.open_set(RUN, DIGEST, "a", "evidence", {"model": "other", "seed": 1})
    with pytest.raises(SettingsDifferError, match="another strategy"):
        sets.open_set(RUN, DIGEST, "a", "context", {"model": "m", "seed": 1})
    # A run that was made again begins anew.
    assert sets.open_set(RUN, "e" * 64, "a", "context", {})[1]
    assert [s.name for s in sets.sets(RUN, DIGEST)] == ["a"]
    with pytest.raises(UnknownRecordError):
        sets.get(99)


def test_a_set_has_one_judge_from_the_first_label_that_is_judged(sets: LabelSets) -> None:
    mine, other = Judge("m", "http://a/v1"), Judge("better", "http://b/v1")

    def open_with(judge: Judge | None) -> Judge | None:
        return sets.open_set(RUN, DIGEST, "a", "evidence", {}, judge)[0].judge

    ident = sets.open_set(RUN, DIGEST, "a", "evidence", {}, mine)[0].id
    assert open_with(None) is None  # nobody has begun to judge
    sets.judge_by(ident, mine)
    sets.save_trial(ident, Trial("0.attn.q:0", "detection", 0, "failed", "commas", error="no such model"))
    # Nothing was judged: what was named may have been a mistake.
    assert open_with(other) == mine
    sets.judge_by(ident, other)
    sets.save_trial(ident, Trial("0.attn.q:0", "detection", 0, "done", "commas", 5, 5, 4, 5))
    with pytest.raises(SettingsDifferError, match="judged by 'better' at http://b/v1, not by 'm' at"):
        open_with(mine)
    with pytest.raises(SettingsDifferError):
        sets.judge_by(ident, mine)
    assert open_with(None) == open_with(other) == other


def test_scores_of_older_files_were_judged_by_the_model_that_wrote_the_labels(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    make_older(path, "0004")
    with sqlite3.connect(path) as connection:
        for ident, name in enumerate(("scored", "not scored"), 1):
            connection.execute(
                "insert into label_sets (id, run, run_digest, name, strategy, settings)"
                " values (?, ?, ?, ?, 'evidence', ?)",
                (ident, RUN, DIGEST, name, '{"model": "m", "endpoint": "http://a/v1", "seed": 0}'),
            )
        connection.execute(
            "insert into label_trials (set_id, key, kind, status) values (1, '0.attn.q:0', 'detection', 'done')"
        )
    connection.close()
    database = GraphDatabase(path)
    judges = {found.name: found.judge for found in database.label_sets.sets(RUN, DIGEST)}
    assert judges == {"scored": Judge("m", "http://a/v1"), "not scored": None}
    database.close()


def test_items_keep_what_is_known_of_them(sets: LabelSets) -> None:
    ident = new_set(sets)
    sets.add_items(ident, "evidence", ["0.attn.q:1", "0.attn.q:0"])
    sets.save_item(ident, done("0.attn.q:1", "commas"))
    sets.save_item(ident, Item("evidence", "0.attn.q:0", "failed", "", {}, {}, "status 500"))
    sets.add_items(ident, "evidence", ["0.attn.q:0", "0.attn.q:1", "0.attn.q:2"])
    items = sets.items(ident, "evidence")
    assert [(i.key, i.status, i.label, i.error) for i in items] == [
        ("0.attn.q:1", "done", "commas", ""),
        ("0.attn.q:0", "failed", "", "status 500"),
        ("0.attn.q:2", "pending", "", ""),
    ]
    assert items[0] == done("0.attn.q:1", "commas")
    progress = sets.progress(ident)
    assert (progress.components, progress.done, progress.failed) == (3, 1, 1)


def test_the_newest_set_that_has_a_label_gives_it(sets: LabelSets) -> None:
    old, new = new_set(sets, "old"), new_set(sets, "new")
    sets.save_item(old, done("0.attn.q:0", "old label"))
    sets.save_item(old, done("0.attn.q:1", "only the old one"))
    sets.save_item(new, done("0.attn.q:0", "new label"))
    # Stages on the way are not what a component is called, and a failure hides nothing.
    sets.save_item(new, done("0.attn.q:2", "by its sources", stage="input"))
    sets.save_item(new, Item("evidence", "0.attn.q:1", "failed", "", {}, {}, "refused"))
    found = {key: (given.label, given.set_name) for key, given in sets.labels(RUN, DIGEST).items()}
    assert found == {"0.attn.q:0": ("new label", "new"), "0.attn.q:1": ("only the old one", "old")}
    before = sets.revision(RUN, DIGEST)
    assert sets.revision(RUN, DIGEST) == before
    sets.save_item(new, done("0.attn.q:1", "another label"))
    assert sets.revision(RUN, DIGEST) != before
    assert sets.labels(RUN, "e" * 64) == {}


def test_money_is_written_down_before_it_is_spent(sets: LabelSets) -> None:
    ident = new_set(sets)
    first = sets.begin_attempt(ident, "evidence", "0.attn.q:0", MESSAGES, (100, 50), 1.5)
    assert sets.spending(ident) == Spending(1, 1, 100, 50, 1, 1.5)  # as after a crash now
    sets.finish_attempt(
        first, "answered", answer='{"a": 1}', tokens=(30, 5), counted=True, cost=0.25, model="m-1"
    )
    second = sets.begin_attempt(ident, "evidence", "0.attn.q:0", MESSAGES, (100, 50), 1.5)
    sets.finish_attempt(second, "failed", error="status 429", counted=True)
    assert sets.spending(ident) == Spending(2, 1, 30, 5, 0, 0.25)
    attempts = sets.attempts(ident, "0.attn.q:0")
    assert [(a.number, a.state, a.answer, a.error) for a in attempts] == [
        (1, "answered", '{"a": 1}', ""),
        (2, "failed", "", "status 429"),
    ]
    assert attempts[0].messages == MESSAGES
    assert sets.attempts(ident, "0.attn.q:9") == []


def test_a_trial_is_asked_again_in_its_place(sets: LabelSets) -> None:
    ident = new_set(sets)
    failed = Trial("0.attn.q:0", "detection", 0, "failed", "commas", error="no answer within 1 s")
    sets.save_trial(ident, failed)
    assert sets.trials(ident)[0].error == "no answer within 1 s"
    right = Trial("0.attn.q:0", "detection", 0, "done", "commas", 5, 5, 4, 5, {"chosen": [1]})
    sets.save_trial(ident, right)
    sets.save_trial(ident, Trial("0.attn.q:0", "fuzzing", 0, "impossible", "commas", error="too few"))
    assert sets.trials(ident, "0.attn.q:0")[0] == right
    assert len(sets.trials(ident)) == 2
    sets.save_trial(ident, Trial("0.attn.q:0", "detection", 1, "done", "commas", 3, 3, 1, 1))
    sets.save_trial(ident, Trial("0.attn.q:1", "detection", 0, "done", "x", 5, 5, 5, 5))
    sets.save_trial(ident, Trial("0.attn.q:2", "detection", 0, "failed", "x"))
    assert sets.trial_counts(ident, ["0.attn.q:0"]) == {
        ("0.attn.q:0", "detection"): TrialCounts(5, 8, 6, 8, 0, 0),
        ("0.attn.q:0", "fuzzing"): TrialCounts(0, 0, 0, 0, 0, 1),
    }
    assert len(sets.trial_counts(ident)) == 4
    assert sets.accuracies(ident) == {
        "detection": SetAccuracy(2, (11 / 16 + 1) / 2, 1, 0),
        "fuzzing": SetAccuracy(0, None, 0, 1),
    }


HOLD = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(lock, fcntl.LOCK_EX, 1, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_never_work_on_one_set(sets: LabelSets, tmp_path: Path) -> None:
    one, other = new_set(sets), new_set(sets, "b")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "t.sqlite3.labelling"), str(one)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StorageError, match="another process is working on label set 1"),
            sets.working(one),
        ):
            raise AssertionError
        with sets.working(other):
            pass
        holder.communicate()
    with sets.working(one):
        pass


def test_two_threads_never_work_on_one_set_and_keep_other_processes_out(
    sets: LabelSets, tmp_path: Path
) -> None:
    one, other = new_set(sets), new_set(sets, "b")
    take = (
        "import fcntl, os, sys; lock = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2]))"
    )

    def another_process_may(set_id: int) -> bool:
        command = [sys.executable, "-c", take, str(tmp_path / "t.sqlite3.labelling"), str(set_id)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    with sets.working(one):
        with pytest.raises(StorageError, match="worked on already"), sets.working(one):
            raise AssertionError
        with sets.working(other):
            assert not another_process_may(other)
        # What was given up is free, what is held is not given up with it.
        assert another_process_may(other)
        assert not another_process_may(one)


def test_who_labelled_is_who_answered_last(sets: LabelSets) -> None:
    ident = new_set(sets)
    for purpose, key, state, model in (
        ("evidence", "0.attn.q:0", "answered", "m-1"),
        ("evidence", "0.attn.q:0", "failed", ""),
        ("evidence", "0.attn.q:0", "answered", "m-2"),
        ("detection 0", "0.attn.q:0", "answered", "judge"),
        ("evidence", "0.attn.q:1", "failed", ""),
    ):
        attempt = sets.begin_attempt(ident, purpose, key, MESSAGES, (1, 1), 0.0)
        sets.finish_attempt(attempt, state, model=model)
    answered = sets.answered(ident)
    assert {key: model for key, (model, _) in answered.items()} == {"0.attn.q:0": "m-2"}
    assert answered["0.attn.q:0"][1] >= sets.get(ident).created


def test_a_set_is_deleted_with_all_that_hangs_on_it(sets: LabelSets, tmp_path: Path) -> None:
    ident, other = new_set(sets), new_set(sets, "b")
    for one in (ident, other):
        sets.save_item(one, done("0.attn.q:0", "x"))
        sets.save_trial(one, Trial("0.attn.q:0", "detection", 0, "pending", "x"))
        sets.begin_attempt(one, "evidence", "0.attn.q:0", MESSAGES, (1, 1), 0.0)
    with sets.working(ident), pytest.raises(StorageError, match="worked on already"):
        sets.delete(ident)
    assert len(sets.items(ident)) == 1
    sets.delete(ident)
    assert (sets.items(ident), sets.trials(ident), sets.attempts(ident, "0.attn.q:0")) == ([], [], [])
    assert len(sets.items(other)) == len(sets.trials(other)) == len(sets.attempts(other, "0.attn.q:0")) == 1
    again = GraphDatabase(tmp_path / "t.sqlite3")
    assert [s.name for s in again.label_sets.sets(RUN, DIGEST)] == ["b"]
    again.close()
