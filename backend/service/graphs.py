"""Prompt graphs: asking for them, and reading them as wire models and binary columns."""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from fastapi.concurrency import run_in_threadpool

from backend.errors import ServiceError
from backend.graph_schemas import (
    GraphDetail,
    GraphEstimate,
    GraphList,
    GraphMetric,
    GraphNodes,
    GraphOfPrompt,
    GraphOfText,
    GraphOfTokens,
    GraphSettings,
    GraphSummary,
    GraphUpdate,
    NodeEdge,
    NodeEdgeList,
    NodeEdges,
    Omitted,
)
from backend.job_schemas import Job, JobResult
from backend.jobs import Priority, Progress
from backend.service.columns import EDGE_COLUMNS, NODE_COLUMNS, Nodes
from backend.service.predictions import token_tensor
from backend.service.run import Run
from backend.service.text import check_ids, token_ids, tokens
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from storage.errors import UnknownKeyError
from storage.graph_records import CircuitRecord, GraphRecord, PromptRecord

if TYPE_CHECKING:
    from torch import Tensor

    from compute.address import Address
    from compute.attribution.prompt import Estimate, PromptGraph, PromptSettings
    from compute.decomposition.model import Decomposition

GraphRequest = GraphOfPrompt | GraphOfText | GraphOfTokens
Gone = Callable[[], Awaitable[bool]]
#: The first bytes of the binary columns.
MAGIC = b"TRIBGRF1"
#: Seconds that a request waits to learn whether its graph would be too large.
_PATIENCE = 1.0
#: Settings of an imported graph carry the digest of its file, so that none is taken for one computed here.
IMPORTED = "imported"


# ---- asking -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """A request after everything in it was checked."""

    run: Run
    prompt: PromptRecord | None
    ids: tuple[int, ...]
    settings: GraphSettings
    circuit: CircuitRecord | None
    title: str

    @property
    def stored_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json")

    @property
    def key(self) -> Hashable:
        """Equal for requests that have the same graph."""
        circuit = None if self.circuit is None else self.circuit.id
        settings = json.dumps(self.stored_settings, sort_keys=True)
        return ("graph", self.run.digest, self.run.name, self.ids, circuit, settings)


def _wanted(workshop: Workshop, run: Run, request: GraphRequest, *, keep: bool) -> _Wanted:
    """Check a request. ``keep``: make its prompt where it is not there."""
    prompt: PromptRecord | None = None
    if isinstance(request, GraphOfPrompt):
        prompt = workshop.prompt(run, request.prompt_id)
        ids, text = list(prompt.token_ids), prompt.text
        check_ids(run, ids)
    else:
        ids, text = token_ids(run, request)
    settings = checked_settings(run, request.settings, len(ids))
    circuit = None
    if request.circuit_id is not None:
        circuit = workshop.database.circuit(request.circuit_id)
        of = workshop.prompt(run, circuit.prompt_id)
        if list(of.token_ids) != ids:
            raise ServiceError(
                422,
                "bad_input",
                f"Circuit {circuit.id} is of another prompt, number {of.id}",
                "Ask for it with that prompt.",
            )
    if prompt is None and keep:
        prompt, _ = workshop.database.add_prompt(run.name, run.digest, ids, text, "")
    return _Wanted(run, prompt, tuple(ids), settings, circuit, request.title)


def checked_settings(run: Run, settings: GraphSettings, length: int) -> GraphSettings:
    """Settings in the form in which they are kept; raises a 422 or a 404 for what this prompt does not have."""
    terms = [term for target in settings.targets for term in target.terms]
    positions = [term.position for term in terms]
    chosen = settings.output_positions
    if isinstance(chosen, list):
        positions += chosen
        settings = settings.model_copy(update={"output_positions": sorted(set(chosen))})
    for position in positions:
        if position >= length:
            raise ServiceError(
                422,
                "bad_input",
                f"There is no position {position}: the prompt has {length} tokens",
                f"Positions are 0 to {length - 1}.",
            )
    for term in terms:
        if term.token_id >= run.config.vocab_size:
            raise UnknownKeyError(
                f"{run.name} has no token {term.token_id}", f"ids are 0 to {run.config.vocab_size - 1}"
            )
    return settings


