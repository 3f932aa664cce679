"""A store of attributions made of a published file: which rows and columns its matrices become."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from backend.importing.errors import ImportRefusedError
from backend.importing.published_sums import EMBED, OUTPUT, Edges, PublishedSums
from backend.importing.site_names import sites_of
from compute.address import OUTPUT as OUTPUT_ADDRESS
from compute.address import Address
from compute.targets.config import TargetConfig
from compute.topology import Topology
from storage.assemble import assemble
from storage.layout import Operation, ReadPoint, RowBlock, Settings, TensorCheck, plan_arrays
from storage.model_tensors import checksum
from storage.run_directory import RunDirectory, RunNote

_UNTIED, _TIED = "target.unembedding.weight", "target.token_embedding.weight"
#: A file's unembedding may be rounded to half the digits of the run's, but not be another one.
_SAME_UNEMBEDDING = 0.02
FORMATS = {
    "four-edge": "a published file of four edge types",
    "two-matrix": "a published file of two matrices",
}


@dataclass(frozen=True)
class ImportedStore:
    """A store made of a file, of the model of ``run`` or of none."""

    sums: PublishedSums
    run: RunDirectory | None

    @cached_property
    def sites(self) -> dict[str, Address]:
        """The site of each layer of the file."""
        sites = sites_of(self.sums.counts, None if self.run is None else self.run.info)
        if self.run is not None:
            _check_run(self.run, self.sums, sites)
        return sites

    @property
    def vocab_size(self) -> int:
        """Tokens of the model; a file made with a tokenizer that has fewer leaves out the others."""
        return self.sums.vocab_size if self.run is None else _vocab_size(self.run)

    @cached_property
    def config(self) -> TargetConfig | None:
        if self.run is None or self.run.info.kind != "model":
            return None
        return TargetConfig.model_validate(self.run.info.target)

    @cached_property
    def rows(self) -> dict[str, dict[str, Edges]]:
        """By read point, the edges from each source: layers of the file, in canonical order, tokens first."""
        by_address = {str(address): name for name, address in sorted(self.sites.items(), key=lambda s: s[1])}
        points = {address: self.sums.edges.get(name, {}) for address, name in by_address.items()}
        if self.sums.unembedding is not None or self._run_unembedding is not None:
            points[OUTPUT] = self.sums.residual
        order = [EMBED, *by_address.values()]
        found: dict[str, dict[str, Edges]] = {}
        for target, edges in points.items():
            kept = {s: edges[s] for s in order if s in edges and self._connected(s, target, edges[s])}
            if kept:
                found[target] = kept
        sources = {source for kept in found.values() for source in kept}
        for name, address in self.sites.items():
            if str(address) not in found and name not in sources:
                raise ImportRefusedError(f"{self.sums.path} has no edges from or into {name}")
        return found

    def _connected(self, source: str, target: str, edges: Edges) -> bool:
        """Whether a pair of layers is an edge: the dense format has numbers for every pair."""
        if self.sums.format == "four-edge":
            return True
        end = OUTPUT_ADDRESS if target == OUTPUT else next(a for a in self.sites.values() if str(a) == target)
        return _flows(None if source == EMBED else self.sites[source], end) or not edges.is_zero()

    @cached_property
    def settings(self) -> Settings:
        four = self.sums.format == "four-edge"
        has_abs = self.sums.magnitudes is not None
        return Settings(
            delta="off",
            ci_weighted=four,
            metrics=("attr", "attr_abs") if has_abs else ("attr",),
            n_groups=0,
            layouts=tuple(self._point(target, list(edges)) for target, edges in self.rows.items()),
            centred_norm=self.config is not None and self.config.centred_norm,
            model_sha256="" if self.run is None else self.run.info.files.get("model.safetensors", ""),
            corpus_sha256="",
            options={"ci_threshold": f"{self.sums.ci_threshold:g}"},
            imported_from=self.sums.format,
        )

    def _point(self, target: str, sources: list[str]) -> ReadPoint:
        blocks: list[RowBlock] = []
        for source in sources:
            offset = blocks[-1].offset + blocks[-1].count if blocks else 0
            if source == EMBED:
                blocks.append(RowBlock(address=EMBED, kind="embed", offset=offset, count=self.vocab_size))
            else:
                address, count = str(self.sites[source]), self.sums.counts[source]
                blocks.append(RowBlock(address=address, kind="component", offset=offset, count=count))
        return ReadPoint(
            name=target,
            operation=self._operation(target),
            d_in=self.sums.d_model if target == OUTPUT else self.sums.counts[self._name(target)],
            readers=(target,),
            blocks=tuple(blocks),
        )

    def _name(self, target: str) -> str:
        return next(name for name, address in self.sites.items() if str(address) == target)

    def _operation(self, target: str) -> Operation:
        """What lies before a target, where the run tells and all that flows in is among the sources."""
        if self.config is None or self.run is None:
            return "unknown"
        topology = Topology(self.config, frozenset(site.parsed for site in self.run.info.sites))
        point = next(p for p in topology.read_points if target in map(str, p.readers))
        return "unknown" if point.through or len(point.pseudo_sources) > 1 else point.operation

    @cached_property
    def _run_unembedding(self) -> tuple[str, np.ndarray] | None:
        if self.run is None or not self.run.has_model_file:
            return None
        tensors = self.run.model_tensors()
        name = _UNTIED if _UNTIED in tensors else _TIED
        return name, tensors[name]

    @property
    def notes(self) -> tuple[RunNote, ...]:
        text = (
            "Values are means over all tokens, as the file has them: neither weighted by causal importance nor normalised."
            if self.sums.format == "two-matrix"
            else "Values are normalised from the file's sums by the published formula."
        )
        return (
            RunNote(
                topic="converted",
                text=f"The attributions come from {FORMATS[self.sums.format]}. {text} There are no standard errors, "
                "and deltas, biases and positions are no sources.",
            ),
        )

    def write(self, folder: Path, made: dict[str, str]) -> str:
        """Publish the store in a folder of attributions; the subrun's name."""
        shapes, statistics = self._shapes(), self._statistics()
        tensors, checks = self._tensors()
        folder.mkdir(exist_ok=True)
        shapes |= {name: value.shape for name, value in statistics.items()}
        size = sum(plan_arrays(shapes, 0)[1].values())
        if shutil.disk_usage(folder).free < size + (1 << 24):
            raise ImportRefusedError(f"the attributions take {size:,} bytes", "make room on the disk")
        store_id = secrets.token_hex(16)
        with _working(folder / f".importing-{store_id}") as work:
            return assemble(
                work,
                folder,
                self.settings,
                shapes,
                lambda name, rows, columns: self._values(statistics, name, rows, columns)[None],
                store_id=store_id,
                method="imported",
                method_reason=f"from {FORMATS[self.sums.format]}",
                provenance=made,
                model_tensors=checks,
                tensors=tensors,
            )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for point in self.settings.layouts:
            if point.name == OUTPUT:
                shapes[f"signed/{OUTPUT}"] = (point.n_rows, point.d_in)
                continue
            shapes[f"edges/{point.name}"] = (point.d_in, point.n_rows)
            if self.sums.magnitudes is not None:
                shapes[f"abs/{point.name}"] = (point.d_in, point.n_rows)
        return shapes

    def _statistics(self) -> dict[str, np.ndarray]:
        """What sums are normalised by, float64, by the names of the store."""
        found = {"tokens": np.array([self.sums.n_tokens], np.float64)}
        for name, tensor in self.sums.statistics.items():
            kind, slash, layer = name.partition("/")
            values = tensor.double().numpy()
            if not np.isfinite(values).all() or (values.min(initial=0.0) < 0 and kind != "ci_sum"):
                raise ImportRefusedError(f"{self.sums.path}: {name} holds values that cannot be")
            found[f"{kind}/{self.sites[layer]}" if slash else name] = _padded(
                values, len(values) if slash else self.vocab_size
            )
        return found

    def _values(
        self, statistics: Mapping[str, np.ndarray], name: str, rows: slice, columns: slice
    ) -> np.ndarray:
        """A part of an array of the store, [rows, columns] float64."""
        kind, _, target = name.partition("/")
        if name in statistics:
            return statistics[name][None, columns]
        signed = kind == "signed"
        sources, targets = (rows, columns) if signed else (columns, rows)
        edges = self.rows[target]
        if kind == "abs":
            assert self.sums.magnitudes is not None
            edges = self.sums.magnitudes[self._name(target)]
        point = next(point for point in self.settings.layouts if point.name == target)
        pieces: list[np.ndarray] = []
        for block, source in zip(point.blocks, self.rows[target], strict=True):
            first, last = max(sources.start - block.offset, 0), min(sources.stop - block.offset, block.count)
            if first < last:
                piece = edges[source].read(targets, slice(first, last))
                # Tokens that the file's tokenizer does not have.
                pieces.append(np.pad(piece, ((0, 0), (0, last - first - piece.shape[1]))))
        part = np.concatenate(pieces, 1)
        return part.T if signed else part

    def _tensors(self) -> tuple[bytes | None, dict[str, TensorCheck]]:
        """The unembedding as a file of the store, or a reference to that of the run's model."""
        own = self.sums.unembedding
        known = self._run_unembedding
        if own is not None:
            weight = np.ascontiguousarray(own.T.float().numpy())
            if not np.isfinite(weight).all():
                raise ImportRefusedError(f"{self.sums.path}: w_unembed holds values that are no numbers")
            if known is not None and self.run is not None:
                size = float(np.linalg.norm(known[1]))
                if float(np.linalg.norm(weight - known[1])) > _SAME_UNEMBEDDING * size:
                    raise ImportRefusedError(
                        f"w_unembed of {self.sums.path} is not the unembedding of {self.run.name}",
                        "the file was computed on another model; import the run that it belongs to",
                    )
            return save({_UNTIED: weight}), {_UNTIED: TensorCheck(shape=weight.shape, crc32=checksum(weight))}
        if known is None:
            return None, {}
        return None, {known[0]: TensorCheck(shape=known[1].shape, crc32=checksum(known[1]))}


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, (0, length - len(values)))


