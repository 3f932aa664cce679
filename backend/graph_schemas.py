"""Wire models of prompt graphs and of what somebody marks in them. As in schemas.py.

How they nest: a prompt has graphs; a graph has a workspace (pins, groups, notes), interventions
(intervention_schemas.py) and sparse circuits (circuit_schemas.py); a circuit is opened as another graph
of the same prompt. What takes long is asked for with a POST that answers with a job (job_schemas.py),
whose result names what it made. Edges are not here: they travel as binary columns
(docs/graph-format.md), or with everything else in a file (graph_file_schemas.py).

Numbers of nodes are positions in a graph's columns; ``position`` counts tokens from 0.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from backend.keys import NodeKeyText
from backend.request_schemas import (
    BY_SOURCE_OR_ID,
    MAX_NODES,
    Body,
    Finite,
    Id,
    Note,
    Position,
    Share,
    Text,
    Title,
    TokenId,
    TokenIds,
)
from backend.schemas import Schema, Token

Delta = Literal["node", "off", "through"]
GraphMetric = Literal["attr", "attr_abs"]
Column = list[float | None]


class OutputTerm(Body):
    position: Position
    token_id: TokenId
    weight: Finite = 1.0


class CustomTarget(Body):
    """Σ weight · logit of (position, token); a logit difference has weights 1 and −1."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    terms: Annotated[list[OutputTerm], Field(min_length=1, max_length=100)]


class GraphSettings(Body):
    """Everything that decides which graph a prompt has."""

    delta: Delta = Field(default="node", description="What happens to the part no component explains")
    alive_above: Share = Field(default=0.0, description="Components with CI above this are nodes")
    output_probability: Share = Field(default=0.01, description="Output tokens at least this probable")
    outputs_at_most: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5, description="Output tokens at each position at most"
    )
    output_positions: (
        Literal["last", "all"] | Annotated[list[Position], Field(min_length=1, max_length=1000)]
    ) = "last"
    targets: Annotated[list[CustomTarget], Field(max_length=100)] = Field(
        default=[], description="Targets beside the output tokens"
    )
    threshold: Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)] = Field(
        default=0.0, description="Leave out edges whose |attr · scale of the target| is below this"
    )
    max_edges: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        default=None, description="Keep only this many edges, the strongest"
    )


class _GraphOptions(Body):
    settings: GraphSettings = GraphSettings()
    circuit_id: Id | None = Field(
        default=None, description="Take causal importance from this sparse circuit of the same prompt"
    )
    title: Title = ""


class GraphOfPrompt(_GraphOptions):
    prompt_id: Id


class GraphOfText(_GraphOptions):
    text: Text


class GraphOfTokens(_GraphOptions):
    token_ids: TokenIds


GraphRequest = Annotated[
    Annotated[GraphOfPrompt, Tag("prompt_id")]
    | Annotated[GraphOfText, Tag("text")]
    | Annotated[GraphOfTokens, Tag("token_ids")],
    BY_SOURCE_OR_ID,
]


class GraphEstimate(Schema):
    """What a graph would need, before it is computed."""

    run: str
    n_tokens: int
    nodes: int
    edges: int
    bytes: int
    limit_bytes: int
    fits: bool
    advice: str = Field(description="Where it does not fit: what would")
    seconds: float
    peak_bytes: int


class Omitted(Schema):
    """What a threshold or a cap left out when the graph was computed; 0 where nothing."""

    edges: int
    share: float = Field(description="Of Σ |attr · scale of the target|")
    share_abs: float = Field(description="Of Σ |attr_abs · scale of the target|")


class GraphSummary(Schema):
    id: int
    run: str
    prompt_id: int
    circuit_id: int | None
    title: str
    note: str
    settings: GraphSettings
    n_nodes: int
    n_edges: int
    omitted: Omitted
    method: str
    method_reason: str
    seconds: float = Field(description="The computation took")
    peak_bytes: int
    imported: bool = Field(description="Read from a file rather than computed here")
    created: str


class PromptDetail(Schema):
    id: int
    run: str
    text: str
    token_ids: list[int]
    tokens: list[str]
    title: str
    created: str
    graphs: list[GraphSummary]
    seconds: float


class GraphList(Schema):
    run: str
    graphs: list[GraphSummary] = Field(description="Newest first")
    seconds: float


class GraphUpdate(Body):
    title: Title | None = None
    note: Note | None = None


class GraphNodes(Schema):
    """Columns, one entry for each node; null where a node has no such value."""

    site: list[int] = Field(description="Index into addresses")
    position: list[int]
    index: list[int] = Field(description="Component, token id or number of target; −1 delta, −2 bias")
    ci: Column = Field(description="Causal importance of components")
    activation: Column = Field(description="Scaled by ‖U‖; the logit for outputs and targets")
    scale: Column = Field(description="‖U‖ of components, else 1")
    probability: Column = Field(description="Of output tokens, in the target model")
    logit: Column
    ci_probability: Column = Field(description="Of output tokens, in the CI-masked model")
    ci_logit: Column


class GraphDetail(Schema):
    """A graph without its edges."""

    id: int
    run: str
    prompt_id: int
    circuit_id: int | None
    title: str
    note: str
    settings: GraphSettings
    text: str
    tokens: list[Token]
    addresses: list[str]
    nodes: GraphNodes
    labels: dict[str, str] = Field(description="Number of a node → its token's text, or its target's name")
    targets: list[CustomTarget]
    n_edges: int
    omitted: Omitted
    method: str = Field(description="closed_form or fallback")
    method_reason: str
    seconds: float = Field(description="The computation took")
    peak_bytes: int
    imported: bool
    provenance: dict[str, str]
    created: str


class NodeEdge(Schema):
    node: int
    key: str
    value: float = Field(description="In units of the target's shown activation; logits for outputs")


class NodeEdgeList(Schema):
    entries: list[NodeEdge]
    total: int = Field(description="Edges of this direction and sign")
    total_value: float


class NodeEdges(Schema):
    """The strongest of all stored edges at a node."""

    graph_id: int
    node: int
    key: str
    metric: GraphMetric
    sources_positive: NodeEdgeList
    sources_negative: NodeEdgeList
    targets_positive: NodeEdgeList
    targets_negative: NodeEdgeList
    seconds: float


# ---- workspace -----------------------------------------------------------------------------------


class Group(Body):
    id: Annotated[str, Field(min_length=1, max_length=100)]
    name: Title
    members: Annotated[list[NodeKeyText], Field(max_length=MAX_NODES)]


class NodeNote(Body):
    key: NodeKeyText
    text: Note


class WorkspaceContent(Body):
    pins: Annotated[list[NodeKeyText], Field(max_length=MAX_NODES)] = Field(default=[])
    groups: Annotated[list[Group], Field(max_length=1000)] = Field(default=[])
    notes: Annotated[list[NodeNote], Field(max_length=10_000)] = Field(default=[])


class Workspace(WorkspaceContent):
    """What somebody marked in a graph. Saving it needs the version that was read."""

    version: Annotated[int, Field(ge=0, lt=2**62)]
