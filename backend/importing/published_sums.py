"""The two formats in which the public code keeps dataset attributions, read as one.

*Four edge types*: raw sums for each pair of layers, sources weighted by causal importance, with what
they are normalised by. *Two matrices*: means over all tokens of every source into every component and
into the final residual stream, without weights and without statistics. Keys, shapes and meaning are
those of goodfire-ai/spd and goodfire-ai/param-decomp (dataset_attributions/storage.py, of two ages).

Tensors stay mapped from the file and are read piece by piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from backend.importing.errors import ImportRefusedError
from storage.layout import ImportedFormat

EMBED, OUTPUT = "embed", "output"
_FOUR_EDGE = (
    "regular_attr",
    "embed_attr",
    "unembed_attr",
    "embed_unembed_attr",
    "w_unembed",
    "n_tokens_processed",
)
_STATISTICS = ("ci_sum", "component_act_sq_sum", "logit_sq_sum", "embed_token_count")
_TWO_MATRIX = (
    "component_layer_keys", "vocab_size", "d_model", "source_to_component", "source_to_out_residual",
    "n_tokens_processed",
)  # fmt: skip


@dataclass(frozen=True)
class Edges:
    """A mapped matrix of edges; ``sources_first``: its rows are the sources, not the targets."""

    tensor: Tensor
    sources_first: bool
    #: Names the matrix in messages.
    where: str
    #: Every value times this is a raw sum.
    factor: float = 1.0

    def read(self, targets: slice, sources: slice) -> np.ndarray:
        """Raw sums [targets, sources], float64; raises :class:`ImportRefusedError` for what is no number."""
        part = self.tensor[sources, targets].T if self.sources_first else self.tensor[targets, sources]
        values = part.to(torch.float64).numpy() * self.factor
        if not np.isfinite(values).all():
            raise ImportRefusedError(f"{self.where} holds infinities or values that are no numbers")
        return values

    def is_zero(self) -> bool:
        step = max(1, (1 << 22) // max(1, self.tensor.shape[1]))
        return not any(bool(rows.any()) for rows in self.tensor.split(step))


@dataclass(frozen=True)
class PublishedSums:
    """A file's content by its own names of layers; ``embed`` and ``output`` are tokens.

    ``edges[target][source]`` and ``magnitudes`` (attr_abs; None: the file has none) are of component
    targets; ``residual[source]`` are edges into the final residual stream, with ``d_model`` targets.
    """

    format: ImportedFormat
    path: Path
    vocab_size: int
    d_model: int
    n_tokens: int
    ci_threshold: float
    #: Components of each layer.
    counts: dict[str, int]
    edges: dict[str, dict[str, Edges]]
    magnitudes: dict[str, dict[str, Edges]] | None
    residual: dict[str, Edges]
    #: The unembedding, [d_model, vocab]; None: the file has none.
    unembedding: Tensor | None
    #: ``ci_sum/<layer>``, ``activation_square_sum/<layer>``, ``logit_square_sum``, ``token_count``.
    statistics: dict[str, Tensor] = field(default_factory=dict)


def read_sums(path: Path, content: Any) -> PublishedSums:
    """Check a file's content (of ``torch.load``) and take it apart, without reading its matrices.

    Raises :class:`ImportRefusedError` naming every key that is missing or of another shape.
    """
    reader = _Reader(path, cast("Mapping[str, Any]", content) if isinstance(content, dict) else {})
    if "regular_attr" in reader.content and "embed_attr" in reader.content:
        return _four_edge(reader)
    if "source_to_component" in reader.content:
        return _two_matrix(reader)
    raise ImportRefusedError(
        f"{path} is not a file of dataset attributions",
        "give a dataset_attributions.pt of the public code",
    )


@dataclass
class _Reader:
    """Looks things up in a file's content and collects what is wrong with it."""

    path: Path
    content: Mapping[str, Any]
    wrong: list[str] = field(default_factory=list)

    def require(self, names: tuple[str, ...], hint: str) -> None:
        missing = [name for name in names if name not in self.content]
        if missing:
            raise ImportRefusedError(f"{self.path} has no {', '.join(missing)}", hint)

    def number(self, name: str) -> float:
        value = self.content.get(name, 0)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
            raise ImportRefusedError(f"{self.path}: {name} is no number")
        return value

    def table(self, name: str) -> dict[str, Any]:
        value = self.content.get(name, {})
        if not isinstance(value, dict) or not all(
            isinstance(key, str) for key in cast("dict[Any, Any]", value)
        ):
            raise ImportRefusedError(f"{self.path}: {name} is no table by layer")
        return cast("dict[str, Any]", value)

    def tensor(self, value: Any, where: str, shape: tuple[int | None, ...]) -> Tensor:
        """``value`` if it is a tensor of that shape (None: any length); else it is noted as wrong."""
        expected = ["any" if n is None else n for n in shape]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            self.wrong.append(f"{where} is no tensor")
        elif value.is_complex() or value.dtype == torch.bool:
            self.wrong.append(f"{where} is of type {str(value.dtype).removeprefix('torch.')}")
        elif value.ndim != len(shape) or any(
            n not in (None, m) for n, m in zip(shape, value.shape, strict=True)
        ):
            self.wrong.append(f"{where} has shape {list(value.shape)}, not {expected}")
        else:
            return value
        return torch.empty([0 if n is None else n for n in shape])

    def refuse_wrong(self) -> None:
        if self.wrong:
            more = f" and {len(self.wrong) - 6} more" if len(self.wrong) > 6 else ""
            raise ImportRefusedError(
                f"{self.path} contradicts itself: {'; '.join(self.wrong[:6])}{more}", "copy it again"
            )

    def tokens(self) -> int:
        tokens = self.number("n_tokens_processed")
        if tokens < 1 or tokens != int(tokens):
            raise ImportRefusedError(f"{self.path} rests on {tokens} tokens", "compute it again")
        return int(tokens)