def _flows(source: Address | None, target: Address) -> bool:
    """Whether a site (None: the embedding) flows directly into another where all matrices are decomposed."""
    if target == OUTPUT_ADDRESS or target.projection in ("q", "k", "v", "qkv", "gate", "up"):
        return source is None or (source.writes_residual and source < target)
    if source is None or source.block != target.block:
        return False
    return (source.kind, source.projection) != (target.kind, target.projection) and source.kind == target.kind


def _vocab_size(run: RunDirectory) -> int:
    return int(run.info.target["vocab_size"])


def _check_run(run: RunDirectory, sums: PublishedSums, sites: Mapping[str, Address]) -> None:
    """That a file fits a run; raises :class:`ImportRefusedError` naming what disagrees."""
    if run.info.kind == "toy":
        raise ImportRefusedError(f"{run.name} is a toy model, which has no tokens", "name another run")
    wrong: list[str] = []
    counts = {site.parsed: site.n_components for site in run.info.sites}
    for name, address in sites.items():
        if address in counts and counts[address] != sums.counts[name]:
            wrong.append(
                f"{name} has {sums.counts[name]:,} components in the file, {counts[address]:,} in the run"
            )
    missing = [str(address) for address in counts if address not in sites.values()]
    more = [str(address) for address in sites.values() if address not in counts]
    wrong += [f"the file lacks {', '.join(missing[:5])}"] if missing else []
    wrong += [f"the run lacks {', '.join(more[:5])}"] if more else []
    vocab, d_model = _vocab_size(run), run.info.target.get("d_model")
    fewer_tokens = sums.format == "two-matrix" and sums.vocab_size < vocab
    if sums.vocab_size != vocab and not fewer_tokens:
        wrong.append(f"the file has {sums.vocab_size:,} tokens, the run {vocab:,}")
    if d_model is not None and sums.d_model != d_model:
        wrong.append(f"the file is of width {sums.d_model:,}, the run of {d_model:,}")
    if wrong:
        raise ImportRefusedError(
            f"{sums.path} does not fit the run {run.name}: {'; '.join(wrong)}",
            "name the run it was computed on",
        )


@contextmanager
def _working(folder: Path) -> Generator[Path]:
    """An empty folder that is gone afterwards, unless it was renamed."""
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