def prompt_settings(settings: GraphSettings) -> PromptSettings:
    """Wire settings as the compute room's."""
    from compute.attribution import prompt as compute

    positions = settings.output_positions
    return compute.PromptSettings(
        delta=settings.delta,
        alive_above=settings.alive_above,
        output_probability=settings.output_probability,
        outputs_at_most=settings.outputs_at_most,
        output_positions=tuple(positions) if isinstance(positions, list) else positions,
        targets=tuple(
            compute.CustomTarget(
                target.name,
                tuple(compute.OutputTerm(t.position, t.token_id, t.weight) for t in target.terms),
            )
            for target in settings.targets
        ),
        threshold=settings.threshold,
        max_edges=settings.max_edges,
    )


@contextmanager
def refusals() -> Generator[None]:
    """Turn what the compute room refuses for its size into a 413."""
    import torch

    from compute.attribution.prompt import TooLargeError

    try:
        yield
    except TooLargeError as error:
        raise _too_large(str(error)) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ServiceError(
            413, "too_large", "There is not enough memory for this computation", "Use a shorter prompt."
        ) from error


def _too_large(message: str) -> ServiceError:
    return ServiceError(
        413,
        "too_large",
        _sentence(message),
        "Ask for less, or give the server more memory with TRIBUTARY_MEMORY_LIMIT.",
    )


def importance(workshop: Workshop, circuit: CircuitRecord, model: Decomposition) -> dict[Address, Tensor]:
    """The causal importance [T, C] of a circuit by site, on the model's device."""
    import torch

    from compute.address import parse_address
    from storage.graph_columns import dense_arrays

    like = next(model.parameters())
    dense = dense_arrays(workshop.database.circuit_importance(circuit.id))
    return {
        parse_address(address): torch.from_numpy(values).to(like.device, like.dtype)
        for address, values in dense.items()
    }


def _size(workshop: Workshop, wanted: _Wanted) -> tuple[Estimate, str]:
    """How large the graph would be, and what would fit where that is too large; empty where it fits."""
    from compute.attribution import prompt as compute
    from compute.attribution.prompt_estimate import refuse_if_too_large
    from compute.attribution.prompt_nodes import choose_nodes
    from compute.attribution.prompt_pass import run_prompt

    model = workshop.models.get(wanted.run)
    given = None if wanted.circuit is None else importance(workshop, wanted.circuit, model)
    settings = prompt_settings(wanted.settings)
    forward = run_prompt(model, token_tensor(model, wanted.ids), settings.delta, given)
    try:
        found = refuse_if_too_large(
            model,
            choose_nodes(model, forward, settings),
            compute.choose_method(model, settings)[0],
            workshop.memory_limit,
            lambda other: choose_nodes(model, forward, other),
        )
    except compute.TooLargeError as error:
        return error.estimate, str(error)
    return found, ""


