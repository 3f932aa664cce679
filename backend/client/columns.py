"""Nodes and edges of a graph as columns."""

from __future__ import annotations

import importlib
import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from backend.graph_schemas import GraphMetric


def _pandas() -> Any:
    """pandas, which is not among the dependencies."""
    try:
        return importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("data frames need pandas: pip install pandas", name="pandas") from None


@dataclass(frozen=True)
class NodeColumns:
    """The nodes of a graph, n of them, as columns; numbers of nodes count from 0."""

    keys: list[str]
    columns: dict[str, np.ndarray]
    labels: dict[int, str]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> np.ndarray:
        """``site``, ``position``, ``index``, ``ci``, ``activation``, ``scale``, ``probability``, ``logit``,
        ``ci_probability`` or ``ci_logit``; NaN where a node has none."""
        return self.columns[name]

    @cached_property
    def number(self) -> dict[str, int]:
        """Key → number."""
        return {key: number for number, key in enumerate(self.keys)}

    def to_pandas(self) -> Any:
        """A data frame with one row for each node; needs pandas."""
        labels = [self.labels.get(number) for number in range(len(self))]
        return _pandas().DataFrame({"key": self.keys, "label": labels, **self.columns})


@dataclass(frozen=True)
class Edges:
    """Edges as columns, m of them, in the order of targets, then sources.

    ``source`` and ``target`` are numbers of nodes, ``attr`` and ``attr_abs`` raw values; ``total`` is
    how many edges the graph has and ``left_out`` the share of their summed strength that is not here.
    """

    source: np.ndarray
    target: np.ndarray
    attr: np.ndarray
    attr_abs: np.ndarray
    total: int
    left_out: float
    nodes: NodeColumns = field(repr=False)

    def __len__(self) -> int:
        return len(self.source)

    def strength(self, metric: GraphMetric = "attr") -> np.ndarray:
        """Values in units of the target's shown activation (logits for outputs), as the page shows them."""
        values = self.attr if metric == "attr" else self.attr_abs
        return values.astype(np.float64) * self.nodes["scale"][self.target]

    def strongest(self, k: int, metric: GraphMetric = "attr") -> Edges:
        """The k strongest, strongest first."""
        strength = np.abs(self.strength(metric))
        order = np.argsort(-strength, kind="stable")[:k]
        whole = float(strength.sum())
        kept = float(strength[order].sum()) / whole if whole else 1.0
        return Edges(
            self.source[order],
            self.target[order],
            self.attr[order],
            self.attr_abs[order],
            self.total,
            1 - kept * (1 - self.left_out),
            self.nodes,
        )

    def to_pandas(self) -> Any:
        """A data frame with one row for each edge and the keys of its ends; needs pandas."""
        keys = np.asarray(self.nodes.keys, dtype=object)
        return _pandas().DataFrame(
            {
                "source": keys[self.source],
                "target": keys[self.target],
                "attr": self.attr,
                "attr_abs": self.attr_abs,
                "strength": self.strength(),
            }
        )


def read_edges(content: bytes, nodes: NodeColumns) -> Edges:
    """The binary columns of docs/graph-format.md."""
    if content[:8] != b"TRIBGRF1" or len(content) < 24:
        raise ValueError("these are no edges of a Tributary graph")
    n, total, left_out = struct.unpack("<IId", content[8:24])
    if len(content) != 24 + 16 * n:
        raise ValueError("the edges are not complete")
    source, target, attr, attr_abs = (
        np.frombuffer(content, kind, n, 24 + 4 * n * i) for i, kind in enumerate(("<u4", "<u4", "<f4", "<f4"))
    )
    return Edges(source, target, attr, attr_abs, total, left_out, nodes)
