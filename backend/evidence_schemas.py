"""Wire models of evidence: when a component fires, on what, with whom, and what it does to a text.

A component *fires* at a position where its causal importance is above the threshold of the harvest
(0 unless said otherwise). Activations are always scaled by ‖U‖. What cards and tooltips hold of it
(``Example``, ``TokenAssociation``, ``CompactEvidence``) is in schemas.py.

The names of shares follow what is conditioned on: *recall* is the share of this component's firings
that are with the other thing (a token, another component), *precision* the share of the other thing's
occurrences at which this component fires.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from backend.keys import KeyText
from backend.request_schemas import BY_SOURCE, Body, Text, TokenIds
from backend.schemas import Example, Schema, Token, TokenAssociation

ExampleKind = Literal["random", "strongest"]
FiringOrder = Literal["sum", "excess"]
UNIT = "activation scaled by ‖U‖"
#: The most associations in a list, and examples or tokens on a page.
MAX_ASSOCIATIONS = 200
MAX_EXAMPLES = 200
MAX_TOKENS = 2048


class ActivationSummary(Schema):
    """The activation over all positions, scaled by ‖U‖, whether the component fires or not."""

    mean: float
    rms: float = Field(description="Root mean square")
    min: float
    max: float
    mean_firing: float | None = Field(description="Mean where it fires; null where it never does")


class Histogram(Schema):
    """The scaled activation at the positions where the component fires."""

    edges: list[float] = Field(description="One more than counts; empty where it never fires")
    counts: list[int]


class TokenAssociations(Schema):
    positive: list[TokenAssociation] = Field(description="More often together than by chance")
    negative: list[TokenAssociation] = Field(description="Less often together than by chance")
    positive_total: int = Field(
        description="How many go together more than by chance; positive lists the first k"
    )
    negative_total: int = Field(description="How many go together less than by chance")
    complete: bool = Field(
        description="Whether every token took part; else only those kept by a compact harvest"
    )


class ComponentAssociation(Schema):
    """How two components' firings go together."""

    key: str
    count: int = Field(description="Positions at which both fire")
    other_count: int = Field(description="Positions at which the other fires")
    recall: float = Field(description="count / this component's firings: P(other fires | this fires)")
    recall_low: float = Field(description="Lower end of the 95% (Wilson) interval of the recall")
    recall_high: float
    precision: float = Field(description="count / other_count: P(this fires | other fires)")
    precision_low: float
    precision_high: float
    lift: float = Field(description="How much more often than by chance, smoothed")
    jaccard: float = Field(description="count / positions at which either fires")
    pmi: float = Field(description="Pointwise mutual information in nats: ln lift")
    pmi_low: float = Field(description="Lower end of the 95% interval of the pmi")
    pmi_high: float


class ComponentAssociations(Schema):
    positive: list[ComponentAssociation] = Field(description="More often together than by chance")
    negative: list[ComponentAssociation] = Field(description="Less often together than by chance")
    positive_total: int = Field(
        description="How many go together more than by chance; positive lists the first k"
    )
    negative_total: int = Field(description="How many go together less than by chance")
    complete: bool = Field(
        description="Whether every component took part; else only those kept by a compact harvest"
    )


class Evidence(Schema):
    """What a harvest says of one component, but for its examples."""

    run: str
    key: str
    subrun: str
    tokens: int = Field(description="Positions that everything here rests on")
    documents: int
    threshold: float = Field(description="It fires where its causal importance is above this")
    firing_count: int
    density: float = Field(description="firing_count / tokens")
    mean_ci: float
    max_ci: float
    activation: ActivationSummary
    histogram: Histogram
    unit: str = Field(description="What activations are, in words")
    sampling: str = Field(description="How the examples were drawn, in words")
    ranking: str = Field(description="How associations are smoothed and ranked, in words")
    n_random: int = Field(description="Random examples kept of this component")
    n_strongest: int = Field(description="Strongest examples kept of this component")
    input_tokens: TokenAssociations
    output_tokens: TokenAssociations
    cofiring: ComponentAssociations
    notes: list[str] = Field(description="Facts a reader must know, e.g. what a compact harvest left out")
    seconds: float


