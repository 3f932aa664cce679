"""A toy run with a harvest that keeps enough examples to score by, and a database of label sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.service.library import open_run
from backend.service.run import Run
from storage.graphs import GraphDatabase
from storage.harvest_manifest import HarvestSettings
from storage.label_sets import LabelSets
from storage.run_directory import RunDirectory
from tests.support.model_server import ModelServer, model_server
from tests.support.naive_harvest import write_naive_harvest
from tests.support.tiny_run import make_tiny_run, tiny_decomposition

HARVEST = HarvestSettings(left=3, right=4, n_random=80, n_strongest=8, seed=1, window=32, batch_size=8)
#: Components of the toy run that fire on few tokens.
RARE = ("0.glu.down:1", "0.glu.up:3", "0.glu.down:4")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    directory: RunDirectory = make_tiny_run(folder / "toy", n_components=5)
    vocab = directory.tokenizer().get_vocab_size()
    write_naive_harvest(directory, tiny_decomposition(n_components=5, vocab_size=vocab), HARVEST)
    make_tiny_run(folder / "bare", attributions=False, statistics=False)
    return folder


@pytest.fixture(scope="session")
def toy(runs: Path) -> Run:
    return open_run("toy", runs / "toy")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def sets(tmp_path: Path) -> Iterator[LabelSets]:
    database = GraphDatabase(tmp_path / "t.sqlite3")
    yield database.label_sets
    database.close()
