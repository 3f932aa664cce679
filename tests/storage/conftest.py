"""Toy runs, built once and copied by tests that change them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storage.run_directory import RunDirectory
from tests.support.tiny_run import make_tiny_run


@pytest.fixture(scope="session")
def llama_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_tiny_run(tmp_path_factory.mktemp("runs") / "llama", "llama")


@pytest.fixture(scope="session")
def gpt2_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """LayerNorm, biases, learned positions; attr_abs on a part, and into output tokens."""
    path = tmp_path_factory.mktemp("runs") / "gpt2"
    return make_tiny_run(path, "gpt2", output_abs=True, abs_part=True, tied_embeddings=True)


@pytest.fixture(params=["llama", "gpt2"])
def run(request: pytest.FixtureRequest) -> RunDirectory:
    return request.getfixturevalue(f"{request.param}_run")


@pytest.fixture
def run_copy(run: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(run.path, tmp_path / run.path.name)
    return RunDirectory.open(tmp_path / run.path.name)