def _four_edge(reader: _Reader) -> PublishedSums:
    reader.require(_FOUR_EDGE, "copy it again")
    reader.require(
        _STATISTICS, "it is of an early version of this format, which has nothing to normalise sums by"
    )
    content = reader.content
    unembedding = reader.tensor(content["w_unembed"], "w_unembed", (None, None))
    d_model, vocab = unembedding.shape
    sums = reader.table("ci_sum")
    counts = {layer: len(reader.tensor(value, f"ci_sum[{layer}]", (None,))) for layer, value in sums.items()}
    statistics: dict[str, Tensor] = {f"ci_sum/{layer}": value for layer, value in sums.items()}
    squares = reader.table("component_act_sq_sum")
    for layer in dict.fromkeys([*counts, *squares]):
        where = f"component_act_sq_sum[{layer}]"
        statistics[f"activation_square_sum/{layer}"] = reader.tensor(
            squares.get(layer), where, (counts.get(layer),)
        )
    for name, key in (("logit_square_sum", "logit_sq_sum"), ("token_count", "embed_token_count")):
        statistics[name] = reader.tensor(content[key], key, (vocab,))

    def pairs(suffix: str) -> dict[str, dict[str, Edges]]:
        found: dict[str, dict[str, Edges]] = {}
        for target, value in reader.table(f"embed_attr{suffix}").items():
            where = f"embed_attr{suffix}[{target}]"
            edges = Edges(
                reader.tensor(value, where, (counts.get(target), vocab)), sources_first=False, where=where
            )
            found.setdefault(target, {})[EMBED] = edges
        for target, sources in reader.table(f"regular_attr{suffix}").items():
            if not isinstance(sources, dict):
                reader.wrong.append(f"regular_attr{suffix}[{target}] is no table by layer")
                continue
            for source, value in cast("dict[str, Any]", sources).items():
                where = f"regular_attr{suffix}[{target}][{source}]"
                shape = (counts.get(target), counts.get(source))
                found.setdefault(target, {})[source] = Edges(
                    reader.tensor(value, where, shape), sources_first=False, where=where
                )
        return found

    edges, magnitudes = pairs(""), pairs("_abs")
    residual: dict[str, Edges] = {}
    tokens = {EMBED: content["embed_unembed_attr"]}
    for source, value in (tokens | reader.table("unembed_attr")).items():
        where = "embed_unembed_attr" if source == EMBED else f"unembed_attr[{source}]"
        shape = (d_model, vocab if source == EMBED else counts.get(source))
        residual[source] = Edges(reader.tensor(value, where, shape), sources_first=False, where=where)
    reader.wrong += [
        f"{what} is empty" for what, n in {**counts, "w_unembed": d_model * vocab}.items() if not n
    ]
    named = {*edges, *magnitudes, *residual, *(source for of in edges.values() for source in of)} - {EMBED}
    reader.wrong += [f"ci_sum has no {layer}" for layer in sorted(named - set(counts))]
    if magnitudes:
        for target in sorted({*edges, *magnitudes}):
            one, other = set(edges.get(target, {})), set(magnitudes.get(target, {}))
            reader.wrong += [f"attr_abs of {s} into {target} stands alone" for s in sorted(other - one)]
            reader.wrong += [f"attr_abs of {s} into {target} is missing" for s in sorted(one - other)]
    reader.refuse_wrong()
    return PublishedSums(
        "four-edge", reader.path, vocab, d_model, reader.tokens(), reader.number("ci_threshold"), counts,
        edges, magnitudes or None, residual, unembedding, statistics,
    )  # fmt: skip


