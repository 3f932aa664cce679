"""Wire models of clusters: groups of components that are needed together.

A component is in a cluster of two or more, *alone* (a cluster of one), or *unknown*: not looked at by
the clustering. A cluster's number is that of its first component among all of the run, sites in order of
their addresses, so that it keeps its number while it grows from one iteration to the next.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from backend.schemas import ErrorBody, Schema


class ClusteringSummary(Schema):
    subrun: str
    kind: Literal["computed", "imported"]
    created: str
    notes: str
    n_positions: int = Field(description="Sampled positions of the text it rests on; 0 where imported")
    iterations: int = Field(description="Merges that are stored; 0 where imported")
    default_iteration: int = Field(
        description="What is shown where no iteration is asked for: by default the shortest description"
    )
    settings: dict[str, str]
    provenance: dict[str, str]


class DamagedClustering(Schema):
    subrun: str
    error: ErrorBody


class ClusteringList(Schema):
    run: str
    clusterings: list[ClusteringSummary] = Field(description="Newest first")
    damaged: list[DamagedClustering]
    seconds: float


class Cluster(Schema):
    cluster: int
    size: int
    density: float | None = Field(
        description="Share of the sampled positions at which any member is active; null where imported"
    )
    members: list[str] = Field(description="Keys of components, in the order of the model")


class ClusteringDetail(Schema):
    """The clusters after a number of merges. Components in neither list are unknown to the clustering."""

    run: str
    clustering: ClusteringSummary
    iteration: int
    description_length: float | None = Field(description="Bits a position; null where imported")
    clusters: list[Cluster] = Field(description="Of two members or more, the largest first")
    alone: list[str] = Field(description="Keys of components that are a cluster of their own")
    n_unknown: int = Field(description="Components that the clustering says nothing about")
    seconds: float


class ClusteringHistory(Schema):
    """Every merge, as columns: the n-th entry is what turned iteration n into n + 1."""

    run: str
    subrun: str
    description_length: list[float] = Field(
        description="Bits a position at every iteration, one more than there are merges; empty where imported"
    )
    cluster: list[int] = Field(description="The cluster that took the other in")
    merged: list[int] = Field(description="The cluster that went into it")
    joint: list[int] = Field(description="Sampled positions at which both were active")
    cost: list[float] = Field(description="Change of the description length, bits a position")
    seconds: float


#: The published mapping of either variant: an object with ``clusters``, key → number or null (alone).
Mapping = dict[str, Any]
