"""Several threads and processes on one file, and processes that are killed in the middle of writing."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage.errors import ConflictError, DatabaseBusyError, UnknownRecordError
from storage.graph_records import Workspace
from storage.graphs import GraphDatabase
from storage.journal import Mode
from tests.storage.graph_support import (
    DIGEST,
    RUN,
    add_seeded,
    check_seeded,
    context,
    make_older,
    open_and_add,
    serve,
    start,
    write_for_ever,
    write_some,
)


def received(pipe: Any) -> Any:
    assert pipe.poll(60), "the other process does not answer"
    return pipe.recv()


# ---- opening ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "0001"])
def test_many_processes_make_or_upgrade_one_file_at_once(tmp_path: Path, version: str | None) -> None:
    path = tmp_path / "new.sqlite3"
    if version is not None:
        make_older(path, version)
    begin = context.Barrier(8)
    pipes = [context.Pipe() for _ in range(8)]
    processes = [start(open_and_add, path, 5, begin, theirs) for _, theirs in pipes]
    answers = [received(ours) for ours, _ in pipes]
    for process in processes:
        process.join()
    assert answers == [(1, "wal")] * 8  # the same graph for all of them
    database = GraphDatabase(path)
    assert len(database.prompts(RUN, DIGEST)) == 1
    assert check_seeded(database, 1) == 5
    assert database.verify() == []
    assert [entry.name for entry in tmp_path.iterdir() if "journal-test" in entry.name] == []


def test_many_threads_make_one_file_at_once(tmp_path: Path) -> None:
    begin = threading.Barrier(6)

    def open_one(_: int) -> int:
        begin.wait()
        database = GraphDatabase(tmp_path / "new.sqlite3")
        graph = add_seeded(database, 5)
        database.close()
        return graph.id

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(open_one, range(6))) == [1] * 6


# ---- two servers --------------------------------------------------------------------------------


def test_two_servers_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "shared.sqlite3"
    ours = GraphDatabase(path)
    pipe, theirs = context.Pipe()
    process = start(serve, path, theirs)

    def ask(name: str, *arguments: Any) -> Any:
        pipe.send((name, arguments))
        answer = received(pipe)
        if isinstance(answer, Exception):
            raise answer
        return answer

    graph = add_seeded(ours, 3)
    assert ask("find_graph", graph.prompt_id, {"seed": 3}) == graph
    assert ask("graph_edges", graph.id)["attr"].tobytes() == ours.graph_edges(graph.id)["attr"].tobytes()
    # Both have version 0 on screen; the second to save is told, and nothing of the first is lost.
    assert ask("save_workspace", graph.id, 0, Workspace(pins=("embed:0:1",))) == 1
    with pytest.raises(ConflictError) as conflict:
        ours.save_workspace(graph.id, 0, Workspace(pins=("embed:0:2",)))
    assert conflict.value.version == 1
    assert ours.workspace(graph.id).pins == ("embed:0:1",)
    ask("delete_prompt", graph.prompt_id)
    with pytest.raises(UnknownRecordError):
        ours.graph(graph.id)
    pipe.send(None)
    process.join()
    assert ours.verify() == []


# ---- many writers -------------------------------------------------------------------------------


def test_fifty_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "busy.sqlite3"
    processes, threads, each = 5, 10, 3
    pipes = [context.Pipe() for _ in range(processes)]
    for number, (_, theirs) in enumerate(pipes):
        start(write_some, path, number * threads * each, threads, each, theirs)
    answers = [received(ours) for ours, _ in pipes]
    assert [errors for _, errors in answers] == [[]] * processes
    confirmed = [pair for found, _ in answers for pair in found]
    assert sorted(seed for _, seed in confirmed) == list(range(processes * threads * each))
    database = GraphDatabase(path)
    for graph_id, seed in confirmed:
        assert check_seeded(database, graph_id) == seed
    assert database.verify() == []


def test_fifty_threads_with_the_rollback_journal(tmp_path: Path) -> None:
    database = GraphDatabase(tmp_path / "busy.sqlite3", "delete")

    def write(seed: int) -> int:
        return check_seeded(database, add_seeded(database, seed).id)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(write, range(50))) == list(range(50))
    assert len(database.run_graphs(RUN, DIGEST)) == 50
    assert database.verify() == []


def test_of_many_who_save_one_workspace_one_wins_each_version(tmp_path: Path) -> None:
    database = GraphDatabase(tmp_path / "pins.sqlite3")
    graph = add_seeded(database, 1)

    def save(number: int) -> bool:
        try:
            return database.save_workspace(graph.id, 0, Workspace(pins=(f"embed:0:{number}",))) == 1
        except ConflictError:
            return False

    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(save, range(12)))
    assert won.count(True) == 1
    assert database.workspace(graph.id) == Workspace(1, (f"embed:0:{won.index(True)}",))


# ---- waiting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_who_waits_too_long_is_told_and_changes_nothing(tmp_path: Path, journal: Mode) -> None:
    database = GraphDatabase(tmp_path / "locked.sqlite3", journal, busy_timeout=0.2)
    prompt, _ = database.add_prompt(RUN, DIGEST, [1], "one")
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusyError, match=r"locked.sqlite3 was kept locked .* nothing was changed"):
        database.rename_prompt(prompt.id, "another")
    assert database.prompt(prompt.id).title == ""  # reading goes on, until the other one commits
    other.execute("ROLLBACK")
    assert database.rename_prompt(prompt.id, "another").title == "another"
    other.close()


def test_reading_does_not_wait_for_writing(tmp_path: Path) -> None:
    database = GraphDatabase(tmp_path / "wal.sqlite3", busy_timeout=0.2)
    graph = add_seeded(database, 1)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    other.execute("DELETE FROM graphs")
    assert check_seeded(database, graph.id) == 1
    assert len(database.graphs(graph.prompt_id)) == 1
    other.execute("ROLLBACK")
    other.close()


# ---- kill -9 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_what_was_confirmed_survives_kill_9(tmp_path: Path, journal: Mode) -> None:
    path = tmp_path / "killed.sqlite3"
    choice = random.Random(journal)
    n_edges = 60_000  # about a megabyte each: most of the time is spent inside a write
    graphs: dict[int, int] = {}
    noted: set[int] = set()
    deleting: set[int] = set()
    deleted: set[int] = set()
    for round_number in range(10):
        ours, theirs = context.Pipe(duplex=False)
        process = start(write_for_ever, path, journal, round_number * 1000, n_edges, theirs)
        theirs.close()
        assert ours.poll(60)
        time.sleep(choice.uniform(0, 0.12))
        process.kill()
        process.join()
        while True:
            try:
                word, first, second = ours.recv()
            except (EOFError, OSError):  # a message that was cut off is one that was not confirmed
                break
            if word == "added":
                graphs[first] = second
            elif word == "noted":
                noted.add(first)
            else:
                (deleting if word == "deleting" else deleted).add(second)
        database = GraphDatabase(path, journal)
        assert database.verify() == []
        stored = {graph.id for graph in database.run_graphs(RUN, DIGEST)}
        # Everything confirmed is there, and nothing that was never asked for: the last write of each
        # round may have succeeded without having been confirmed.
        assert set(graphs) - deleting <= stored
        assert stored & deleted == set()
        assert len(stored - set(graphs)) <= round_number + 1
        for graph_id in sorted(stored)[-4:]:
            seed = check_seeded(database, graph_id, n_edges)
            assert graphs.get(graph_id, seed) == seed
            notes = [note.text for note in database.workspace(graph_id).notes]
            assert notes == [f"note {seed}"] or (graph_id not in noted and notes == [])
        database.close()
    assert len(graphs) >= 10


def test_a_file_whose_making_was_killed_can_be_opened(tmp_path: Path) -> None:
    choice = random.Random(1)
    for number in range(8):
        path = tmp_path / f"{number}.sqlite3"
        ours, theirs = context.Pipe(duplex=False)
        process = start(write_for_ever, path, choice.choice(["wal", "delete"]), 0, 300, theirs)
        theirs.close()
        while not path.exists():  # from the first byte of the file on
            time.sleep(0.001)
        time.sleep(choice.uniform(0, 0.04))
        process.kill()
        process.join()
        ours.close()
        database = GraphDatabase(path)
        add_seeded(database, 999)
        assert database.verify() == []
        database.close()