def _two_matrix(reader: _Reader) -> PublishedSums:
    reader.require(_TWO_MATRIX, "copy it again")
    vocab, d_model = int(reader.number("vocab_size")), int(reader.number("d_model"))
    counts = _layers(reader)
    n = sum(counts.values())
    to_components = reader.tensor(
        reader.content["source_to_component"], "source_to_component", (vocab + n, n)
    )
    to_residual = reader.tensor(
        reader.content["source_to_out_residual"], "source_to_out_residual", (vocab + n, d_model)
    )
    if min(vocab, d_model, n) < 1:
        reader.wrong.append("vocab_size, d_model and the list of components are to be more than nothing")
    reader.refuse_wrong()
    tokens = reader.tokens()
    starts = np.cumsum([0, *counts.values()]).tolist()
    columns = {
        layer: slice(start, start + counts[layer]) for layer, start in zip(counts, starts, strict=False)
    }
    rows = {EMBED: slice(0, vocab)} | {
        layer: slice(vocab + part.start, vocab + part.stop) for layer, part in columns.items()
    }

    def part(matrix: Tensor, source: str, target: slice, where: str) -> Edges:
        return Edges(matrix[rows[source], target], sources_first=True, where=where, factor=float(tokens))

    return PublishedSums(
        "two-matrix", reader.path, vocab, d_model, tokens, reader.number("ci_threshold"), counts,
        {
            target: {source: part(to_components, source, columns[target], "source_to_component") for source in rows}
            for target in counts
        },
        None,
        {source: part(to_residual, source, slice(None), "source_to_out_residual") for source in rows},
        None,
    )  # fmt: skip


def _layers(reader: _Reader) -> dict[str, int]:
    """Components of each layer in the order of the file's rows."""
    keys = reader.content["component_layer_keys"]
    counts: dict[str, int] = {}
    last = None
    for key in cast("list[Any]", keys) if isinstance(keys, list | tuple) else [None]:
        layer, _, index = key.rpartition(":") if isinstance(key, str) else ("", "", "")
        if not layer or index != str(counts.get(layer, 0)) or (layer in counts and layer != last):
            raise ImportRefusedError(
                f"{reader.path}: component_layer_keys does not name the components of one layer after another"
                + (f" (at {key[:80]!r})" if isinstance(key, str) else ""),
                "copy it again",
            )
        counts[layer] = counts.get(layer, 0) + 1
        last = layer
    return counts
