"""Workspaces: what somebody pinned, grouped and noted in a graph."""

from __future__ import annotations

from backend.errors import ServiceError
from backend.graph_schemas import Group, NodeNote, Workspace, WorkspaceContent
from backend.service.columns import Nodes
from backend.service.workshop import Workshop
from storage import graph_records
from storage.errors import UnknownKeyError


def get(workshop: Workshop, graph_id: int) -> Workspace:
    workshop.graph(graph_id)
    return _workspace(workshop.database.workspace(graph_id))


def save(workshop: Workshop, graph_id: int, request: Workspace) -> Workspace:
    """Replace the workspace; raises a 409 where it was saved since, a 404 for a node that is not there."""
    _, graph = workshop.graph(graph_id)
    check(workshop.columns.nodes(workshop.database, graph), request)
    version = workshop.database.save_workspace(graph_id, request.version, record(request))
    return request.model_copy(update={"version": version})


def check(nodes: Nodes, content: WorkspaceContent) -> None:
    """Every key is a node of the graph; pins, members, group ids and noted keys are there once each."""
    named = (
        ("pins", content.pins),
        ("groups", [group.id for group in content.groups]),
        ("notes", [note.key for note in content.notes]),
        *((f"group {group.name[:40]!r}", group.members) for group in content.groups),
    )
    for where, values in named:
        if len(set(values)) != len(values):
            raise ServiceError(
                422, "bad_input", f"{where}: something is there twice", "Name everything once."
            )
    members = [key for group in content.groups for key in group.members]
    for key in (*content.pins, *members, *(note.key for note in content.notes)):
        if key not in nodes.numbers:
            raise UnknownKeyError(f"the graph has no node {key}", "pin and note nodes of this graph only")


def record(content: WorkspaceContent) -> graph_records.Workspace:
    return graph_records.Workspace(
        pins=tuple(content.pins),
        groups=tuple(
            graph_records.Group(group.id, group.name, tuple(group.members)) for group in content.groups
        ),
        notes=tuple(graph_records.Note(note.key, note.text) for note in content.notes),
    )


def _workspace(found: graph_records.Workspace) -> Workspace:
    return Workspace(
        version=found.version,
        pins=list(found.pins),
        groups=[Group(id=group.id, name=group.name, members=list(group.members)) for group in found.groups],
        notes=[NodeNote(key=note.key, text=note.text) for note in found.notes],
    )