class ExamplePage(Schema):
    run: str
    key: str
    subrun: str
    kind: ExampleKind
    examples: list[Example]
    total: int = Field(description="Firings in the whole corpus, of which these are examples")
    kept: int = Field(description="Examples kept of this kind")
    matching: int = Field(description="How many of those kept have the token asked for; kept without one")
    next_cursor: str | None
    unit: str = Field(description="What activations are, in words")
    sampling: str = Field(description="How the examples were drawn, in words")
    seconds: float


class DocumentPage(Schema):
    """A part of a document, with what a component does at each of its tokens."""

    run: str
    document: int
    title: str
    documents: int = Field(description="How many the corpus has")
    validation: bool = Field(description="Whether it was held out when the model was trained")
    total: int = Field(description="Tokens in the document")
    corpus_start: int = Field(description="Position of the document's first token in the corpus")
    start: int = Field(description="Position of the first token here in the document")
    tokens: list[Token]
    next_start: int | None = Field(description="Where the next part begins; null at the end")
    key: str | None
    ci: list[float] | None = Field(description="Of the key at each token; null without a key")
    activation: list[float] | None = Field(description="Scaled by ‖U‖; null without a key")
    windows: str | None = Field(description="What the model saw before each token, in words")
    unit: str = Field(description="What activations are, in words")
    seconds: float
    peak_bytes: int = Field(description="Most memory that the computation held at once; 0 without a key")


class _FiringOptions(Body):
    keys: list[KeyText] = Field(
        default_factory=list[KeyText],
        max_length=20,
        description="Components whose values are wanted at each token",
    )
    k: Annotated[int, Field(ge=0, le=200, description="How many of the components that fire most")] = 10
    per_token: Annotated[
        int, Field(ge=0, le=20, description="How many of the strongest components at each token")
    ] = 3
    order: FiringOrder = Field(
        default="sum",
        description="What strongest means: sum, the causal importance; excess, how far it is above the component's "
        "mean over the corpus",
    )


class FiringsOfText(_FiringOptions):
    text: Text


class FiringsOfTokens(_FiringOptions):
    token_ids: TokenIds


FiringRequest = Annotated[
    Annotated[FiringsOfText, Tag("text")] | Annotated[FiringsOfTokens, Tag("token_ids")], BY_SOURCE
]


class ComponentFirings(Schema):
    """One component along a text."""

    key: str
    firing_count: int = Field(description="Tokens of the text at which it fires")
    ci_sum: float
    ci_max: float
    mean_ci: float | None = Field(description="Over the corpus; null without statistics")
    position: int = Field(description="Of the token with the largest causal importance")
    ci: list[float] = Field(description="At each token")
    activation: list[float] = Field(description="At each token, scaled by ‖U‖")


class TokenFiring(Schema):
    """One component at one token."""

    key: str
    ci: float
    activation: float = Field(description="Scaled by ‖U‖")


class PositionFirings(Schema):
    position: int
    firing_count: int = Field(description="Components that fire at this token")
    strongest: list[TokenFiring] = Field(description="In the order asked for, then by |activation|")


class Firings(Schema):
    """What components do on a text, computed now."""

    run: str
    tokens: list[Token]
    context: int = Field(description="The most tokens this model reads")
    threshold: float = Field(description="A component fires where its causal importance is above this")
    components: list[ComponentFirings] = Field(description="The keys asked for, in that order, each once")
    order: FiringOrder = Field(
        description="What strongest means here: sum also where there are no statistics"
    )
    strongest: list[ComponentFirings] = Field(
        description="Those that fire most: by summed causal importance, or by its excess over the usual"
    )
    firing: int = Field(description="Components that fire anywhere in the text")
    positions: list[PositionFirings] = Field(description="Each token with its strongest components")
    unit: str = Field(description="What activations are, in words")
    seconds: float
    peak_bytes: int = Field(description="Most memory that the computation held at once")
