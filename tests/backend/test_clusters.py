"""Clusters over HTTP: lists, iterations, the table's filter, the mapping, and what is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from backend.client import Client
from backend.service.clusters import import_document
from backend.settings import Settings
from storage.clusters import Manifest, write_clustering
from storage.run_directory import RunDirectory
from tests.backend.conftest import served
from tests.support.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("clustered")
    make_tiny_run(folder / "bare", attributions=False)
    return make_tiny_run(folder / "toy", attributions=False)


@pytest.fixture(scope="module")
def sites(run: RunDirectory) -> tuple[tuple[str, int], ...]:
    counts = {site.parsed: site.n_components for site in run.info.sites}
    return tuple((str(address), counts[address]) for address in sorted(counts))


@pytest.fixture(scope="module")
def subrun(run: RunDirectory, sites: tuple[tuple[str, int], ...]) -> str:
    """Components 0, 1, 2, 3 and 9 were clustered; 3 joins 1, 2 joins 0, then 1 (with 3) joins 0."""
    manifest = Manifest(
        kind="computed",
        sites=sites,
        settings={"threshold": "0.01"},
        n_positions=200,
        iteration=2,
        notes="by hand",
        provenance={"created": "2026-01-01"},
    )
    arrays = {
        "component": np.array([0, 1, 2, 3, 9]),
        "active": np.array([10, 20, 30, 40, 50]),
        "merges": np.array([[1, 3], [0, 2], [0, 1]]),
        "joint": np.array([15, 5, 1]),
        "active_after": np.array([45, 35, 79]),
        "cost": np.array([-2.0, -1.0, 3.0]),
        "description_length": np.array([10.0, 8.0, 7.0, 10.0]),
    }
    return write_clustering(run.path, manifest, arrays)


@pytest.fixture(scope="module")
def client(run: RunDirectory, subrun: str) -> Iterator[httpx.Client]:
    with served(Settings(runs=run.path.parent)) as client:
        yield client


def get(client: httpx.Client, path: str, status: int = 200, **parameters: Any) -> Any:
    answer = client.get(f"/api/runs/{path}", params=parameters)
    assert answer.status_code == status, answer.text
    return answer.json()


def keys(sites: tuple[tuple[str, int], ...]) -> list[str]:
    return [f"{address}:{i}" for address, count in sites for i in range(count)]


def test_clusterings_are_listed_newest_first(client: httpx.Client, run: RunDirectory, subrun: str) -> None:
    listed = get(client, "toy/clusters")["clusterings"]
    assert [one["subrun"] for one in listed] == run.clustering_subruns()
    assert listed[-1]["subrun"] == subrun
    assert listed[-1]["iterations"] == 3
    assert listed[-1]["default_iteration"] == 2
    assert listed[-1]["n_positions"] == 200
    assert get(client, "bare/clusters")["clusterings"] == []


def test_clusters_at_an_iteration(
    client: httpx.Client, sites: tuple[tuple[str, int], ...], subrun: str
) -> None:
    key = keys(sites)
    found = get(client, f"toy/clusters/{subrun}")
    assert (found["iteration"], found["description_length"]) == (2, 7.0)
    assert found["clusters"] == [
        {"cluster": 0, "size": 2, "density": 35 / 200, "members": [key[0], key[2]]},
        {"cluster": 1, "size": 2, "density": 45 / 200, "members": [key[1], key[3]]},
    ]
    assert found["alone"] == [key[9]]
    assert found["n_unknown"] == len(key) - 5
    last = get(client, f"toy/clusters/{subrun}", iteration=3)
    assert [(one["cluster"], one["size"]) for one in last["clusters"]] == [(0, 4)]
    assert get(client, f"toy/clusters/{subrun}", iteration=0)["clusters"] == []
    assert get(client, f"toy/clusters/{subrun}", 422, iteration=4)["code"] == "bad_input"


def test_the_history_has_every_merge(client: httpx.Client, subrun: str) -> None:
    found = get(client, f"toy/clusters/{subrun}/history")
    assert (found["cluster"], found["merged"]) == ([1, 0, 0], [3, 2, 1])
    assert found["description_length"] == [10.0, 8.0, 7.0, 10.0]
    assert (found["joint"], found["cost"]) == ([15, 5, 1], [-2.0, -1.0, 3.0])


@pytest.mark.parametrize(
    ("cluster", "iteration", "members"),
    [
        ("0", None, [0, 2]),
        ("1", 1, [1, 3]),
        ("0", 3, [0, 1, 2, 3]),
        ("alone", None, [9]),
        ("alone", 0, [0, 1, 2, 3, 9]),
    ],
)
def test_the_table_is_filtered_by_cluster(
    client: httpx.Client,
    sites: tuple[tuple[str, int], ...],
    subrun: str,
    cluster: str,
    iteration: int | None,
    members: list[int],
) -> None:
    parameters: dict[str, Any] = {"cluster": cluster, "clustering": subrun} | (
        {} if iteration is None else {"iteration": iteration}
    )
    page = get(client, "toy/components", **parameters)
    assert [row["key"] for row in page["components"]] == [keys(sites)[i] for i in members]
    assert page["total"] == len(members)


def test_the_python_client_reads_them(client: httpx.Client, subrun: str) -> None:
    with Client(str(client.base_url)) as own:
        run = own.run("toy")
        assert subrun in [one.subrun for one in run.clusterings().clusterings]
        found = run.clusters(3, clustering=subrun)
        assert [(one.cluster, one.size) for one in found.clusters] == [(0, 4)]
        page = run.components(cluster="0", clustering=subrun, iteration=3)
        assert [row.key for row in page.components] == found.clusters[0].members


def test_unknown_is_not_alone(client: httpx.Client, sites: tuple[tuple[str, int], ...], subrun: str) -> None:
    page = get(client, "toy/components", cluster="unknown", clustering=subrun)
    assert page["total"] == len(keys(sites)) - 5
    assert not {row["key"] for row in page["components"]} & {keys(sites)[i] for i in (0, 1, 2, 3, 9)}


def test_pages_of_a_cluster_follow_one_another(client: httpx.Client, subrun: str) -> None:
    first = get(client, "toy/components", cluster="unknown", limit=5)
    second = get(client, "toy/components", cluster="unknown", limit=5, cursor=first["next_cursor"])
    assert not {r["key"] for r in first["components"]} & {r["key"] for r in second["components"]}
    get(client, "toy/components", 404, cluster="alone", cursor=first["next_cursor"])


def test_the_mapping_is_exported_and_imported(client: httpx.Client, run: RunDirectory, subrun: str) -> None:
    older = get(client, f"toy/clusters/{subrun}/export", variant="older")
    assert older.keys() == {"ensemble_id", "notes", "spd_run", "n_iterations", "run_idx", "clusters"}
    newer = get(client, f"toy/clusters/{subrun}/export")
    assert list(newer["clusters"].values()) == [0, 1, 0, 1, None]
    imported, mapping = import_document(run, json.loads(json.dumps(newer)), file_name="m.json")
    assert mapping.unmatched == ()
    # A server that is running finds it.
    found = get(client, "toy/clusters/newest")
    assert (found["clustering"]["subrun"], found["clustering"]["kind"]) == (imported, "imported")
    assert found["description_length"] is None
    assert found["clusters"][0]["density"] is None
    assert [one["members"] for one in found["clusters"]] == [
        one["members"] for one in get(client, f"toy/clusters/{subrun}")["clusters"]
    ]
    assert get(client, "toy/clusters/newest/history")["description_length"] == []


@pytest.mark.parametrize(
    ("path", "parameters", "status", "code"),
    [
        ("bare/clusters/newest", {}, 409, "not_computed"),
        ("bare/components", {"cluster": "1"}, 409, "not_computed"),
        ("toy/clusters/20000101-000000", {}, 404, "unknown_subrun"),
        ("toy/clusters/nonsense", {}, 404, "unknown_subrun"),
        ("toy/components", {"cluster": "1", "clustering": "20000101-000000"}, 404, "unknown_subrun"),
        ("toy/components", {"cluster": "7"}, 404, "unknown_cluster"),
        ("toy/components", {"cluster": "-1"}, 422, "bad_input"),
        ("toy/components", {"cluster": "some"}, 422, "bad_input"),
        ("toy/components", {"cluster": "0", "iteration": 99}, 422, "bad_input"),
        ("nothing/clusters", {}, 404, "unknown_run"),
    ],
)
def test_what_is_not_there_is_said(
    client: httpx.Client, path: str, parameters: dict[str, Any], status: int, code: str
) -> None:
    body = get(client, path, status, **parameters)
    assert body["hint"]
    assert body["code"] == code


def test_a_damaged_clustering_is_named_and_the_others_are_listed(
    client: httpx.Client, run: RunDirectory, subrun: str, tmp_path: Path
) -> None:
    data = run.path / "clusters" / subrun / "clusters.safetensors"
    other = run.path / "clusters" / "20200101-000000"
    other.mkdir()
    (other / "manifest.json").write_bytes((data.parent / "manifest.json").read_bytes())
    (other / data.name).write_bytes(data.read_bytes()[:-8])
    listed = get(client, "toy/clusters")
    assert [one["subrun"] for one in listed["damaged"]] == ["20200101-000000"]
    assert listed["damaged"][0]["error"]["code"] == "store_damaged"
    assert subrun in [one["subrun"] for one in listed["clusterings"]]
    assert get(client, "toy/clusters/20200101-000000", 409)["code"] == "store_damaged"
