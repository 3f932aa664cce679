"""``tributary cluster`` and ``tributary clusters`` on a toy run: what is written, and interruptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.cli import run as tributary
from backend.pipelines import cluster
from compute.clustering import MembershipCollector, Merger
from storage.clusters import ALONE, UNKNOWN, Clustering, unfinished
from storage.run_directory import RunDirectory
from tests.support.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_tiny_run(tmp_path_factory.mktemp("clusters") / "toy", attributions=False)


def make(run: RunDirectory, **options: Any) -> Clustering:
    chosen: dict[str, Any] = {"positions": 300, "per_window": 8, "threshold": 0.2}
    cluster.command(str(run.path), **(chosen | options))
    return run.clustering()


def same(a: Clustering, b: Clustering) -> bool:
    return a.arrays.keys() == b.arrays.keys() and all(
        np.array_equal(a.arrays[n], b.arrays[n]) for n in a.arrays
    )


def test_a_run_is_clustered_to_the_end_and_shown_at_the_minimum(
    toy: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    found = make(toy)
    lengths = found.arrays["description_length"]
    assert len(lengths) == found.iterations + 1 == len(found.arrays["component"])
    assert found.manifest.iteration == int(lengths.argmin())
    assert np.diff(lengths) == pytest.approx(found.arrays["cost"], abs=1e-9)
    assert found.manifest.n_positions >= 300
    assert found.manifest.settings["model_sha256"] == toy.info.files["model.safetensors"]
    assert (found.arrays["active"] > 0).all()
    grouping = found.at()
    assert ((grouping.cluster == UNKNOWN).sum(), len(grouping.cluster)) == (
        toy.info.n_components - len(found.arrays["component"]),
        toy.info.n_components,
    )
    assert unfinished(toy.path) == []
    assert "bits a position" in capsys.readouterr().err
    assert same(make(toy), found)


def test_iterations_stop_it_early_and_rare_components_are_left_out(toy: RunDirectory) -> None:
    everything = make(toy)
    found = make(toy, iterations=3, least=150, notes="three")
    assert found.iterations == found.manifest.iteration == 3
    assert found.manifest.notes == "three"
    assert (found.arrays["active"] >= 150).all()
    assert 3 < len(found.arrays["component"]) < len(everything.arrays["component"])
    assert (found.at(0).cluster != ALONE).sum() == found.at(0).n_unknown


@pytest.mark.parametrize("choice", ["lowest", "range", "mcmc"])
def test_interrupted_in_either_phase_it_ends_as_if_it_were_not(
    toy: RunDirectory, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"choice": choice, "seed": 3, "temperature": 0.1, "checkpoint_seconds": 0.0}
    whole = make(toy, **options)

    def interrupt(owner: type, name: str, after: int) -> None:
        real, calls = getattr(owner, name), iter(range(after))

        def stopped(*arguments: Any) -> Any:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                make(toy, resume=True, **options)
        assert unfinished(toy.path)

    interrupt(MembershipCollector, "add", 2)
    interrupt(Merger, "step", 5)
    interrupt(Merger, "step", 4)
    with pytest.raises(Exception, match="holds interrupted work"):
        make(toy, **options)
    with pytest.raises(Exception, match=r"other settings \(seed\)"):
        make(toy, resume=True, **(options | {"seed": 4}))
    found = make(toy, resume=True, **options)
    assert same(found, whole)
    assert found.subrun != whole.subrun


def test_the_mapping_goes_out_and_comes_back(
    toy: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = make(toy)
    capsys.readouterr()
    assert tributary(["clusters", "export", str(toy.path), "--iteration", "4"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["iteration"] == 4
    file = tmp_path / "older.json"
    export = ["clusters", "export", str(toy.path), "--variant", "older", "--output", str(file)]
    assert tributary(export) == 0
    paths = {site.module_path for site in toy.info.sites}
    assert {key.rpartition(":")[0] for key in json.loads(file.read_text())["clusters"]} <= paths
    content = json.loads(file.read_text())
    content["clusters"]["no.such.layer:0"] = None
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert tributary(["clusters", "import", str(toy.path), str(file), "--notes", "back again"]) == 0
    words = capsys.readouterr().err
    assert "1 of its keys are not in this run, such as no.such.layer:0" in words
    after = toy.clustering()
    assert after.manifest.kind == "imported"
    assert after.manifest.notes == "back again"
    assert np.array_equal(after.at().cluster, before.at().cluster)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cluster", "--choice", "best"), "--choice best is not known"),
        (("cluster", "--temperature", "0"), "above 0"),
        (("cluster", "--threshold", "1"), "no component is active"),
        (("clusters export", "--iteration", "100000"), "is not stored"),
        (("clusters export", "--subrun", "20000101-000000"), "no clusters called"),
        (("clusters import", "nothing.json"), "cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    toy: RunDirectory, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(toy, iterations=1)
    capsys.readouterr()
    command, *rest = arguments
    assert tributary([*command.split(), str(toy.path), *rest]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tributary: ")
    assert said in error
