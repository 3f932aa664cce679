"""The attribution store: strongest sources and targets of a key, and single edges, from raw sums.

Stored are sums over a corpus, in 16 groups of documents; normalisation, standard errors and the
frozen-norm variant happen at query time. Opening reads the manifest and nothing else; a query reads,
and verifies, the blocks that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from compute.address import OUTPUT, Address, Key
from storage.compact_planes import CompactPlanes
from storage.errors import NotComputedError, StoreDamagedError
from storage.index import FILES as INDEX_FILES
from storage.index import Index, build_index
from storage.keys import KeySpace
from storage.layout import Manifest, Metric, Normalisation, ReadPoint, has_frozen
from storage.manifest import MANIFEST, read_manifest
from storage.model_tensors import ModelTensors
from storage.numbers import Edge, EdgeValue, Numbers
from storage.operands import Operands
from storage.planes import FullPlanes, Planes
from storage.results import Attribution, Entry, TopEntries
from storage.strongest import Report, StrongestEnds, strongest_ends

__all__ = ["Attribution", "AttributionStore", "Entry", "Metric", "Sign", "TopEntries"]

Sign = Literal["positive", "negative"]


class AttributionStore:
    """An attribution subrun that exists. Threads may share one."""

    def __init__(self, path: Path, manifest: Manifest, operands: Operands) -> None:
        self.path = path
        self.manifest = manifest
        self._operands = operands
        self._planes: Planes = (CompactPlanes if manifest.encoding == "compact" else FullPlanes)(
            path, manifest
        )
        self._keys = KeySpace(manifest.settings)
        self._numbers = Numbers(manifest, self._planes, operands, self._keys)
        self._index: Index | None = None
        self._index_read = False

    @classmethod
    def open(cls, path: Path, tensors: ModelTensors | None, model_sha256: str) -> AttributionStore:
        """``tensors`` are those of the run's model, None where it came without.

        Raises :class:`StoreDamagedError` for a damaged manifest, missing or cut files, or a store that
        was made from another model.
        """
        manifest = read_manifest(path)
        if manifest.settings.model_sha256 != model_sha256:
            raise StoreDamagedError(
                path / MANIFEST, "belongs to another model than this run's model.safetensors"
            )
        if manifest.tensors is not None:
            tensors = ModelTensors(path / manifest.tensors)
        has_outputs = any("output" in point.readers for point in manifest.settings.layouts)
        if tensors is None and (manifest.model_tensors or has_outputs):
            raise StoreDamagedError(path / MANIFEST, "needs a model that its run does not have")
        operands = Operands(tensors, manifest.model_tensors, centred_norm=manifest.settings.centred_norm)
        operands.check_fit(manifest.settings)
        return cls(path, manifest, operands)

    # What the store is.

    @property
    def subrun(self) -> str:
        return self.path.name

    @property
    def delta(self) -> Literal["node", "off"]:
        return self.manifest.settings.delta

    @property
    def ci_weighted(self) -> bool:
        return self.manifest.settings.ci_weighted

    @property
    def tokens(self) -> int:
        return self.manifest.tokens

    @property
    def abs_tokens(self) -> int:
        """Tokens that attr_abs rests on; 0 where it was not computed."""
        return self.manifest.abs_tokens

    @property
    def normalisation(self) -> Normalisation:
        return self.manifest.settings.normalisation

    @property
    def n_groups(self) -> int:
        """Groups of documents that standard errors rest on; 0: there are none."""
        return self.manifest.settings.n_groups

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that can be asked for."""
        settings = self.manifest.settings
        stored: tuple[Metric, ...] = ("attr", "attr_abs") if "attr_abs" in settings.metrics else ("attr",)
        return (*stored, "attr_frozen") if has_frozen(settings) else stored

    @property
    def has_output_abs(self) -> bool:
        return self._numbers.has_abs(OUTPUT)

    @property
    def encoding(self) -> Literal["full", "compact"]:
        return self.manifest.encoding

    # Queries.

    def top_sources(
        self, key: Key, k: int, sign: Sign, metric: Metric = "attr", *, normalised: bool = True
    ) -> TopEntries:
        """The ``k`` strongest sources of a component or an output token.

        Raises :class:`UnknownKeyError`, :class:`NotComputedError`, :class:`StoreDamagedError`.
        """
        reader, target = self._keys.target(key)
        self._numbers.check(metric, reader, target)
        point = self._keys.point_of[reader]
        index = self._index_for(k)
        if index is not None:
            chosen, total, total_value = index.ranked(
                f"sources/{reader}", target, k, metric, normalised=normalised, positive=sign == "positive"
            )
        else:
            values = self._numbers.scan_sources(point, reader, target, metric, normalised=normalised)
            chosen, total, total_value = _strongest(values, k, sign)
        edges = [Edge(point, row, reader, target) for row in chosen]
        found = self._numbers.edges(edges, metric, normalised=normalised)
        entries = [
            _entry(point.block_at(edge.row).key(edge.row), edge, value, metric)
            for edge, value in zip(edges, found, strict=True)
        ]
        return TopEntries(_ordered(entries), total, total_value, self._tokens(metric))

    def top_targets(
        self,
        key: Key,
        k: int,
        sign: Sign,
        metric: Metric = "attr",
        *,
        include_outputs: bool = True,
        normalised: bool = True,
    ) -> TopEntries:
        """The ``k`` strongest targets of a source, over all sites it flows into directly (and the
        output tokens). For ``attr_abs`` the output tokens take part where they were computed.

        Raises as :meth:`top_sources`.
        """
        places = self._readers_of(key, metric, include_outputs)
        index = self._index_for(k)
        if index is not None:
            point, row, _ = places[0]
            block = point.block_at(row)
            chosen, total, total_value = index.ranked(
                f"targets/{block.address}/{block.kind}",
                row - block.offset,
                k,
                metric,
                normalised=normalised,
                positive=sign == "positive",
                outputs=include_outputs,
            )
        else:
            scans = [
                self._numbers.scan_targets(point, row, reader, metric, normalised=normalised)
                for point, row, reader in places
            ]
            chosen, total, total_value = _strongest(np.concatenate(scans), k, sign)
        counts = [len(self._numbers.targets(reader, metric)) for _, _, reader in places]
        starts = np.cumsum([0, *counts])
        edges: list[Edge] = []
        for position in chosen:
            which = int(np.searchsorted(starts, position, "right")) - 1
            point, row, reader = places[which]
            target = int(self._numbers.targets(reader, metric)[position - starts[which]])
            edges.append(Edge(point, row, reader, target))
        found = self._numbers.edges(edges, metric, normalised=normalised)
        entries = [
            _entry(Key(edge.reader, edge.target), edge, value, metric)
            for edge, value in zip(edges, found, strict=True)
        ]
        return TopEntries(_ordered(entries), total, total_value, self._tokens(metric))

    def attribution(
        self, source: Key, target: Key, metric: Metric = "attr", *, normalised: bool = True
    ) -> Attribution:
        """One edge; an exact zero where the source does not flow directly into the target.

        Raises as :meth:`top_sources`.
        """
        rows = {point.name: row for point, row in self._keys.source(source)}
        reader, index = self._keys.target(target)
        self._numbers.check(metric, reader, index)
        point = self._keys.point_of[reader]
        tokens = self._tokens(metric)
        if point.name not in rows:
            support = 0 if self.n_groups else None
            return Attribution(0.0, 0.0, None, support, tokens, connected=False, scale_free=False)
        edge = Edge(point, rows[point.name], reader, index)
        raw = self._numbers.edges([edge], metric, normalised=False)[0]
        shown = self._numbers.edges([edge], metric, normalised=True)[0] if normalised else raw
        entry = _entry(source, edge, shown, metric)
        return Attribution(
            entry.value,
            raw.value,
            entry.standard_error,
            entry.support,
            tokens,
            connected=True,
            scale_free=entry.scale_free,
        )

    # Raw material, for other formats.

    def raw_edges(
        self, point: ReadPoint, rows: slice, reader: Address, metric: Metric = "attr"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Raw sums of the edges from ``rows``, which lie in one row block, and the indices of the targets
        that they flow into: [rows, targets] and [targets]. Raises as :meth:`top_sources`."""
        self._numbers.check(metric, reader)
        values = self._numbers.matrix(point, rows, reader, metric, normalised=False)
        return values, self._numbers.targets(reader, metric)

    def residual(self, rows: slice) -> np.ndarray:
        """Raw sums of rows of the read point ``output`` before the unembedding, [rows, d_model]."""
        return self._planes.total("signed/output", rows)

    def statistic(self, name: str) -> np.ndarray:
        """A sum over all tokens that values are normalised by, as docs/file-format.md names it."""
        return self._planes.total(name)[0]

    @property
    def unembedding(self) -> np.ndarray:
        """What turns :meth:`residual` into edges to output tokens, [vocab, d_model]."""
        return self._operands.unembedding

    def strongest_ends(self, report: Report | None = None) -> StrongestEnds:
        """The strongest source and target of every component, by normalised attr; scans the store.

        Raises :class:`StoreDamagedError`.
        """
        return strongest_ends(self._keys, self._numbers, report)

    def verify(self) -> int:
        """Check every block, every tensor of the model, and that no file is too many.

        Returns the number of blocks; raises :class:`StoreDamagedError` naming the file.
        """
        read_manifest(self.path)
        for entry in sorted(self.path.iterdir()):
            if entry.name not in (MANIFEST, self.manifest.tensors, *INDEX_FILES, *self.manifest.sizes):
                raise StoreDamagedError(entry, "does not belong to this store", "move it elsewhere")
        self._operands.verify()
        self._index_read = False
        index = self._index_for(1)
        return self._planes.verify() + (0 if index is None else index.verify())

    def build_index(self, k: int = 32) -> None:
        """Write an index beside the store, so that queries for up to ``k`` entries need no scan.

        Worth its time where the store is larger than memory. Raises :class:`StoreDamagedError`.
        """
        self._index = None
        build_index(self.path, self.manifest.store_id, self._keys, self._numbers, self.metrics, k)
        self._index_read = False

    def _index_for(self, k: int) -> Index | None:
        """The index, where there is one that holds ``k`` entries a list."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if not self._index_read:
            if (self.path / INDEX_FILES[0]).exists():
                self._index = Index(self.path, self.manifest.store_id, self._keys, self.metrics)
            self._index_read = True
        return self._index if self._index is not None and k <= self._index.k else None

    def _readers_of(
        self, key: Key, metric: Metric, include_outputs: bool
    ) -> list[tuple[ReadPoint, int, Address]]:
        """Read point, row and reader of everything that a source flows into and a metric covers."""
        every = [
            (point, row, reader)
            for point, row in self._keys.source(key)
            for reader in self._keys.readers[point.name]
            if include_outputs or reader != OUTPUT
        ]
        if not every:
            raise NotComputedError(f"{key} flows into output tokens only, and these were not asked for")
        if metric != "attr_abs":
            self._numbers.check(metric, every[0][2])
            return every
        covered = [place for place in every if self._numbers.has_abs(place[2])]
        if not covered:
            self._numbers.check(metric, every[0][2])
        return covered

    def _tokens(self, metric: Metric) -> int:
        return self.abs_tokens if metric == "attr_abs" else self.tokens


def _entry(key: Key, edge: Edge, value: EdgeValue, metric: Metric) -> Entry:
    return Entry(
        key,
        value.value,
        None if np.isnan(value.standard_error) else value.standard_error,
        value.support,
        scale_free=edge.point.scale_free_row(edge.row) and metric != "attr_frozen",
    )


def _strongest(values: np.ndarray, k: int, sign: Sign) -> tuple[list[int], int, float]:
    """Positions of the k strongest values of a sign, how many have that sign, and their sum."""
    signed = values if sign == "positive" else -values
    candidates = np.flatnonzero(signed > 0)
    total_value = float(values[candidates].sum())
    order = candidates
    if len(candidates) > k:
        order = candidates[np.argpartition(-signed[candidates], k - 1)[:k]]
    order = order[np.lexsort((order, -signed[order]))]
    return [int(i) for i in order], len(candidates), total_value


def _ordered(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: -abs(entry.value)))
