"""The components of a run: the table, cards, clusters, attributions over the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from backend.client.part import RunPart
from backend.cluster_schemas import ClusteringDetail, ClusteringList
from backend.schemas import (
    AttributionValue,
    BatchResponse,
    ComponentCard,
    ComponentPage,
    ComponentSort,
    EntryList,
    Labelled,
    Metric,
    Sign,
    TokenPage,
)


class ComponentsOfRun(RunPart):
    """What there is, and who drives whom over the corpus."""

    def components(
        self,
        *,
        site: str | None = None,
        q: str | None = None,
        fires_on: str | None = None,
        min_density: float | None = None,
        max_density: float | None = None,
        min_mean_ci: float | None = None,
        max_mean_ci: float | None = None,
        label: str | None = None,
        labelled: Labelled | None = None,
        strongest_source: str | None = None,
        strongest_target: str | None = None,
        cluster: str | None = None,
        clustering: str | None = None,
        iteration: int | None = None,
        sort: ComponentSort = "key",
        cursor: str | None = None,
        limit: int = 200,
    ) -> ComponentPage:
        """One page of the table of components; ``next_cursor`` of a page asks for the next."""
        return self._client.read(
            ComponentPage,
            f"{self._path}/components",
            site=site,
            q=q,
            fires_on=fires_on,
            min_density=min_density,
            max_density=max_density,
            min_mean_ci=min_mean_ci,
            max_mean_ci=max_mean_ci,
            label=label,
            labelled=labelled,
            strongest_source=strongest_source,
            strongest_target=strongest_target,
            cluster=cluster,
            clustering=clustering,
            iteration=iteration,
            sort=sort,
            cursor=cursor,
            limit=limit,
        )

    def card(
        self, key: str, *, metric: Metric = "attr", k: int = 10, raw: bool = False, subrun: str | None = None
    ) -> ComponentCard:
        return self._client.read(
            ComponentCard, f"{self._path}/components/{key}", metric=metric, k=k, raw=raw, subrun=subrun
        )

    def cards(self, keys: Sequence[str], *, metric: Metric = "attr", k: int = 5) -> BatchResponse:
        """Up to 100 cards in one request."""
        body = {"keys": list(keys), "metric": metric, "k": k}
        return self._client.send(BatchResponse, "POST", f"{self._path}/components:batch", body)

    def clusterings(self) -> ClusteringList:
        """The clusterings of the run's components, newest first."""
        return self._client.read(ClusteringList, f"{self._path}/clusters")

    def clusters(self, iteration: int | None = None, *, clustering: str = "newest") -> ClusteringDetail:
        """Clusters with their members after so many merges, by default as they are shown on the page."""
        return self._client.read(ClusteringDetail, f"{self._path}/clusters/{clustering}", iteration=iteration)

    def sources(self, key: str, **options: Any) -> EntryList:
        """Strongest sources over the corpus; options: metric, sign, k, raw, subrun."""
        return self._entries(key, "sources", **options)

    def targets(self, key: str, **options: Any) -> EntryList:
        return self._entries(key, "targets", **options)

    def _entries(
        self,
        key: str,
        direction: Literal["sources", "targets"],
        *,
        metric: Metric = "attr",
        sign: Sign = "positive",
        k: int = 10,
        raw: bool = False,
        subrun: str | None = None,
    ) -> EntryList:
        path = f"{self._path}/components/{key}/{direction}"
        return self._client.read(EntryList, path, metric=metric, sign=sign, k=k, raw=raw, subrun=subrun)

    def attribution(
        self, source: str, target: str, *, metric: Metric = "attr", raw: bool = False
    ) -> AttributionValue:
        """One edge over the corpus."""
        path = f"{self._path}/attribution"
        return self._client.read(AttributionValue, path, source=source, target=target, metric=metric, raw=raw)

    def tokens(self, q: str = "", limit: int = 50) -> TokenPage:
        return self._client.read(TokenPage, f"{self._path}/tokens", q=q, limit=limit)
