"""Wire models: the single truth of the REST API and of the command line's ``--json``.

The OpenAPI document and the page's TypeScript types are generated from this file. Names are
snake_case because ``--json`` and notebooks read the same shapes. Floats are never rounded here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.keys import KeyText

Metric = Literal["attr", "attr_abs", "attr_frozen"]
Sign = Literal["positive", "negative"]
Direction = Literal["sources", "targets"]
NodeKind = Literal["component", "embed", "position", "output", "delta", "bias"]
ComponentSort = Literal[
    "key",
    "-mean_ci",
    "mean_ci",
    "-max_ci",
    "max_ci",
    "-density",
    "density",
    "-activation_rms",
    "activation_rms",
    "-strongest_source",
    "strongest_source",
    "-strongest_target",
    "strongest_target",
    "-fires_on",
    "fires_on",
    "-label",
    "label",
]
#: Which components a table keeps by their label: any, none, one given by a person, one given by a model.
Labelled = Literal["any", "none", "person", "model"]
#: The most entries a list holds, and the most components a page of them.
MAX_K = 1000
MAX_PAGE = 2000


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Schema):
    """What every failed request returns."""

    code: str = Field(description="Stable identifier, e.g. unknown_run")
    message: str
    hint: str = Field(description="What to do about it")


#: What a value is: ``normalised`` by the source's denominator and the target's RMS; ``raw``, a sum over
#: the text; or a ``mean`` over its tokens, where the file that it was imported from has no more.
Unit = Literal["normalised", "mean", "raw"]


class Health(Schema):
    status: Literal["ok"]
    version: str
    runs: int = Field(description="Runs that are served, damaged ones included")
    seconds: float


class Entry(Schema):
    """One source or target of a component."""

    key: str
    address: str
    index: int | Literal["delta", "bias"]
    kind: NodeKind
    value: float
    standard_error: float | None = Field(
        description="Jackknife over documents; null where fewer than 5 groups support it"
    )
    support: int | None = Field(
        description="Groups of documents in which the source occurs at all; null where there are no groups"
    )
    label: str | None = Field(description="The token's text for embed and output entries")
    scale_free: bool = Field(
        description="The norm makes this edge cancel in total (embed into block 0 up to eps): read attr_frozen instead"
    )


class EntryList(Schema):
    """Strongest entries of one direction, sign and metric. ``total`` is how many have that sign."""

    status: Literal["available"] = "available"
    run: str
    key: str
    direction: Direction
    metric: Metric
    sign: Sign
    normalised: bool
    unit: Unit
    tokens: int
    subrun: str
    entries: list[Entry]
    total: int = Field(description="Entries of this sign with a non-zero value")
    total_value: float = Field(description="Sum of the values of all entries of this sign")
    shown_value: float = Field(description="Sum of the values of the entries in this list")
    seconds: float


class Unavailable(Schema):
    """A list that does not exist, with the reason (e.g. attr_abs into output tokens)."""

    status: Literal["unavailable"] = "unavailable"
    direction: Direction
    metric: Metric
    sign: Sign
    reason: str


#: What a card holds in each of its four places; ``status`` tells which.
EntryListOrReason = Annotated[EntryList | Unavailable, Field(discriminator="status")]


class Token(Schema):
    id: int
    text: str = Field(description="As the tokenizer writes this token on its own")


class StrongestEnd(Schema):
    """The strongest source or target of a component, of either sign, by normalised attr."""

    key: str
    label: str | None = Field(description="The token's text for embed and output entries")
    value: float


class EndReading(Schema):
    """How a filter by the strongest source or target was read."""

    kind: Literal["key", "site", "layer", "token"]
    text: str = Field(description="The key, site, layer or the token's text")
    tokens: list[Token] = Field(description="The tokens that the text means; empty for the other kinds")


class TokenAssociation(Schema):
    """How a component's firing goes with one token; for output tokens counts are predicted mass.

    The mass of an output token is the sum of the probabilities that the target model gives it as the
    next token.
    """

    token_id: int
    text: str
    count: float = Field(description="Firings on this input token, or predicted mass where it fires")
    token_total: float = Field(description="Occurrences of the token, or its predicted mass, everywhere")
    firing_count: int = Field(description="Positions at which the component fires")
    recall: float = Field(description="count / firing_count: the token's share of the firings")
    recall_low: float = Field(description="Lower end of the 95% (Wilson) interval of the recall")
    recall_high: float
    precision: float = Field(description="count / token_total: how often it fires, given the token")
    precision_low: float
    precision_high: float
    lift: float = Field(description="How much more often than by chance, smoothed; about precision / density")
    pmi: float = Field(description="Pointwise mutual information in nats: ln lift")
    pmi_low: float = Field(description="Lower end of the 95% interval of the pmi")
    pmi_high: float


class Example(Schema):
    """A place in the corpus where a component fires, with context on both sides.

    ``tokens``, ``ci`` and ``activation`` have one entry for each place of the window; all three are
    null where the window reaches beyond what the model saw.
    """

    document: int
    document_title: str
    corpus_position: int = Field(description="Of the firing token, in the whole corpus")
    document_position: int = Field(description="Of the firing token, in its document")
    left: int = Field(description="Places before the firing token: its own place in the lists")
    tokens: list[Token | None]
    ci: list[float | None]
    activation: list[float | None] = Field(description="Scaled by ‖U‖")


class CompactEvidence(Schema):
    """What tooltips show: what a component responds to and what follows, in a few lines."""

    subrun: str
    density: float = Field(description="Share of positions at which it fires")
    input_tokens: list[TokenAssociation] = Field(description="Strongest positive ones first")
    output_tokens: list[TokenAssociation] = Field(description="Strongest positive ones first")
    examples: list[Example] = Field(description="Drawn uniformly from all its firings")


class ComponentSummary(Schema):
    key: str
    address: str
    index: int
    mean_ci: float | None
    density: float | None = Field(description="Share of positions with CI > 0")
    max_ci: float | None
    activation_rms: float | None = Field(description="Root mean square of the activation, scaled by ‖U‖")
    top_tokens: list[str] = Field(
        description="Input tokens with the largest share of its CI mass; may be empty"
    )
    strongest_source: StrongestEnd | None = Field(description="Only in a table sorted or filtered by it")
    strongest_target: StrongestEnd | None = Field(description="Only in a table sorted or filtered by it")
    fires_on: TokenAssociation | None = Field(
        description="With the token of the filter fires_on that it goes with most surely; null without the filter"
    )


class ComponentPage(Schema):
    run: str
    components: list[ComponentSummary]
    total: int = Field(description="How many match the filter")
    tokens: int | None = Field(description="Tokens that the statistics rest on; null where there are none")
    fires_on: list[Token] | None = Field(description="The tokens that fires_on means; null without it")
    strongest_source: EndReading | None = Field(description="What the filter means; null without it")
    strongest_target: EndReading | None = Field(description="What the filter means; null without it")
    next_cursor: str | None
    scan_seconds: float | None = Field(
        description="What the scan behind this sort or filter took, once for each subrun; null where none was needed"
    )
    seconds: float


class TokenShare(Schema):
    token_id: int
    text: str
    share: float = Field(description="Share of the component's CI mass on this input token")
    mean_ci: float


class ComponentCard(Schema):
    """Everything a ComponentNodeCard shows but its lists at another metric or k."""

    run: str
    key: str
    address: str
    index: int | Literal["delta", "bias"]
    kind: NodeKind
    label: str | None
    summary: ComponentSummary | None
    statistics_tokens: int | None = Field(
        description="Tokens that the summary rests on; the evidence may rest on others"
    )
    count: int | None = Field(description="Occurrences in the corpus, for embed and output tokens")
    input_tokens: list[TokenShare]
    evidence: CompactEvidence | None = Field(
        description="In a batch; null where nothing was harvested, and in a card of its own, which has a route for it"
    )
    subrun: str | None = Field(description="The attribution subrun that the lists are from")
    metric: Metric
    normalised: bool
    unit: Unit
    k: int
    sources_positive: EntryListOrReason
    sources_negative: EntryListOrReason
    targets_positive: EntryListOrReason
    targets_negative: EntryListOrReason
    notes: list[str] = Field(description="Facts a reader must know, e.g. that norms are scale-free")
    seconds: float


class BatchRequest(Schema):
    # Strict: a body of the wrong types is refused, not converted.
    model_config = ConfigDict(strict=True)

    keys: Annotated[list[KeyText], Field(min_length=1, max_length=100)]
    metric: Metric = "attr"
    k: Annotated[int, Field(ge=1, le=50)] = 5
    raw: bool = Field(default=False, description="Raw sums instead of normalised values")
    subrun: str | None = Field(default=None, description="An attribution subrun; default the newest")
    evidence: bool = Field(default=True, description="With evidence in compact form, where it was harvested")


class BatchFailure(Schema):
    key: str
    error: ErrorBody


class BatchResponse(Schema):
    cards: list[ComponentCard]
    failures: list[BatchFailure]
    seconds: float


class AttributionValue(Schema):
    run: str
    source: str
    target: str
    metric: Metric
    normalised: bool
    unit: Unit
    value: float
    raw: float
    standard_error: float | None
    support: int | None
    tokens: int
    subrun: str
    connected: bool = Field(description="Whether the source flows directly into the target at all")
    scale_free: bool
    seconds: float


class TokenHit(Schema):
    token_id: int
    text: str
    count: int | None
    embed_key: str
    output_key: str


class TokenPage(Schema):
    run: str
    tokens: list[TokenHit]
    total: int = Field(description="How many match the query")
    seconds: float


class Opening(Schema):
    """How a document of the corpus begins."""

    document: str = Field(description="Title of the document")
    text: str
    token_ids: list[int]


class OpeningList(Schema):
    run: str
    openings: list[Opening]
    seconds: float


class Check(Schema):
    """One thing that ``tributary verify`` looked at. ``absent`` is no failure: it was not computed."""

    name: str
    status: Literal["ok", "failed", "absent"]
    detail: str
    seconds: float


class Verification(Schema):
    run: str
    ok: bool
    checks: list[Check]
    seconds: float
