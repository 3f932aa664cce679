"""What the graph database gives and takes: plain values, no objects of the database outside of it.

Times are ISO 8601 in UTC. ``settings``, ``provenance``, ``summary``, ``request`` and ``result`` are
JSON objects whose meaning belongs to those who write them; storage only compares, keeps and checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

JsonObject = dict[str, Any]
#: Columns by name: one-dimensional arrays of numbers, or lists that JSON can hold (texts).
Columns = Mapping[str, "np.ndarray | list[Any]"]
#: Whether every edge is stored, or the settings' threshold or cap left some out (``summary`` says how many).
GraphStatus = Literal["complete", "reduced"]


@dataclass(frozen=True)
class PromptRecord:
    """Token ids of one run; the same ids of a re-made run (another ``run_digest``) are another prompt."""

    id: int
    run: str
    run_digest: str
    token_ids: tuple[int, ...]
    text: str
    title: str
    created: str
    #: How many graphs there are for it.
    graphs: int = 0


@dataclass(frozen=True)
class GraphRecord:
    """A stored graph without its columns. ``bytes`` is what those occupy, compressed."""

    id: int
    prompt_id: int
    run: str
    run_digest: str
    circuit_id: int | None
    settings: JsonObject
    settings_digest: str
    provenance: JsonObject
    summary: JsonObject
    status: GraphStatus
    n_nodes: int
    n_edges: int
    bytes: int
    title: str
    note: str
    created: str


@dataclass(frozen=True)
class CircuitRecord:
    """A sparse circuit of a prompt; its importance and its whole result are asked for by id."""

    id: int
    prompt_id: int
    settings: JsonObject
    summary: JsonObject
    title: str
    bytes: int
    created: str


@dataclass(frozen=True)
class InterventionRecord:
    """An intervention on a graph; its result is asked for by id."""

    id: int
    graph_id: int
    request: JsonObject
    summary: JsonObject
    title: str
    bytes: int
    created: str


@dataclass(frozen=True)
class Group:
    """A named set of nodes. ``id`` is chosen by who makes it and is unique within its graph."""

    id: str
    name: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    key: str
    text: str


@dataclass(frozen=True)
class Workspace:
    """What a user has put on a graph. Nodes are named by their keys; the order of everything is kept.

    ``version`` is 0 before the first save and grows by one with each.
    """

    version: int = 0
    pins: tuple[str, ...] = ()
    groups: tuple[Group, ...] = field(default_factory=tuple[Group, ...])
    notes: tuple[Note, ...] = field(default_factory=tuple[Note, ...])


@dataclass(frozen=True)
class StoredAmount:
    """How much of something is stored; ``bytes`` counts compressed columns."""

    prompts: int
    graphs: int
    bytes: int
