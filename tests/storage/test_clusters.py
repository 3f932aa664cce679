"""Clusterings on disk: every iteration, both variants of the mapping file, and what is damaged or foreign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.cluster_mapping import parse_mapping, read_mapping, write_mapping
from storage.clusters import (
    ALONE,
    DATA,
    UNKNOWN,
    Clustering,
    ClusterWork,
    Manifest,
    unfinished,
    write_clustering,
)
from storage.errors import InvalidValueError, SettingsDifferError, StorageError, StoreDamagedError
from storage.run_directory import RunDirectory

SITES = (("0.attn.q", 4), ("0.attn.k", 3))
PATHS = {"0.attn.q": "h.0.attn.q_proj", "0.attn.k": "h.0.attn.k_proj"}


def manifest(**change: Any) -> Manifest:
    fields: dict[str, Any] = {
        "kind": "computed",
        "sites": SITES,
        "settings": {"seed": "0"},
        "n_positions": 100,
        "iteration": 2,
        "notes": "made by hand",
        "provenance": {"created": "2026-01-01"},
    }
    return Manifest(**(fields | change))


def arrays(**change: Any) -> dict[str, np.ndarray]:
    """Components 0, 2, 3, 5, 6 of seven: 3 joins 2, then 6 joins 5, then 5 joins 0."""
    found: dict[str, Any] = {
        "component": [0, 2, 3, 5, 6],
        "active": [10, 20, 30, 40, 50],
        "merges": [[1, 2], [3, 4], [0, 3]],
        "joint": [15, 35, 5],
        "active_after": [35, 55, 60],
    }
    lengths = {"cost": [-2.0, -1.0, 3.0], "description_length": [10.0, 8.0, 7.0, 10.0]}
    whole = {name: np.array(value, np.int64) for name, value in (found | change).items()}
    return whole | {name: np.array(value) for name, value in lengths.items()}


@pytest.fixture
def clustering(tmp_path: Path) -> Clustering:
    subrun = write_clustering(tmp_path, manifest(), arrays())
    return Clustering.load(tmp_path / "clusters" / subrun)


# ---- iterations ---------------------------------------------------------------------------------


def test_every_iteration_can_be_read(clustering: Clustering) -> None:
    u, a = UNKNOWN, ALONE
    expected = [[a, u, a, a, u, a, a], [a, u, 2, 2, u, a, a], [a, u, 2, 2, u, 5, 5], [0, u, 2, 2, u, 0, 0]]
    assert [clustering.at(t).cluster.tolist() for t in range(4)] == expected
    assert clustering.at().iteration == 2
    last = clustering.at(3)
    assert (last.numbers.tolist(), last.sizes.tolist()) == ([0, 2], [3, 2])
    assert last.active is not None
    assert last.active.tolist() == [60, 35]
    assert (last.n_alone, last.n_unknown, last.description_length) == (0, 2, 10.0)
    assert last.members(0).tolist() == [0, 5, 6]
    assert last.members(ALONE).tolist() == last.members(7).tolist() == []
    assert clustering.keys[5] == "0.attn.k:1"


@pytest.mark.parametrize("iteration", [-1, 4])
def test_an_iteration_that_is_not_stored_is_refused(clustering: Clustering, iteration: int) -> None:
    with pytest.raises(InvalidValueError, match="iterations are 0 to 3"):
        clustering.at(iteration)


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_any_history_replays_to_what_was_merged(n: int, random: Any) -> None:
    groups = {i: [i] for i in range(n)}
    merges: list[list[int]] = []
    for _ in range(random.randrange(n)):
        first, second = sorted(random.sample(sorted(groups), 2))
        groups[first] += groups.pop(second)
        merges.append([first, second])
    t = len(merges)
    history = {
        "component": np.arange(n),
        "active": np.ones(n, np.int64),
        "merges": np.array(merges, np.int64).reshape(t, 2),
        "joint": np.ones(t, np.int64),
        "active_after": np.arange(t),
        "cost": np.zeros(t),
        "description_length": np.zeros(t + 1),
    }
    found = Clustering("s", manifest(sites=(("0.attn.q", n),)), history).at(t)
    expected = np.full(n, ALONE)
    for name, members in groups.items():
        if len(members) > 1:
            expected[members] = name
    assert np.array_equal(found.cluster, expected)
    latest = {first: at for at, (first, _) in enumerate(merges)}
    assert found.active is not None
    assert found.active.tolist() == [latest[number] for number in found.numbers.tolist()]


# ---- damage -------------------------------------------------------------------------------------


def test_a_damaged_file_is_named(clustering: Clustering, tmp_path: Path) -> None:
    path = tmp_path / "clusters" / clustering.subrun
    content = (path / DATA).read_bytes()
    (path / DATA).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreDamagedError, match="does not match the checksum"):
        Clustering.load(path)
    (path / DATA).unlink()
    with pytest.raises(StoreDamagedError, match="cannot be read"):
        Clustering.load(path)
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("made by hand", "changed by hand"))
    with pytest.raises(StoreDamagedError, match="altered"):
        Clustering.load(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"merges": [[2, 1], [3, 4], [0, 3]]},  # the larger names it
        {"merges": [[1, 2], [2, 4], [0, 3]]},  # into a group that is gone
        {"merges": [[1, 2], [0, 2], [0, 3]]},  # merged away twice
        {"merges": [[1, 2], [3, 9], [0, 3]]},  # no such group
        {"merges": [[1, 2], [3, 4]]},  # a merge is missing
        {"component": [0, 2, 3, 5, 7]},  # not in the run
        {"component": [0, 3, 2, 5, 6]},
        {"active": [1, 2]},
    ],
)
def test_a_history_that_cannot_be_is_never_written(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"its|should"):
        write_clustering(tmp_path, manifest(), arrays(**wrong))


def test_a_clustering_of_another_model_is_refused(run_copy: RunDirectory) -> None:
    write_clustering(run_copy.path, manifest(), arrays())
    with pytest.raises(StoreDamagedError, match="another model"):
        run_copy.clustering()
    errors = [check.error for check in run_copy.verify() if check.path.parent.name == "clusters"]
    assert len(errors) == 1
    assert errors[0] is not None


# ---- the published mapping ----------------------------------------------------------------------


def test_the_newer_variant(clustering: Clustering) -> None:
    assert write_mapping(clustering, "toy", PATHS) == {
        "clustering_run_id": clustering.subrun,
        "notes": "made by hand",
        "pd_run": "toy",
        "iteration": 2,
        "clusters": {
            "0.attn.q:0": None,
            "0.attn.q:2": 2,
            "0.attn.q:3": 2,
            "0.attn.k:1": 5,
            "0.attn.k:2": 5,
        },
    }


def test_the_older_variant(clustering: Clustering) -> None:
    document = write_mapping(clustering, "toy", PATHS, variant="older", iteration=1)
    assert list(document) == ["ensemble_id", "notes", "spd_run", "n_iterations", "run_idx", "clusters"]
    assert (document["n_iterations"], document["run_idx"]) == (1, 0)
    assert document["clusters"]["h.0.attn.q_proj:3"] == 2
    assert document["clusters"]["h.0.attn.k_proj:1"] is None


@pytest.mark.parametrize("variant", ["newer", "older"])
def test_what_was_exported_is_imported_the_same(clustering: Clustering, tmp_path: Path, variant: Any) -> None:
    document = json.loads(json.dumps(write_mapping(clustering, "toy", PATHS, variant=variant)))
    mapping = read_mapping(document, SITES, PATHS)
    assert (mapping.variant, mapping.notes, mapping.unmatched) == (variant, "made by hand", ())
    kept = {"component": mapping.component, "cluster": mapping.cluster}
    subrun = write_clustering(
        tmp_path, manifest(kind="imported", iteration=0, n_positions=0, settings={}), kept
    )
    found = Clustering.load(tmp_path / "clusters" / subrun)
    assert found.at().cluster.tolist() == clustering.at().cluster.tolist()
    assert found.at().active is None
    assert found.at().description_length is None
    assert found.iterations == 0


def newer(clusters: Any, **more: Any) -> dict[str, Any]:
    fields = {"clustering_run_id": "c", "notes": "", "pd_run": "p", "iteration": 3, "clusters": clusters}
    return fields | more


def test_null_is_alone_and_not_mentioned_is_unknown(tmp_path: Path) -> None:
    document = newer({"0.attn.q:1": 70_000, "0.attn.k:0": 70_000, "0.attn.k:1": None, "0.attn.k:2": 4})
    mapping = read_mapping(document | {"clusters": document["clusters"] | {"9.mlp.up:0": 1}}, SITES, PATHS)
    assert mapping.unmatched == ("9.mlp.up:0",)
    kept = {"component": mapping.component, "cluster": mapping.cluster}
    subrun = write_clustering(tmp_path, manifest(kind="imported", iteration=0), kept)
    # A cluster of one member is alone, whatever number it bears.
    assert Clustering.load(tmp_path / "clusters" / subrun).at().cluster.tolist() == [
        UNKNOWN, 70_000, UNKNOWN, UNKNOWN, 70_000, ALONE, ALONE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ([], "JSON object"),
        ({"clusters": {}}, "does not have the fields"),
        (newer({}, ensemble_id=1), "does not have the fields"),
        (newer([]), "not an object"),
        (newer({}), "no component"),
        (newer({"9.mlp.up:0": 1}), "names 9.mlp.up:0"),
        (newer({"0.attn.q:0": -1}), "is '-1'"),
        (newer({"0.attn.q:0": True}), "is 'True'"),
        (newer({"0.attn.q:0": 1.5}), "is '1.5'"),
        (newer({"0.attn.q:0": 2**60}), "is '1152921504606846976'"),
        (newer({"0.attn.q:0": 1, "h.0.attn.q_proj:0": 1}), "mapped twice"),
        (newer({"0.attn.q:0": 1}) | {"notes": "\ud800"}, "half a character"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_a_reason(document: object, what: str) -> None:
    with pytest.raises(InvalidValueError, match=what):
        read_mapping(document, SITES, PATHS)


def test_a_component_that_a_file_names_twice_is_not_taken_for_either() -> None:
    text = json.dumps(newer({"0.attn.q:0": 1, "0.attn.q:1": 2}))
    assert parse_mapping(text.encode()) == json.loads(text)
    with pytest.raises(InvalidValueError, match=r"0\.attn\.q:1 is mapped twice"):
        parse_mapping(text.replace('"0.attn.q:0"', '"0.attn.q:1"').encode())


# ---- interrupted work ---------------------------------------------------------------------------


def test_work_is_kept_resumed_and_removed(tmp_path: Path) -> None:
    work = ClusterWork(tmp_path, {"seed": "1"}, resume=False)
    assert work.read("merges") is None
    work.save("merges", {"first": np.arange(3)}, {"random_state": {"state": 2**100}})
    with pytest.raises(StorageError, match="another process"):
        ClusterWork(tmp_path, {"seed": "1"}, resume=True)
    work.close()
    assert unfinished(tmp_path) == [work.path]
    with pytest.raises(SettingsDifferError, match=r"\(seed\)"):
        ClusterWork(tmp_path, {"seed": "2"}, resume=True)
    again = ClusterWork(tmp_path, {"seed": "1"}, resume=True)
    found = again.read("merges")
    assert found is not None
    assert (found[0]["first"].tolist(), found[1]) == ([0, 1, 2], {"random_state": {"state": 2**100}})
    file = again.path / "merges.state"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreDamagedError, match="is damaged"):
        again.read("merges")
    again.close()
    anew = ClusterWork(tmp_path, {"seed": "2"}, resume=False)
    assert anew.read("merges") is None
    anew.finish()
    assert unfinished(tmp_path) == []
