"""Prompt graphs: computing, reading, exporting and importing them, and the workspace on each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from backend.dependencies import IdParam, KParam, RunDep, WorkshopDep
from backend.errors import responses
from backend.graph_file_schemas import GraphExport
from backend.graph_schemas import (
    GraphDetail,
    GraphEstimate,
    GraphList,
    GraphMetric,
    GraphRequest,
    GraphSummary,
    GraphUpdate,
    NodeEdges,
    Workspace,
)
from backend.job_schemas import Job
from backend.service import exchange, graphs, workspaces

router = APIRouter(tags=["graphs"])
_ERRORS = responses(404, 409, 422, 503)
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "/runs/{run}/graphs",
    status_code=202,
    responses=responses(404, 409, 413, 422, 503)
    | {200: {"model": Job, "description": "The graph was there already: a job that is done"}},
)
async def compute(
    run: RunDep, workshop: WorkshopDep, request: GraphRequest, response: Response, connection: Request
) -> Job:
    """Compute a graph. What would need too much memory is refused with what would fit."""
    job = await graphs.request(workshop, run, request, connection.is_disconnected)
    response.status_code = 200 if job.state == "done" else 202
    return job


@router.post("/runs/{run}/graphs:estimate", responses=responses(404, 409, 413, 422, 503))
async def estimate(
    run: RunDep, workshop: WorkshopDep, request: GraphRequest, connection: Request
) -> GraphEstimate:
    """How large a graph would be, and whether that fits."""
    return await graphs.estimate(workshop, run, request, connection.is_disconnected)


@router.post(
    "/runs/{run}/graphs:import",
    name="import",
    status_code=201,
    responses=responses(404, 409, 413, 422, 503)
    | {200: {"model": GraphSummary, "description": "This very file was imported before"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/GraphExport"}}},
        }
    },
)
async def import_graph(
    run: RunDep, workshop: WorkshopDep, connection: Request, response: Response
) -> GraphSummary:
    """Read an exported graph back, its workspace included. Everything in it is checked."""
    summary, created = await exchange.import_graph(workshop, run, await connection.body())
    response.status_code = 201 if created else 200
    return summary


@router.get("/runs/{run}/graphs", name="list", responses=_ERRORS)
def list_all(
    run: RunDep,
    workshop: WorkshopDep,
    prompt: Annotated[int | None, Query(ge=1, lt=2**63, description="Only this prompt's")] = None,
) -> GraphList:
    """The graphs of a run as it is now."""
    return graphs.list_graphs(workshop, run, prompt)


@router.get("/graphs/{id}", responses=_ERRORS)
def get(workshop: WorkshopDep, id: IdParam) -> GraphDetail:  # noqa: A002 (the path's name)
    """A graph with its nodes as columns; its edges have a route of their own."""
    return graphs.get(workshop, id)


@router.patch("/graphs/{id}", responses=_ERRORS)
def update(workshop: WorkshopDep, id: IdParam, request: GraphUpdate) -> GraphSummary:  # noqa: A002
    """Change a graph's title or note."""
    return graphs.update(workshop, id, request)


@router.delete("/graphs/{id}", status_code=204, responses=_ERRORS)
def delete(workshop: WorkshopDep, id: IdParam) -> None:  # noqa: A002
    """Delete a graph with its interventions, pins, groups and notes."""
    graphs.delete(workshop, id)


@router.get(
    "/graphs/{id}/edges",
    response_class=Response,
    responses=_ERRORS | {200: {"content": _BINARY, "description": "Binary columns"}},
)
def edges(
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    top: Annotated[int | None, Query(ge=0, lt=2**32, description="Only the strongest; default all")] = None,
    metric: GraphMetric = "attr",
) -> Response:
    """Edges as binary columns (docs/graph-format.md): TRIBGRF1, how many, of how many, the share left out."""
    return Response(graphs.edge_bytes(workshop, id, top, metric), media_type="application/octet-stream")


@router.get("/graphs/{id}/nodes/{number}/edges", responses=_ERRORS)
def node_edges(
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    number: Annotated[int, Path(ge=0, lt=2**31, description="A node's place in the columns")],
    metric: GraphMetric = "attr",
    k: KParam = 10,
) -> NodeEdges:
    """The strongest sources and targets of a node among all stored edges."""
    return graphs.node_edges(workshop, id, number, metric, k)


@router.get("/graphs/{id}/workspace", responses=_ERRORS)
def workspace(workshop: WorkshopDep, id: IdParam) -> Workspace:  # noqa: A002
    """Pins, groups and notes; version 0 where nothing was saved yet."""
    return workspaces.get(workshop, id)


@router.put("/graphs/{id}/workspace", responses=responses(404, 409, 413, 422, 503))
def save_workspace(workshop: WorkshopDep, id: IdParam, request: Workspace) -> Workspace:  # noqa: A002
    """Replace the workspace; a 409 where somebody else saved since the version that was read."""
    return workspaces.save(workshop, id, request)


@router.get(
    "/graphs/{id}/export",
    response_class=StreamingResponse,
    responses=_ERRORS
    | {
        200: {
            "description": "The whole graph as JSON, or its edges as CSV",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/GraphExport"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    },
)
def export(
    workshop: WorkshopDep,
    id: IdParam,  # noqa: A002
    format: Annotated[exchange.Format, Query(description="json can be imported again")] = "json",  # noqa: A002
) -> StreamingResponse:
    """A graph as a file: everything as JSON, or its edges as CSV; streamed."""
    name, media_type, chunks = exchange.export(workshop, id, format)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks, media_type=media_type, headers=headers)


#: Models that no route names as its parameter; the OpenAPI document needs them all the same.
EXTRA_MODELS = (GraphExport,)