async def estimate(workshop: Workshop, run: Run, request: GraphRequest, gone: Gone) -> GraphEstimate:
    """How large a graph would be."""
    watch = Stopwatch()
    wanted = await run_in_threadpool(lambda: _wanted(workshop, run, request, keep=False))
    (found, advice), peak = await workshop.quick(lambda _: _size(workshop, wanted), gone)
    return GraphEstimate(
        run=run.name,
        n_tokens=len(wanted.ids),
        nodes=found.nodes,
        edges=found.edges,
        bytes=found.bytes,
        limit_bytes=workshop.memory_limit,
        fits=not advice,
        advice=_sentence(advice),
        seconds=watch.seconds,
        peak_bytes=peak,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


async def request(workshop: Workshop, run: Run, request: GraphRequest, gone: Gone) -> Job:
    """A job for a graph: done where the graph is stored, joined where one computes the same."""
    wanted = await run_in_threadpool(lambda: _wanted(workshop, run, request, keep=True))
    prompt = wanted.prompt
    assert prompt is not None
    stored = await run_in_threadpool(lambda: _stored(workshop, wanted, prompt))
    if stored is not None:
        return workshop.jobs.finished("graph", run.name, JobResult(graph_id=stored.id))
    joined = workshop.jobs.in_flight(wanted.key)
    if joined is not None:
        return joined
    # Where it is known soon, what is too large is refused at once; else its job ends with that error.
    size = await workshop.quick_within(_PATIENCE, lambda _: _size(workshop, wanted), gone)
    if size is not None and size[0][1]:
        raise _too_large(size[0][1])
    return workshop.jobs.submit(
        "graph", run.name, wanted.key, Priority.GRAPH, lambda p: _compute(workshop, wanted, prompt, p)
    )


def _stored(workshop: Workshop, wanted: _Wanted, prompt: PromptRecord) -> GraphRecord | None:
    circuit = None if wanted.circuit is None else wanted.circuit.id
    found = workshop.database.find_graph(prompt.id, wanted.stored_settings, circuit)
    if found is not None and wanted.title and not found.title:
        return workshop.database.update_graph(found.id, title=wanted.title)
    return found


def _compute(workshop: Workshop, wanted: _Wanted, prompt: PromptRecord, progress: Progress) -> JobResult:
    """Compute and store; called by the thread that computes."""
    from backend.pipelines.common import provenance
    from compute.attribution.prompt import prompt_graph

    run = wanted.run
    progress.report("loading the model", 0, 0)
    model = workshop.models.get(run)
    given = None if wanted.circuit is None else importance(workshop, wanted.circuit, model)
    with refusals():
        graph = prompt_graph(
            model,
            token_tensor(model, wanted.ids),
            prompt_settings(wanted.settings),
            importance=given,
            memory_limit=workshop.memory_limit,
            report=progress.report,
        )
    progress.report("storing", 0, 0)
    made_by = provenance(
        model_sha256=run.info.files.get("model.safetensors", ""),
        run_created=run.info.created,
        device=workshop.models.device(),
    )
    nodes, edges = _columns(graph)
    record = workshop.database.add_graph(
        prompt.id,
        wanted.stored_settings,
        None if wanted.circuit is None else wanted.circuit.id,
        made_by,
        summary_of(graph),
        nodes,
        edges,
        status="reduced" if graph.omitted.edges else "complete",
        title=wanted.title,
    )
    return JobResult(graph_id=record.id)


def summary_of(graph: PromptGraph) -> dict[str, Any]:
    """What is kept of a graph beside its columns."""
    omitted = graph.omitted
    return {
        "omitted": {"edges": omitted.edges, "share": omitted.share, "share_abs": omitted.share_abs},
        "method": graph.method,
        "method_reason": graph.method_reason,
        "seconds": graph.seconds,
        "peak_bytes": graph.peak_bytes,
    }


def _columns(graph: PromptGraph) -> tuple[dict[str, np.ndarray | list[Any]], dict[str, np.ndarray]]:
    nodes: dict[str, np.ndarray | list[Any]] = {"addresses": list(graph.nodes.addresses)}
    for name in NODE_COLUMNS:
        nodes[name] = getattr(graph.nodes, name)
    edges = {name: getattr(graph.edges, name) for name in EDGE_COLUMNS}
    for name in ("attr", "attr_abs"):
        edges[name] = edges[name].astype(np.float32, copy=False)
    return nodes, edges


# ---- reading ------------------------------------------------------------------------------------


def settings_of(record: GraphRecord) -> GraphSettings:
    return GraphSettings.model_validate({k: v for k, v in record.settings.items() if k != IMPORTED})


def summary(record: GraphRecord) -> GraphSummary:
    kept = record.summary
    return GraphSummary(
        id=record.id,
        run=record.run,
        prompt_id=record.prompt_id,
        circuit_id=record.circuit_id,
        title=record.title,
        note=record.note,
        settings=settings_of(record),
        n_nodes=record.n_nodes,
        n_edges=record.n_edges,
        omitted=Omitted(**kept["omitted"]),
        method=kept["method"],
        method_reason=kept["method_reason"],
        seconds=kept["seconds"],
        peak_bytes=kept["peak_bytes"],
        imported=IMPORTED in record.settings,
        created=record.created,
    )


def list_graphs(workshop: Workshop, run: Run, prompt_id: int | None) -> GraphList:
    watch = Stopwatch()
    if prompt_id is None:
        records = workshop.database.run_graphs(run.name, run.digest)
    else:
        records = workshop.database.graphs(workshop.prompt(run, prompt_id).id)
    return GraphList(run=run.name, graphs=[summary(record) for record in records], seconds=watch.seconds)


def nullable(column: np.ndarray) -> list[float | None]:
    """A column of numbers with null for what is not one."""
    return [None if value != value else value for value in column.tolist()]


def labels(run: Run, nodes: Nodes, settings: GraphSettings) -> dict[int, str]:
    """Number of a node → the text of its token, or the name of its target."""
    texts = run.vocabulary.texts
    found: dict[int, str] = {}
    for site, address in enumerate(nodes.addresses):
        if address not in ("embed", "output", "target"):
            continue
        for number in np.flatnonzero(nodes.columns["site"] == site).tolist():
            index = int(nodes.columns["index"][number])
            found[number] = settings.targets[index].name if address == "target" else texts[index]
    return found


def graph_nodes(nodes: Nodes) -> GraphNodes:
    """Columns as they are sent."""
    columns: dict[str, Any] = {
        name: nodes.columns[name].tolist()
        if name in ("site", "position", "index")
        else nullable(nodes.columns[name])
        for name in NODE_COLUMNS
    }
    return GraphNodes(**columns)


def get(workshop: Workshop, graph_id: int) -> GraphDetail:
    run, record = workshop.graph(graph_id)
    prompt = workshop.database.prompt(record.prompt_id)
    nodes = workshop.columns.nodes(workshop.database, record)
    settings = settings_of(record)
    short = summary(record)
    return GraphDetail(
        id=record.id,
        run=run.name,
        prompt_id=record.prompt_id,
        circuit_id=record.circuit_id,
        title=record.title,
        note=record.note,
        settings=settings,
        text=prompt.text,
        tokens=tokens(run, prompt.token_ids),
        addresses=nodes.addresses,
        nodes=graph_nodes(nodes),
        labels={str(number): text for number, text in labels(run, nodes, settings).items()},
        targets=settings.targets,
        n_edges=record.n_edges,
        omitted=short.omitted,
        method=short.method,
        method_reason=short.method_reason,
        seconds=short.seconds,
        peak_bytes=short.peak_bytes,
        imported=short.imported,
        provenance={name: str(value) for name, value in record.provenance.items()},
        created=record.created,
    )


def update(workshop: Workshop, graph_id: int, request: GraphUpdate) -> GraphSummary:
    workshop.graph(graph_id)
    return summary(workshop.database.update_graph(graph_id, title=request.title, note=request.note))


def delete(workshop: Workshop, graph_id: int) -> None:
    workshop.database.delete_graph(graph_id)


def strengths(nodes: Nodes, edges: dict[str, np.ndarray], metric: GraphMetric) -> np.ndarray:
    """Values in units of the targets' shown activations, [m] float64."""
    return edges[metric].astype(np.float64) * nodes.columns["scale"][edges["target"]]


def edge_bytes(workshop: Workshop, graph_id: int, top: int | None, metric: GraphMetric) -> bytes:
    """The strongest edges as binary columns (docs/graph-format.md), in the order of targets, then sources."""
    _, record = workshop.graph(graph_id)
    nodes = workshop.columns.nodes(workshop.database, record)
    edges = workshop.columns.edges(workshop.database, record)
    total = len(edges["source"])
    kept: np.ndarray | slice = slice(None)
    left_out = 0.0
    if top is not None and top < total:
        strength = np.abs(strengths(nodes, edges, metric))
        order = np.argpartition(-strength, top)[:top] if top else np.empty(0, dtype=np.int64)
        kept = np.sort(order)
        whole = float(strength.sum())
        left_out = max(0.0, 1 - float(strength[kept].sum()) / whole) if whole else 0.0
    columns = [
        edges[name][kept].astype(kind)
        for name, kind in zip(EDGE_COLUMNS, ("<u4", "<u4", "<f4", "<f4"), strict=True)
    ]
    header = MAGIC + struct.pack("<IId", len(columns[0]), total, left_out)
    return b"".join((header, *(column.tobytes() for column in columns)))


def node_edges(workshop: Workshop, graph_id: int, number: int, metric: GraphMetric, k: int) -> NodeEdges:
    """The k strongest edges of each direction and sign at a node."""
    watch = Stopwatch()
    _, record = workshop.graph(graph_id)
    nodes = workshop.columns.nodes(workshop.database, record)
    if number >= len(nodes):
        raise UnknownKeyError(
            f"graph {graph_id} has no node {number}", f"its nodes are 0 to {len(nodes) - 1}"
        )
    edges = workshop.columns.edges(workshop.database, record)
    lists: dict[str, NodeEdgeList] = {}
    ends: tuple[tuple[Literal["sources", "targets"], str, str], ...] = (
        ("sources", "target", "source"),
        ("targets", "source", "target"),
    )
    for direction, here, there in ends:
        places = np.flatnonzero(edges[here] == number)
        part = {name: edges[name][places] for name in EDGE_COLUMNS}
        values, others = strengths(nodes, part, metric), part[there]
        for sign, chosen in (("positive", values > 0), ("negative", values < 0)):
            own, ends_there = values[chosen], others[chosen]
            order = np.argsort(-np.abs(own), kind="stable")[:k]
            entries = [
                NodeEdge(node=int(ends_there[i]), key=nodes.keys[ends_there[i]], value=float(own[i]))
                for i in order
            ]
            lists[f"{direction}_{sign}"] = NodeEdgeList(
                entries=entries, total=len(own), total_value=float(own.sum())
            )
    return NodeEdges(
        graph_id=graph_id,
        node=number,
        key=nodes.keys[number],
        metric=metric,
        seconds=watch.seconds,
        **lists,
    )
