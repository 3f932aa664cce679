"""Clusters of a run's components, as wire models, as filters of the table, and as files."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from backend.cluster_schemas import (
    Cluster,
    ClusteringDetail,
    ClusteringHistory,
    ClusteringList,
    ClusteringSummary,
    DamagedClustering,
    Mapping,
)
from backend.errors import ServiceError, error_body
from backend.service.run import Run
from backend.service.subruns import chosen
from backend.service.timing import Stopwatch
from storage.cluster_mapping import ReadMapping, Variant, read_mapping, write_mapping
from storage.clusters import ALONE, UNKNOWN, Clustering, Manifest, write_clustering
from storage.errors import InvalidValueError, StorageError
from storage.run_directory import RunDirectory

#: What the table can be filtered by: a cluster's number, or one of two words.
CLUSTER_PATTERN = "^(?:alone|unknown|0|[1-9][0-9]{0,15})$"


def find(run: Run, subrun: str | None = None) -> Clustering:
    """A clustering, by default the newest; raises a 404 or a 409 if there is none."""
    name = chosen(run.name, "clusters", run.directory.clustering_subruns(), subrun)
    manifest = run.directory.path / "clusters" / name / "manifest.json"
    stamp = manifest.stat().st_mtime_ns if manifest.is_file() else 0
    return _load(run.directory.path, name, run.digest, stamp)


@lru_cache(maxsize=8)
def _load(path: Path, subrun: str, _digest: str, _stamp: int) -> Clustering:
    """A published subrun does not change; another run at the same place has another digest."""
    return RunDirectory.open(path).clustering(subrun)


def list_clusterings(run: Run) -> ClusteringList:
    """All clusterings; a damaged one is listed with what is wrong."""
    watch = Stopwatch()
    found: list[ClusteringSummary] = []
    damaged: list[DamagedClustering] = []
    for name in run.directory.clustering_subruns():
        try:
            found.append(_summary(find(run, name)))
        except StorageError as error:
            damaged.append(DamagedClustering(subrun=name, error=error_body(error)))
    return ClusteringList(run=run.name, clusterings=found, damaged=damaged, seconds=watch.seconds)


def _summary(clustering: Clustering) -> ClusteringSummary:
    manifest = clustering.manifest
    return ClusteringSummary(
        subrun=clustering.subrun,
        kind=manifest.kind,
        created=manifest.provenance.get("created", ""),
        notes=manifest.notes,
        n_positions=manifest.n_positions,
        iterations=clustering.iterations,
        default_iteration=manifest.iteration,
        settings=manifest.settings,
        provenance=manifest.provenance,
    )


def detail(run: Run, subrun: str | None, iteration: int | None) -> ClusteringDetail:
    """The clusters at one iteration; raises a 422 beyond what is stored."""
    watch = Stopwatch()
    clustering = find(run, subrun)
    grouping = clustering.at(iteration)
    keys = clustering.keys
    members: dict[int, list[str]] = {int(number): [] for number in grouping.numbers}
    alone: list[str] = []
    for key, number in zip(keys, grouping.cluster.tolist(), strict=True):
        if number >= 0:
            members[number].append(key)
        elif number == ALONE:
            alone.append(key)
    active = grouping.active
    return ClusteringDetail(
        run=run.name,
        clustering=_summary(clustering),
        iteration=grouping.iteration,
        description_length=grouping.description_length,
        clusters=[
            Cluster(
                cluster=number,
                size=len(members[number]),
                density=None if active is None else float(active[i] / clustering.manifest.n_positions),
                members=members[number],
            )
            for i, number in enumerate(grouping.numbers.tolist())
        ],
        alone=alone,
        n_unknown=grouping.n_unknown,
        seconds=watch.seconds,
    )


def history(run: Run, subrun: str | None) -> ClusteringHistory:
    """Every merge of a clustering."""
    watch = Stopwatch()
    clustering = find(run, subrun)
    arrays = clustering.arrays
    computed = clustering.manifest.kind == "computed"
    merges = arrays["component"][arrays["merges"]] if computed else np.zeros((0, 2), np.int64)
    return ClusteringHistory(
        run=run.name,
        subrun=clustering.subrun,
        description_length=arrays["description_length"].tolist() if computed else [],
        cluster=merges[:, 0].tolist(),
        merged=merges[:, 1].tolist(),
        joint=arrays["joint"].tolist() if computed else [],
        cost=arrays["cost"].tolist() if computed else [],
        seconds=watch.seconds,
    )


def keep(run: Run, cluster: str, subrun: str | None, iteration: int | None) -> np.ndarray:
    """Which components are in a cluster, alone or unknown, [n] bool; raises a 404 for no such cluster."""
    grouping = find(run, subrun).at(iteration)
    words: dict[str, int] = {"alone": ALONE, "unknown": UNKNOWN}
    if not re.fullmatch(CLUSTER_PATTERN, cluster):
        raise InvalidValueError(f"{cluster[:40]!r} is no cluster", "write a number, alone or unknown")
    number = words[cluster] if cluster in words else int(cluster)
    found = grouping.cluster == number
    if cluster not in words and not found.any():
        raise ServiceError(
            404,
            "unknown_cluster",
            f"There is no cluster {cluster} at iteration {grouping.iteration}",
            "A cluster has two members or more; ask for the list of clusters at this iteration.",
        )
    return found


def export(run: Run, subrun: str | None, iteration: int | None, variant: Variant) -> Mapping:
    """The published mapping file."""
    paths = {site.address: site.module_path for site in run.info.sites}
    return write_mapping(find(run, subrun), run.name, paths, variant=variant, iteration=iteration)


def import_document(
    run: RunDirectory, document: object, *, file_name: str, notes: str | None = None
) -> tuple[str, ReadMapping]:
    """Add a mapping to a run: the new subrun, and what was read. Raises :class:`InvalidValueError`."""
    from backend.pipelines.common import provenance  # it needs torch

    counted = {site.parsed: site.n_components for site in run.info.sites}
    sites = tuple((str(address), counted[address]) for address in sorted(counted))
    paths = {site.address: site.module_path for site in run.info.sites}
    mapping = read_mapping(document, sites, paths)
    kind: Literal["imported"] = "imported"
    manifest = Manifest(
        kind=kind,
        sites=sites,
        settings={},
        n_positions=0,
        iteration=0,
        notes=mapping.notes if notes is None else notes,
        provenance=provenance(
            command="tributary clusters import",
            file=file_name,
            variant=mapping.variant,
            unmatched=str(len(mapping.unmatched)),
            **{f"file.{key}": value for key, value in mapping.described.items()},
        ),
    )
    arrays = {"component": mapping.component, "cluster": mapping.cluster}
    return write_clustering(run.path, manifest, arrays), mapping
