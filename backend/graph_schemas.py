"""Wire models of prompts, prompt graphs, what is done with them, and jobs. As in schemas.py.

How they nest: a prompt has graphs; a graph has a workspace (pins, groups, notes), interventions and
sparse circuits; a circuit is opened as another graph of the same prompt. What takes long is asked for
with a POST that answers with a :class:`Job`, whose result names what it made. Edges are not here:
they travel as binary columns (docs/graph-format.md).

Numbers of nodes are positions in a graph's columns; ``position`` counts tokens from 0. Everything sent
to the server is checked strictly: a body of the wrong types is refused, not converted.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, FailFast, Field, Tag

from backend.keys import NodeKeyText
from backend.schemas import ErrorBody, Schema, Token

Delta = Literal["node", "off", "through"]
GraphMetric = Literal["attr", "attr_abs"]
Regime = Literal["ci", "stochastic", "adversarial", "target_sans"]
JobKind = Literal["graph", "intervention", "circuits", "search_index"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
#: Characters of a prompt's text; the run's context is always far shorter.
MAX_TEXT = 200_000
MAX_IDS = 100_000
#: Nodes in one selection, group or list of pins.
MAX_NODES = 100_000

Id = Annotated[int, Field(ge=1, lt=2**63)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
#: Attention costs the square of a prompt's length; positions are stored in 16 bits.
Position = Annotated[int, Field(ge=0, lt=2**15)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[
    str, Field(min_length=1, max_length=MAX_TEXT, description="Tokenised with the run's own tokenizer")
]
TokenIds = Annotated[
    list[TokenId], Field(min_length=1, max_length=MAX_IDS, description="Used exactly as given")
]
Title = Annotated[str, Field(max_length=200)]
Note = Annotated[str, Field(max_length=20_000)]
Column = list[float | None]


class Body(Schema):
    """What is sent to the server."""

    model_config = ConfigDict(strict=True)


def _source(value: Any) -> str | None:
    """Which of the alternatives a request uses to name its prompt."""
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return next((name for name in ("prompt_id", "text", "token_ids") if name in given), None)


#: The tag of an alternative is its field, so that an error names no more than the field.
BY_SOURCE = Discriminator(
    _source, custom_error_type="no_prompt", custom_error_message="give a text or token_ids"
)
_BY_SOURCE_OR_ID = Discriminator(
    _source, custom_error_type="no_prompt", custom_error_message="give a prompt_id, a text or token_ids"
)


# ---- prompts ------------------------------------------------------------------------------------


class Prompt(Schema):
    """A text as the tokens that the target model sees."""

    id: int
    run: str
    text: str = Field(description="What was typed, or where token ids were given, what they decode to")
    token_ids: list[int]
    tokens: list[str] = Field(description="The text of each token")
    title: str
    created: str
    graphs: int = Field(description="How many graphs it has")
    seconds: float


class PromptOfText(Body):
    text: Text
    title: Title = ""


class PromptOfTokens(Body):
    token_ids: TokenIds
    title: Title = ""


PromptRequest = Annotated[
    Annotated[PromptOfText, Tag("text")] | Annotated[PromptOfTokens, Tag("token_ids")], BY_SOURCE
]


class PromptUpdate(Body):
    title: Title


class PromptList(Schema):
    run: str
    prompts: list[Prompt] = Field(description="Newest first")
    seconds: float


# ---- predictions --------------------------------------------------------------------------------


class _PredictionOptions(Body):
    k: Annotated[int, Field(ge=1, le=1000, description="How many tokens at each position")] = 10
    positions: Literal["last", "all"] = "last"
    q: Annotated[
        str | None,
        Field(max_length=200, description="Only tokens whose text contains this, most probable first"),
    ] = None


class PredictionsOfText(_PredictionOptions):
    text: Text


class PredictionsOfTokens(_PredictionOptions):
    token_ids: TokenIds


PredictionRequest = Annotated[
    Annotated[PredictionsOfText, Tag("text")] | Annotated[PredictionsOfTokens, Tag("token_ids")], BY_SOURCE
]


class PredictedToken(Schema):
    token_id: int
    text: str
    probability: float
    logit: float


class PositionPredictions(Schema):
    position: int
    top: list[PredictedToken] = Field(description="Most probable first")


class Predictions(Schema):
    """Next-token probabilities of the target model."""

    run: str
    token_ids: list[int]
    tokens: list[str]
    context: int = Field(description="The most tokens this model reads")
    positions: list[PositionPredictions]
    total: int = Field(description="How many tokens match q; all of them without q")
    seconds: float
    peak_bytes: int = Field(description="Most memory that the computation held at once")


# ---- graphs -------------------------------------------------------------------------------------


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
    _BY_SOURCE_OR_ID,
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


# ---- workspace ----------------------------------------------------------------------------------


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


# ---- export -------------------------------------------------------------------------------------


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


# ---- interventions and edge checks --------------------------------------------------------------


class Adversary(Body):
    steps: Annotated[int, Field(ge=1, le=1000)] = 4
    step_size: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0


class NodeChange(Body):
    key: NodeKeyText = Field(description="A component, delta, bias, embedding or learned position")
    factor: Finite = Field(description="What it contributes is multiplied by this; 0 ablates")


class InterventionRequest(Body):
    """Forward passes with a chosen node set in each regime, and one with single nodes changed."""

    selected: Annotated[list[NodeKeyText], Field(max_length=MAX_NODES)] = Field(default=[])
    regimes: Annotated[list[Regime], Field(max_length=4)] = Field(default=[])
    changes: Annotated[list[NodeChange], Field(max_length=1000)] = Field(default=[])
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    adversary: Adversary = Adversary()


class ChangedToken(Schema):
    token_id: int
    text: str
    probability: float
    logit: float
    probability_before: float
    logit_before: float


class ChangedPredictions(Schema):
    position: int
    top: list[ChangedToken] = Field(description="Most probable first")


class Intervention(Schema):
    """What was asked, and what it did. ``after`` and ``kl`` are by regime, and by ``changes``."""

    id: int
    graph_id: int
    run: str
    selected: list[str]
    regimes: list[Regime]
    changes: list[NodeChange]
    seed: int
    adversary: Adversary
    ignored: int = Field(description="Selected nodes that are no components; nothing can be done to them")
    tokens: list[Token]
    before: list[PositionPredictions] = Field(description="Of the target model, at each position")
    after: dict[str, list[ChangedPredictions]]
    kl: dict[str, list[float]] = Field(
        description="Divergence from the target model at each position, in nats"
    )
    seconds: float = Field(description="The computation took")
    peak_bytes: int
    created: str


class InterventionList(Schema):
    interventions: list[Intervention] = Field(description="Newest first")
    seconds: float


class EdgeCheckRequest(Body):
    source: NodeKeyText
    target: NodeKeyText
    epsilon: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.01


class EdgeCheck(Schema):
    """The source's activation was scaled by 1 + ε; what the edge predicts, and what happened."""

    source: str
    target: str
    epsilon: float
    predicted: float = Field(description="Change of the target: ε times the edge's attr")
    actual: float = Field(description="Change with every other cut point held: direct paths only")
    total: float = Field(description="Change with nothing held: all paths")
    before: float
    after: float
    seconds: float
    peak_bytes: int


