"""Sparse circuits as jobs and wire models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.circuit_schemas import Circuit, CircuitList, CircuitRequest, CircuitSnapshot
from backend.errors import ServiceError
from backend.job_schemas import Job, JobResult
from backend.jobs import Priority, Progress
from backend.memory import PeakMemory
from backend.service import graphs
from backend.service.predictions import token_tensor
from backend.service.run import Run
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from storage.errors import UnknownKeyError
from storage.graph_records import CircuitRecord, GraphRecord

if TYPE_CHECKING:
    from compute.sparse_importance import CircuitSettings, Snapshot


def request(workshop: Workshop, graph_id: int, request: CircuitRequest) -> Job:
    """A job for the circuits of a sweep, joined where one computes the same."""
    run, record = workshop.graph(graph_id)
    ids = workshop.database.prompt(record.prompt_id).token_ids
    if request.position >= len(ids):
        raise ServiceError(
            422,
            "bad_input",
            f"There is no position {request.position}: the prompt has {len(ids)} tokens",
            f"Positions are 0 to {len(ids) - 1}; −1 is the last.",
        )
    if request.token_id is not None and request.token_id >= run.config.vocab_size:
        raise UnknownKeyError(
            f"{run.name} has no token {request.token_id}", f"ids are 0 to {run.config.vocab_size - 1}"
        )
    if request.adversary_steps and request.masks == "ci":
        raise ServiceError(
            422,
            "bad_input",
            "An adversary moves stochastic masks; with masks ci there is nothing to move",
            "Choose stochastic masks, or no adversary.",
        )
    key = ("circuits", record.id, record.created, json.dumps(request.model_dump(mode="json")))
    return workshop.jobs.submit(
        "circuits",
        run.name,
        key,
        Priority.CIRCUITS,
        lambda progress: _compute(workshop, run, record, request, progress),
    )


def _settings(request: CircuitRequest) -> CircuitSettings:
    from compute import sparse_importance as compute

    return compute.CircuitSettings(
        loss=request.loss,
        position=request.position,
        token=request.token_id,
        coefficients=tuple(request.coefficients),
        steps=request.steps,
        learning_rate=request.learning_rate,
        p=request.p,
        masks=request.masks,
        adversary_steps=request.adversary_steps,
        seed=request.seed,
    )


def _compute(
    workshop: Workshop, run: Run, record: GraphRecord, request: CircuitRequest, progress: Progress
) -> JobResult:
    """Optimise and store; called by the thread that computes."""
    from compute import sparse_importance as compute
    from storage.graph_columns import sparse_columns

    watch = Stopwatch()
    progress.report("loading the model", 0, 0)
    model = workshop.models.get(run)
    ids = workshop.database.prompt(record.prompt_id).token_ids

    def snapshot(seen: Snapshot) -> None:
        progress.snapshot(
            CircuitSnapshot(step=seen.step, loss=seen.loss, alive=seen.alive, probability=seen.probability)
        )

    with graphs.refusals(), PeakMemory() as peak:
        try:
            found = compute.optimise(
                model, token_tensor(model, ids), _settings(request), report=progress.report, snapshot=snapshot
            )
        except ValueError as error:  # nothing is alive
            raise ServiceError(
                422, "not_possible", str(error), "Choose another position or prompt."
            ) from error
    progress.report("storing", 0, 0)
    stored: list[int] = []
    for circuit in found:
        summary = {
            "graph_id": record.id,
            "coefficient": circuit.coefficient,
            "alive": circuit.alive,
            "loss": circuit.loss,
            "kl": circuit.kl,
            "probability": circuit.probability,
            "kl_alone": circuit.kl_alone,
            "probability_alone": circuit.probability_alone,
            "seconds": watch.seconds,
            "peak_bytes": peak.bytes,
        }
        history = [
            {"step": p.step, "loss": [p.loss], "alive": [p.alive], "probability": [p.probability]}
            for p in circuit.history
        ]
        importance: dict[str, np.ndarray] = {
            str(address): value.detach().cpu().numpy() for address, value in circuit.importance.items()
        }
        kept = workshop.database.add_circuit(
            record.prompt_id,
            request.model_dump(mode="json"),
            summary,
            {"history": history},
            sparse_columns(importance),
        )
        stored.append(kept.id)
    return JobResult(circuit_ids=stored)


def _circuit(workshop: Workshop, run: Run, record: CircuitRecord, all_graphs: list[GraphRecord]) -> Circuit:
    kept: dict[str, Any] = record.summary
    there = {graph.id for graph in all_graphs}
    return Circuit(
        id=record.id,
        graph_id=kept["graph_id"] if kept["graph_id"] in there else 0,
        prompt_id=record.prompt_id,
        run=run.name,
        coefficient=kept["coefficient"],
        settings=CircuitRequest.model_validate(record.settings),
        alive=kept["alive"],
        loss=kept["loss"],
        kl=kept["kl"],
        probability=kept["probability"],
        kl_alone=kept["kl_alone"],
        probability_alone=kept["probability_alone"],
        history=workshop.database.circuit_result(record.id)["history"],
        graphs=[graph.id for graph in all_graphs if graph.circuit_id == record.id],
        seconds=kept["seconds"],
        peak_bytes=kept["peak_bytes"],
        created=record.created,
    )


def list_circuits(workshop: Workshop, graph_id: int) -> CircuitList:
    watch = Stopwatch()
    run, graph = workshop.graph(graph_id)
    all_graphs = workshop.database.graphs(graph.prompt_id)
    found = [
        _circuit(workshop, run, record, all_graphs) for record in workshop.database.circuits(graph.prompt_id)
    ]
    return CircuitList(circuits=found, seconds=watch.seconds)


def get(workshop: Workshop, circuit_id: int) -> Circuit:
    record = workshop.database.circuit(circuit_id)
    prompt = workshop.database.prompt(record.prompt_id)
    run = workshop.library.get(prompt.run)
    workshop.prompt(run, prompt.id)
    return _circuit(workshop, run, record, workshop.database.graphs(prompt.id))


def delete(workshop: Workshop, circuit_id: int) -> None:
    workshop.database.delete_circuit(circuit_id)
