"""Columns of graphs that were read lately. A graph never changes after it was stored, so they stay true."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from compute.address import parse_address
from storage.graph_records import GraphRecord

if TYPE_CHECKING:
    from storage.graphs import GraphDatabase

#: Bytes of columns that are kept.
_KEPT = 256 << 20
NODE_COLUMNS = (
    "site",
    "position",
    "index",
    "ci",
    "activation",
    "scale",
    "probability",
    "logit",
    "ci_probability",
    "ci_logit",
)
EDGE_COLUMNS = ("source", "target", "attr", "attr_abs")
_NAMES = {-1: "delta", -2: "bias"}


@dataclass(frozen=True)
class Nodes:
    """The nodes of a graph, n of them: ``addresses``, and columns [n] as in ``compute``'s node table."""

    addresses: list[str]
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["site"])

    @cached_property
    def keys(self) -> list[str]:
        """Node keys in order."""
        columns = (self.columns[name].tolist() for name in ("site", "position", "index"))
        return [
            f"{self.addresses[site]}:{position}:{_NAMES.get(index, index)}"
            for site, position, index in zip(*columns, strict=True)
        ]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Key → number."""
        return {key: number for number, key in enumerate(self.keys)}

    @cached_property
    def is_component(self) -> np.ndarray:
        """Whether a node is a component, [n] bool."""
        sites = np.array(["." in address and parse_address(address).is_site for address in self.addresses])
        return sites[self.columns["site"]] & (self.columns["index"] >= 0)


class ColumnCache:
    """Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: OrderedDict[tuple[int, str], Nodes] = OrderedDict()
        self._edges: OrderedDict[tuple[int, str], dict[str, np.ndarray]] = OrderedDict()

    def nodes(self, database: GraphDatabase, record: GraphRecord) -> Nodes:
        key = (record.id, record.created)
        with self._lock:
            if key in self._nodes:
                self._nodes.move_to_end(key)
                return self._nodes[key]
        found = database.graph_nodes(record.id)
        nodes = Nodes(
            cast("list[Any]", found["addresses"]), {name: np.asarray(found[name]) for name in NODE_COLUMNS}
        )
        with self._lock:
            self._nodes[key] = nodes
            while len(self._nodes) > 16:
                self._nodes.popitem(last=False)
        return nodes

    def edges(self, database: GraphDatabase, record: GraphRecord) -> dict[str, np.ndarray]:
        """``source``, ``target`` uint32 and ``attr``, ``attr_abs`` float32, in the order of targets, then sources."""
        key = (record.id, record.created)
        with self._lock:
            if key in self._edges:
                self._edges.move_to_end(key)
                return self._edges[key]
        found = database.graph_edges(record.id)
        with self._lock:
            self._edges[key] = found
            while len(self._edges) > 1 and sum(map(_bytes, self._edges.values())) > _KEPT:
                self._edges.popitem(last=False)
        return found


def _bytes(columns: dict[str, np.ndarray]) -> int:
    return sum(column.nbytes for column in columns.values())
