"""Graphs whose every number follows from one seed, and processes that write them until they are killed."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from storage.database import MIGRATIONS
from storage.errors import StorageError
from storage.graph_records import GraphRecord, Note, Workspace
from storage.graph_schema import APPLICATION_ID
from storage.graphs import GraphDatabase
from storage.journal import Mode

#: Processes begin from one that has imported all of it, so that tests can afford many.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.storage.graph_support", "alembic.command", "storage.migrations"])

RUN, DIGEST = "demo", "d" * 64


def columns(seed: int, n_nodes: int = 40, n_edges: int = 300) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    nodes: dict[str, Any] = {
        "addresses": ["embed", "0.attn.q", f"{seed}.mlp.up"],
        "site": rng.integers(0, 3, n_nodes).astype(np.int16),
        "index": rng.integers(-2, 6144, n_nodes).astype(np.int32),
        "ci": np.where(rng.random(n_nodes) < 0.3, np.nan, rng.random(n_nodes)).astype(np.float32),
    }
    edges = {
        "source": rng.integers(0, n_nodes, n_edges).astype(np.uint32),
        "target": np.sort(rng.integers(0, n_nodes, n_edges)).astype(np.uint32),
        "attr": rng.standard_normal(n_edges).astype(np.float32),
        "attr_abs": rng.standard_normal(n_edges).astype(np.float32),
    }
    return nodes, edges


def add_seeded(
    database: GraphDatabase, seed: int, n_edges: int = 300, prompt_id: int | None = None
) -> GraphRecord:
    if prompt_id is None:
        prompt_id = database.add_prompt(RUN, DIGEST, [seed, seed + 1], f"prompt {seed}")[0].id
    nodes, edges = columns(seed, n_edges=n_edges)
    return database.add_graph(prompt_id, {"seed": seed}, None, {"by": "test"}, {"seed": seed}, nodes, edges)


def check_seeded(database: GraphDatabase, graph_id: int, n_edges: int = 300) -> int:
    """Every number of a stored graph is the one its seed gives; the seed."""
    record = database.graph(graph_id)
    seed = record.summary["seed"]
    assert record.settings == {"seed": seed}
    nodes, edges = columns(seed, n_edges=n_edges)
    same(database.graph_nodes(graph_id), nodes)
    same(database.graph_edges(graph_id), edges)
    return seed


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        if isinstance(values, list):
            assert found[name] == values
        else:
            assert found[name].dtype == values.dtype
            assert found[name].tobytes() == values.tobytes()


def make_older(path: Path, version: str) -> None:
    """A file as a program of that version would have made it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with create_engine(f"sqlite:///{path}").begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


# ---- what the processes do ----------------------------------------------------------------------


def write_for_ever(path: Path, journal: Mode, first_seed: int, n_edges: int, confirm: Connection) -> None:
    """Add graphs, note on them, delete some; tell of each only after it was confirmed."""
    database = GraphDatabase(path, journal)
    for seed in range(first_seed, first_seed + 10**6):
        graph = add_seeded(database, seed, n_edges)
        confirm.send(("added", graph.id, seed))
        version = database.save_workspace(graph.id, 0, Workspace(notes=(Note("", f"note {seed}"),)))
        confirm.send(("noted", graph.id, version))
        if seed % 3 == 0:
            confirm.send(("deleting", graph.prompt_id, graph.id))
            database.delete_prompt(graph.prompt_id)
            confirm.send(("deleted", graph.prompt_id, graph.id))


def write_some(path: Path, first_seed: int, threads: int, each: int, answer: Connection) -> None:
    """Several threads write at once; sends what was confirmed, and every error."""
    database = GraphDatabase(path)
    begin = threading.Barrier(threads)

    def write(number: int) -> list[tuple[int, int]]:
        begin.wait()
        seeds = range(first_seed + number * each, first_seed + (number + 1) * each)
        return [(add_seeded(database, seed).id, seed) for seed in seeds]

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(write, number) for number in range(threads)]
    database.close()
    errors = [repr(future.exception()) for future in futures if future.exception()]
    answer.send(([pair for future in futures if not future.exception() for pair in future.result()], errors))


def open_and_add(path: Path, seed: int, begin: Any, answer: Connection) -> None:
    """Open a file that others open at the same moment, and ask for the same graph as they do."""
    begin.wait()
    try:
        database = GraphDatabase(path)
        answer.send((add_seeded(database, seed).id, database.journal))
    except StorageError as error:
        answer.send(repr(error))


def serve(path: Path, requests: Connection) -> None:
    """A second server: does what it is asked for until asked for nothing."""
    database = GraphDatabase(path)
    while (request := requests.recv()) is not None:
        name, arguments = request
        try:
            requests.send(getattr(database, name)(*arguments))
        except StorageError as error:
            requests.send(error)
    database.close()


def start(target: Callable[..., None], *arguments: Any) -> Any:
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process
