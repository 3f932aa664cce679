"""Clusters: groups of components that are needed together, at any iteration of their making."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from backend.cluster_schemas import ClusteringDetail, ClusteringHistory, ClusteringList, Mapping
from backend.dependencies import RunDep
from backend.errors import responses
from backend.service import clusters
from storage.cluster_mapping import Variant

router = APIRouter(prefix="/runs/{run}/clusters", tags=["clusters"])
_ERRORS = responses(404, 409, 422)
_Subrun = Annotated[
    str,
    Path(
        json_schema_extra={"pattern": "^(?:newest|[0-9]{8}-[0-9]{6})$"},
        description="A clustering as listed, or newest",
    ),
]
_Iteration = Annotated[
    int | None, Query(ge=0, description="After so many merges; default: the one that is shown")
]


def _name(subrun: str) -> str | None:
    return None if subrun == "newest" else subrun


@router.get("", name="list", responses=_ERRORS)
def list_all(run: RunDep) -> ClusteringList:
    """The clusterings of a run, newest first; none where none was computed."""
    return clusters.list_clusterings(run)


@router.get("/{subrun}", responses=_ERRORS)
def get(run: RunDep, subrun: _Subrun, iteration: _Iteration = None) -> ClusteringDetail:
    """The clusters at one iteration, with their members."""
    return clusters.detail(run, _name(subrun), iteration)


@router.get("/{subrun}/history", responses=_ERRORS)
def history(run: RunDep, subrun: _Subrun) -> ClusteringHistory:
    """Every merge, and the description length before and after it."""
    return clusters.history(run, _name(subrun))


@router.get("/{subrun}/export", responses=_ERRORS)
def export(
    run: RunDep,
    subrun: _Subrun,
    iteration: _Iteration = None,
    variant: Annotated[
        Variant, Query(description="Fields and layer names of newer or older tools")
    ] = "newer",
) -> Mapping:
    """The published mapping file: component to cluster, null for a component that is alone."""
    return clusters.export(run, _name(subrun), iteration, variant)
