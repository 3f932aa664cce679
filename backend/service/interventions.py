"""Interventions and edge checks as jobs, quick tasks and wire models."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi.concurrency import run_in_threadpool

from backend.errors import ServiceError
from backend.intervention_schemas import (
    ChangedPredictions,
    EdgeCheck,
    EdgeCheckRequest,
    Intervention,
    InterventionList,
    InterventionRequest,
)
from backend.job_schemas import Job, JobResult
from backend.jobs import Priority, Progress
from backend.memory import PeakMemory
from backend.prompt_schemas import PositionPredictions
from backend.service import graphs
from backend.service.columns import Nodes
from backend.service.predictions import changed_predictions, target_logits, token_tensor, top_predictions
from backend.service.run import Run
from backend.service.text import tokens
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.address import parse_address, parse_node_key
from compute.progress import Report
from storage.errors import UnknownKeyError
from storage.graph_records import GraphRecord, InterventionRecord

if TYPE_CHECKING:
    from torch import Tensor

    from compute.address import Address
    from compute.decomposition.model import Decomposition

#: Predictions kept of each position.
_KEPT = 10


def request(workshop: Workshop, graph_id: int, request: InterventionRequest) -> Job:
    """A job for an intervention, joined where one computes the same."""
    run, record = workshop.graph(graph_id)
    nodes = workshop.columns.nodes(workshop.database, record)
    request = _checked(run, workshop, record, nodes, request)
    key = ("intervention", record.id, record.created, json.dumps(request.model_dump(mode="json")))
    return workshop.jobs.submit(
        "intervention",
        run.name,
        key,
        Priority.GRAPH,
        lambda progress: _compute(workshop, run, record, nodes, request, progress),
    )


def _checked(
    run: Run, workshop: Workshop, record: GraphRecord, nodes: Nodes, request: InterventionRequest
) -> InterventionRequest:
    """The request with everything named once; raises a 404 for nodes that are not there."""
    if not request.regimes and not request.changes:
        raise ServiceError(
            422, "bad_input", "Nothing is asked for", "Give at least one regime or one change."
        )
    for key in request.selected:
        if key not in nodes.numbers:
            raise UnknownKeyError(f"the graph has no node {key}", "select nodes of this graph only")
    changed = [change.key for change in request.changes]
    if len(set(changed)) != len(changed):
        raise ServiceError(422, "bad_input", "A node is changed twice", "Give one factor for each.")
    ids = workshop.database.prompt(record.prompt_id).token_ids
    for key in changed:
        check_node(run, ids, key)
    return request.model_copy(
        update={
            "selected": list(dict.fromkeys(request.selected)),
            "regimes": list(dict.fromkeys(request.regimes)),
        }
    )


def check_node(run: Run, ids: Sequence[int], text: str) -> None:
    """Raise a 404 unless the node is one of this prompt whose contribution can be scaled."""
    node = parse_node_key(text)
    if node.address.kind in ("output", "target"):
        raise UnknownKeyError(f"{node} only receives", "change components, deltas, biases or embeddings")
    run.key(str(node.key))
    if node.position >= len(ids):
        raise UnknownKeyError(f"{node} is outside the prompt", f"it has {len(ids)} tokens")
    expected = {"embed": ids[node.position], "position": node.position}.get(node.address.kind, node.index)
    if node.index != expected:
        raise UnknownKeyError(
            f"{node} is not in the prompt", f"there is {node.address}:{node.position}:{expected}"
        )


def _compute(
    workshop: Workshop,
    run: Run,
    record: GraphRecord,
    nodes: Nodes,
    request: InterventionRequest,
    progress: Progress,
) -> JobResult:
    """Compute and store; called by the thread that computes."""
    from compute import intervention as compute

    watch = Stopwatch()
    progress.report("loading the model", 0, 0)
    model = workshop.models.get(run)
    ids = workshop.database.prompt(record.prompt_id).token_ids
    prompt = token_tensor(model, ids)
    is_component = nodes.is_component
    chosen = np.zeros(len(nodes), dtype=bool)
    chosen[[nodes.numbers[key] for key in request.selected]] = True
    ignored = int((chosen & ~is_component).sum())
    with graphs.refusals(), PeakMemory() as peak:
        before = target_logits(model, prompt)
        after: dict[str, Tensor] = {}
        if request.regimes:
            masks = [_masks(model, nodes, which, len(ids)) for which in (chosen & is_component, is_component)]
            after |= compute.intervene(
                model,
                prompt,
                *masks,
                regimes=request.regimes,
                seed=request.seed,
                adversary=compute.Adversary(request.adversary.steps, request.adversary.step_size),
                report=progress.report,
            )
        if request.changes:
            progress.report("single nodes", 0, 1)
            after["changes"] = compute.change(
                model, prompt, [_change(c.key, c.factor) for c in request.changes]
            )
    progress.report("storing", 0, 0)
    logits = {name: value.cpu().numpy() for name, value in after.items()}
    result = {
        "before": _dumped(top_predictions(run, before, _KEPT, range(len(ids)))),
        "after": {
            name: _dumped(changed_predictions(run, before, value, _KEPT)) for name, value in logits.items()
        },
        "kl": {name: divergence(before, value).tolist() for name, value in logits.items()},
    }
    kept = {"ignored": ignored, "seconds": watch.seconds, "peak_bytes": peak.bytes}
    stored = workshop.database.add_intervention(record.id, request.model_dump(mode="json"), kept, result)
    return JobResult(intervention_id=stored.id)


def _dumped(found: Sequence[PositionPredictions | ChangedPredictions]) -> list[Any]:
    return [one.model_dump(mode="json") for one in found]


def divergence(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """KL(softmax before ‖ softmax after) at each position in nats, in float64; both [T, vocab]."""

    def log_softmax(logits: np.ndarray) -> np.ndarray:
        shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    p, q = log_softmax(before), log_softmax(after)
    return np.maximum((np.exp(p) * (p - q)).sum(-1), 0.0)


def _masks(model: Decomposition, nodes: Nodes, which: np.ndarray, length: int) -> dict[Address, Tensor]:
    """The components among the nodes that are marked, as boolean [T, C] by site."""
    import torch

    device = next(model.parameters()).device
    masks: dict[Address, Tensor] = {}
    for site, text in enumerate(nodes.addresses):
        places = np.flatnonzero(which & (nodes.columns["site"] == site))
        if not len(places):
            continue
        address = parse_address(text)
        mask = torch.zeros(length, model.n_components[address], dtype=torch.bool)
        mask[
            nodes.columns["position"][places].astype(np.int64),
            nodes.columns["index"][places].astype(np.int64),
        ] = True
        masks[address] = mask.to(device)
    return masks


def _change(key: str, factor: float) -> Any:
    from compute.intervention import NodeChange

    node = parse_node_key(key)
    return NodeChange(node.address, node.position, node.index, factor)


# ---- reading ------------------------------------------------------------------------------------


def _intervention(
    workshop: Workshop, run: Run, graph: GraphRecord, record: InterventionRecord
) -> Intervention:
    asked = InterventionRequest.model_validate(record.request)
    result = workshop.database.intervention_result(record.id)
    return Intervention(
        id=record.id,
        graph_id=graph.id,
        run=run.name,
        selected=asked.selected,
        regimes=asked.regimes,
        changes=asked.changes,
        seed=asked.seed,
        adversary=asked.adversary,
        ignored=record.summary["ignored"],
        tokens=tokens(run, workshop.database.prompt(graph.prompt_id).token_ids),
        before=result["before"],
        after=result["after"],
        kl=result["kl"],
        seconds=record.summary["seconds"],
        peak_bytes=record.summary["peak_bytes"],
        created=record.created,
    )


def list_interventions(workshop: Workshop, graph_id: int) -> InterventionList:
    watch = Stopwatch()
    run, graph = workshop.graph(graph_id)
    found = [
        _intervention(workshop, run, graph, record) for record in workshop.database.interventions(graph_id)
    ]
    return InterventionList(interventions=found, seconds=watch.seconds)


def get(workshop: Workshop, intervention_id: int) -> Intervention:
    record = workshop.database.intervention(intervention_id)
    run, graph = workshop.graph(record.graph_id)
    return _intervention(workshop, run, graph, record)


def delete(workshop: Workshop, intervention_id: int) -> None:
    workshop.database.delete_intervention(intervention_id)


# ---- edges --------------------------------------------------------------------------------------


async def check_edge(
    workshop: Workshop, graph_id: int, request: EdgeCheckRequest, gone: Callable[[], Awaitable[bool]]
) -> EdgeCheck:
    """Perturb the source and see what the target does."""
    watch = Stopwatch()

    def prepare() -> tuple[Run, GraphRecord, tuple[int, ...]]:
        run, record = workshop.graph(graph_id)
        nodes = workshop.columns.nodes(workshop.database, record)
        for key in (request.source, request.target):
            if key not in nodes.numbers:
                raise UnknownKeyError(f"the graph has no node {key}", "check edges of this graph only")
        ids = workshop.database.prompt(record.prompt_id).token_ids
        check_node(run, ids, request.source)
        return run, record, ids

    run, record, ids = await run_in_threadpool(prepare)
    settings = graphs.settings_of(record)
    target = parse_node_key(request.target)

    def work(_: Report) -> Any:
        from compute import intervention as compute

        model = workshop.models.get(run)
        terms = None
        if target.address.kind == "target":
            assert isinstance(target.index, int)
            terms = graphs.prompt_settings(settings).targets[target.index].terms
        try:
            with graphs.refusals():
                return compute.check_edge(
                    model,
                    token_tensor(model, ids),
                    parse_node_key(request.source),
                    target,
                    delta=settings.delta,
                    epsilon=request.epsilon,
                    terms=terms,
                )
        except ValueError as error:
            raise UnknownKeyError(str(error), "choose two ends of an edge of this graph") from error

    found, peak = await workshop.quick(work, gone)
    return EdgeCheck(
        source=request.source,
        target=request.target,
        epsilon=found.epsilon,
        predicted=found.predicted,
        actual=found.actual,
        total=found.total,
        before=found.before,
        after=found.after,
        seconds=watch.seconds,
        peak_bytes=peak,
    )
