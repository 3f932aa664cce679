"""Runs are found anew, opened late and kept; starting the server costs nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.settings import Settings
from storage.errors import RunError
from storage.run_directory import RunDirectory
from tests.backend.conftest import served
from tests.support.tiny_run import make_tiny_run, tiny_decomposition, write_random_attributions

#: Opens the application and lists the runs, noting every file that is opened on the way.
_START = """
import sys
opened = []
sys.addaudithook(lambda event, details: opened.append(str(details[0])) if event == "open" else None)
from fastapi.testclient import TestClient
from backend.app import create_app
from backend.settings import Settings
client = TestClient(create_app(Settings(runs=sys.argv[1])), base_url="http://127.0.0.1")
assert client.get("/api/health").status_code == 200
assert len(client.get("/api/runs").json()["runs"]) >= 3
client.get("/api/runs/llama").raise_for_status()
assert "torch" not in sys.modules, "torch was imported"
read = [name for name in opened if name.endswith((".bin", "tokens.npy"))]
assert not read, read
client.get("/api/runs/llama/components/0.glu.down:1").raise_for_status()
assert "torch" not in sys.modules, "torch was imported by a query"
assert [name for name in opened if name.endswith(".bin")]
"""


def test_starting_reads_no_block_and_needs_no_torch(runs_folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", _START, str(runs_folder)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_new_runs_and_subruns_appear(tmp_path: Path, page: Path) -> None:
    with served(Settings(runs=tmp_path, page=page)) as client:
        own = [run["name"] for run in client.get("/api/runs").json()["runs"] if run["name"] != "demo"]
        assert own == []
        run = make_tiny_run(tmp_path / "new", attributions=False)
        assert not client.get("/api/runs/new").json()["has_attributions"]
        assert client.get("/api/runs/new/components/0.attn.o:1/sources").status_code == 409
        decomposition = tiny_decomposition()
        names = [write_random_attributions(run, decomposition, seed=0)]
        first = client.get("/api/runs/new/components/0.attn.o:1/sources").json()
        names.append(write_random_attributions(run, decomposition, seed=1))
        second = client.get("/api/runs/new/components/0.attn.o:1/sources").json()
        assert [first["subrun"], second["subrun"]] == names
        assert first["entries"][0]["value"] != second["entries"][0]["value"]
        again = client.get("/api/runs/new/components/0.attn.o:1/sources", params={"subrun": names[0]}).json()
        assert again["entries"] == first["entries"]
        detail = client.get("/api/runs/new").json()
        assert detail["subruns"] == [info["subrun"] for info in detail["subrun_infos"]] == names[::-1]
        assert detail["attributions"] == detail["subrun_infos"][0]


@pytest.mark.parametrize("damaged", [0, 1])
def test_what_each_subrun_is_where_one_is_damaged(tmp_path: Path, page: Path, damaged: int) -> None:
    run = make_tiny_run(tmp_path / "one", attributions=False)
    decomposition = tiny_decomposition()
    for seed in (0, 1):
        write_random_attributions(run, decomposition, seed=seed)
    newest_first = run.attribution_subruns()
    (run.path / "attributions" / newest_first[damaged] / "manifest.json").write_text("{}")
    with served(Settings(runs=tmp_path, page=page)) as client:
        detail = client.get("/api/runs/one").json()
    assert detail["subruns"] == newest_first
    assert [info["subrun"] for info in detail["subrun_infos"]] == [newest_first[1 - damaged]]
    assert (detail["attributions"] is None) == (damaged == 0)
    assert [problem["code"] for problem in detail["problems"]] == ["store_damaged"]


def test_a_run_that_is_replaced_is_opened_again(tmp_path: Path, runs_folder: Path, page: Path) -> None:
    shutil.copytree(runs_folder / "llama", tmp_path / "one")
    with served(Settings(runs=tmp_path, page=page)) as client:
        assert client.get("/api/runs/one").json()["family"] == "llama"
        shutil.rmtree(tmp_path / "one")
        shutil.copytree(runs_folder / "gpt2", tmp_path / "one", copy_function=shutil.copy)
        assert client.get("/api/runs/one").json()["family"] == "gpt2"


def test_chosen_runs_only(runs_folder: Path, tmp_path: Path, page: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(runs_folder / "gpt2", elsewhere)
    settings = Settings(runs=runs_folder, only=("llama", str(elsewhere)), page=page)
    with served(settings) as client:
        assert [run["name"] for run in client.get("/api/runs").json()["runs"]] == ["llama", "elsewhere"]
        assert client.get("/api/runs/gpt2").status_code == 404
        assert client.get("/api/runs/elsewhere").json()["family"] == "gpt2"


def test_two_runs_of_one_name_are_refused(runs_folder: Path, tmp_path: Path, page: Path) -> None:
    shutil.copytree(runs_folder / "gpt2", tmp_path / "llama")
    with (
        pytest.raises(RunError, match="two runs are called llama"),
        served(Settings(runs=runs_folder, only=("llama", str(tmp_path / "llama")), page=page)),
    ):
        pass


def test_many_requests_at_once_agree(runs_folder: Path, page: Path) -> None:
    with served(Settings(runs=runs_folder, page=page)) as client:

        def ask(number: int) -> list[object]:
            run = ("llama", "gpt2")[number % 2]
            path = f"/api/runs/{run}/components/{'1.glu.down' if run == 'llama' else '1.mlp.down'}:1/sources"
            return client.get(path).json()["entries"]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, range(64)))
        assert all(entries == found[number % 2] for number, entries in enumerate(found))
        assert found[0] != found[1]


def test_numbers_are_those_on_disk(runs_folder: Path) -> None:
    # Guards the fixture: both runs must have entries for the tests above to mean anything.
    for name in ("llama", "gpt2"):
        assert RunDirectory.open(runs_folder / name).attributions().tokens > 0
