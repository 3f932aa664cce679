"""Wire models of a graph as a file (docs/graph-format.md). As in schemas.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import FailFast, Field

from backend.graph_schemas import GraphSettings, WorkspaceContent
from backend.request_schemas import MAX_TEXT, Body, Note, Share, Title, TokenIds

#: The first wrong entry is enough to know of.
_Integers = Annotated[list[int], FailFast()]
_Numbers = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], FailFast()]
_Nullable = Annotated[list[Annotated[float, Field(allow_inf_nan=False)] | None], FailFast()]


class ExportedNodes(Body):
    site: _Integers
    position: _Integers
    index: _Integers
    ci: _Nullable
    activation: _Nullable
    scale: _Nullable
    probability: _Nullable
    logit: _Nullable
    ci_probability: _Nullable
    ci_logit: _Nullable


class ExportedEdges(Body):
    """Columns in the order of targets, then sources."""

    source: _Integers
    target: _Integers
    attr: _Numbers
    attr_abs: _Numbers


class ExportedOmitted(Body):
    edges: Annotated[int, Field(ge=0)]
    share: Share
    share_abs: Share


class GraphExport(Body):
    """A graph as a file (docs/graph-format.md): everything, the workspace included."""

    format: Literal["tributary-graph"]
    version: Literal[1]
    run: str
    run_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the run's run.json")]
    text: Annotated[str, Field(max_length=MAX_TEXT)]
    token_ids: TokenIds
    prompt_title: Title
    title: Title
    note: Note
    settings: GraphSettings
    circuit: dict[str, Any] | None = Field(description="Settings and outcome of the sparse circuit behind it")
    addresses: Annotated[list[str], Field(max_length=10_000)]
    nodes: ExportedNodes
    edges: ExportedEdges
    omitted: ExportedOmitted
    method: Annotated[str, Field(max_length=100)]
    method_reason: Annotated[str, Field(max_length=2000)]
    seconds: Annotated[float, Field(ge=0, le=1e9)]
    peak_bytes: Annotated[int, Field(ge=0, lt=2**62)]
    provenance: dict[str, str]
    created: Annotated[str, Field(max_length=100)]
    workspace: WorkspaceContent