# ---- sparse circuits ----------------------------------------------------------------------------


class CircuitRequest(Body):
    """Which prediction to keep, and how hard to press for few nodes."""

    loss: Literal["ce", "kl", "logit"] = "kl"
    position: Annotated[int, Field(ge=-1, lt=2**15)] = Field(
        default=-1, description="Where the prediction is; −1 is the last token"
    )
    token_id: TokenId | None = Field(default=None, description="The token to keep; default the most probable")
    coefficients: Annotated[
        list[Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]], Field(min_length=1, max_length=32)
    ] = Field(default=[0.01, 0.03, 0.1, 0.3])
    steps: Annotated[int, Field(ge=1, le=100_000)] = 300
    learning_rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.05
    p: Annotated[float, Field(gt=0, le=2, allow_inf_nan=False)] = Field(
        default=1.0, description="Exponent of the penalty on importance"
    )
    masks: Literal["stochastic", "ci"] = "stochastic"
    adversary_steps: Annotated[int, Field(ge=0, le=100)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class CircuitSnapshot(Schema):
    """One entry for each coefficient."""

    step: int
    loss: list[float]
    alive: list[int]
    probability: list[float]


class Circuit(Schema):
    id: int
    graph_id: int = Field(description="The graph it was asked for; 0 where that was deleted")
    prompt_id: int
    run: str
    coefficient: float
    settings: CircuitRequest
    alive: int = Field(description="Components at positions with causal importance above 0")
    loss: float = Field(description="At the chosen position, under the kind of masks that was optimised")
    kl: float = Field(description="From the target model's distribution there, in nats")
    probability: float = Field(description="Of the token that was to be kept")
    kl_alone: float = Field(description="Of the circuit by itself: importances as masks, deltas off")
    probability_alone: float
    history: list[CircuitSnapshot] = Field(description="One entry in each list: this coefficient's")
    graphs: list[int] = Field(description="Graphs that were computed from it")
    seconds: float = Field(description="The whole sweep took")
    peak_bytes: int
    created: str


class CircuitList(Schema):
    circuits: list[Circuit] = Field(description="Newest first")
    seconds: float


# ---- jobs ---------------------------------------------------------------------------------------


class JobResult(Schema):
    graph_id: int | None = None
    intervention_id: int | None = None
    circuit_ids: list[int] | None = None
    search_subrun: str | None = None


class Job(Schema):
    """A computation: waiting, running, or finished and remembered for a while."""

    id: str
    kind: JobKind
    run: str
    state: JobState
    phase: str = Field(description="What it is doing")
    done: int
    total: int = Field(description="Of this phase; 0 where that is not known")
    seconds_left: float | None = Field(description="In this phase, from the rate measured so far")
    seconds: float = Field(description="Computing so far, or in all")
    ahead: int = Field(description="Jobs that are computed before it while it is queued")
    created: str
    error: ErrorBody | None
    result: JobResult | None


class JobList(Schema):
    jobs: list[Job] = Field(description="Newest first")
    seconds: float
