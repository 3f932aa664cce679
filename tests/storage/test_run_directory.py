"""Finding and opening runs: only runs that exist are ever opened, and what is wrong is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compute.address import parse_address
from storage.errors import RunError, StoreDamagedError, UnknownKeyError
from storage.run_directory import RunDirectory, find_runs, known_runs, resolve_run, write_run
from tests.support.tiny_run import make_tiny_run


def test_a_run_is_found_by_name_or_path(run: RunDirectory) -> None:
    folder, name = run.path.parent, run.path.name
    assert find_runs(folder) == [run.path]
    assert known_runs(folder)[name] == run.path
    assert resolve_run(name, folder).path == run.path
    assert resolve_run(run.path, folder.parent).path == run.path
    assert run.info.n_components == sum(site.n_components for site in run.info.sites)
    assert run.tokenizer().get_vocab_size() == run.info.target["vocab_size"]
    assert run.corpus().n_documents == 40
    assert run.evaluation() is None
    assert {check.error for check in run.verify()} == {None}


@pytest.mark.parametrize("name", ["nothing", "../run", "", ".", "..", "run/../run", "/etc", "a\0b"])
def test_names_never_become_paths(run: RunDirectory, name: str) -> None:
    with pytest.raises(RunError, match="there is no run"):
        resolve_run(name, run.path.parent, allow_path=False)


def test_model_tensors_are_views(run: RunDirectory) -> None:
    tensors = run.model_tensors()
    site = run.info.sites[3]
    name = f"components.{site.address}.V"
    assert tensors[name].shape == (site.d_in, site.n_components) == tensors.shape(name)
    assert not tensors[name].flags.writeable
    assert tensors[name] is tensors[name]
    assert {f"components.{s.address}.U" for s in run.info.sites} <= set(tensors)
    with pytest.raises(StoreDamagedError, match=r"model\.safetensors"):
        tensors["components.none.V"]


def test_statistics(run: RunDirectory) -> None:
    statistics = run.statistics()
    address = parse_address("0.attn.q")
    assert statistics.site("ci_sum", address).shape == (run.info.sites[0].n_components,)
    assert statistics.tokens == statistics.token_count.sum()
    with pytest.raises(UnknownKeyError):
        statistics.site("ci_sum", parse_address("7.attn.q"))


def test_a_run_without_results(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "bare", attributions=False, statistics=False)
    assert run.attribution_subruns() == []
    with pytest.raises(RunError, match="no attributions yet"):
        run.attributions()
    with pytest.raises(RunError, match="no statistics yet"):
        run.statistics()


def test_unknown_subruns(run: RunDirectory) -> None:
    for name in ("20000101-000000", "../../secret"):
        with pytest.raises(RunError, match="no attributions called"):
            run.attributions(name)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda _: "", "damaged"),
        (lambda _: "[]", "damaged"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version 2"),
        (lambda text: text.replace('"address": "0.attn.q"', '"address": "0.attn.z"'), "damaged"),
        (lambda text: text.replace('"name"', '"names"'), "damaged"),
    ],
)
def test_a_damaged_description(run_copy: RunDirectory, change, match: str) -> None:
    file = run_copy.path / "run.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(RunError, match=match):
        RunDirectory.open(run_copy.path)


def test_a_damaged_evaluation(run_copy: RunDirectory) -> None:
    (run_copy.path / "evaluation.json").write_text(json.dumps({"tokens": 5}))
    assert run_copy.evaluation() == {"tokens": 5}
    (run_copy.path / "evaluation.json").write_text('{"tokens":')
    with pytest.raises(RunError, match=r"evaluation\.json"):
        run_copy.evaluation()


def test_an_existing_run_is_not_replaced(run: RunDirectory) -> None:
    with pytest.raises(RunError, match="exists already"):
        write_run(run.path, run.info, {"x": np.zeros(1)}, run.tokenizer(), None)


def test_the_storage_room_does_without_torch() -> None:
    code = "import sys, storage.run_directory, storage.merge, storage.compact, storage.writer; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
