"""What a run is and what it has: the shapes of the list of runs and of a run's page."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backend.schemas import ErrorBody, Metric, Schema, Unit

RunKind = Literal["model", "attributions", "toy"]


class Note(Schema):
    """A sentence that everyone who reads the run's numbers should know.

    ``left_whole``: matrices without components; ``later_tokens``: importances that depend on later
    tokens; ``sampling``: trained with other masks than it is evaluated with; ``ignored_settings``: of
    the configuration it was imported with; ``converted``: changed on import.
    """

    topic: Literal["left_whole", "later_tokens", "sampling", "ignored_settings", "converted"]
    text: str


class SiteInfo(Schema):
    address: str
    module_path: str
    source_path: str | None = Field(
        description="The module's path in the model that the run was imported from; null for other runs"
    )
    d_in: int | None = Field(description="null where the run came without its model")
    d_out: int | None
    n_components: int
    n_alive: int | None = Field(description="Components with CI > 0.1 somewhere; null where not evaluated")
    mean_l0: float | None = Field(description="Mean number of components with CI > 0 per position")


class WholeModule(Schema):
    """A matrix of the model that is not decomposed: gradients pass through it as it is."""

    address: str
    module_path: str
    d_in: int
    d_out: int


class ImportanceInfo(Schema):
    """How causal importances are computed."""

    kind: str = Field(description="As the decomposition's configuration names it, e.g. shared_mlp")
    hidden: list[int] = Field(description="Widths of the hidden layers")
    sigmoid: str
    sees_later_tokens: bool = Field(
        description="Importances at a position may depend on later tokens, so they change when the text behind does"
    )


class Capabilities(Schema):
    """What a run has, and so what can be asked of it."""

    model: bool = Field(description="Texts can be run through it: predictions, graphs, interventions")
    tokenizer: bool = Field(description="Without one tokens are shown as #id, and texts cannot be read")
    text: bool = Field(description="A tokenised corpus, from which examples and hits of a search are read")
    attributions: bool
    harvest: bool


class AttributionInfo(Schema):
    subrun: str
    delta: Literal["node", "off"]
    ci_weighted: bool
    tokens: int
    abs_tokens: int
    groups: int = Field(description="Groups of documents that standard errors rest on; 0: there are none")
    unit: Unit = Field(description="What values are where raw sums are not asked for")
    imported_from: Literal["four-edge", "two-matrix"] | None = Field(
        description="Format of the published file that they were imported from; null where computed by Tributary"
    )
    metrics: list[Metric]
    output_abs: str = Field(description="none, all or top:N")
    encoding: Literal["full", "compact"]
    encoding_note: str | None = Field(description="What the compact encoding loses, in words and numbers")
    method: str = Field(description="closed_form or fallback; of imported ones, what they came from")
    method_reason: str
    created: str
    provenance: dict[str, str]


class EvaluationMetric(Schema):
    name: str
    label: str
    value: float
    unit: str


class BlockEvaluation(Schema):
    """CI masks in this block only, every other site the target's own."""

    block: int
    cross_entropy: float
    above_target: float
    l0: float


class SiteEvaluation(Schema):
    address: str
    n_components: int
    l0: dict[str, float] = Field(description="Mean components per position with CI above each threshold")
    share: float = Field(description="Mean L0 at threshold 0 as a share of C")
    max_ci_above: dict[str, int] = Field(description="Components whose largest CI exceeds each threshold")


class Evaluation(Schema):
    tokens: int
    metrics: list[EvaluationMetric]
    blocks: list[BlockEvaluation]
    sites: list[SiteEvaluation]


class RunSummary(Schema):
    name: str
    title: str
    kind: RunKind = Field(
        description="model: a decomposed language model; attributions: published attributions without their model; "
        "toy: a decomposed model of features instead of tokens"
    )
    family: str | None = Field(description="null where the run holds no language model")
    n_blocks: int = Field(description="Without a model: blocks that its components name")
    n_components: int
    n_decomposed: int = Field(description="Matrices with components")
    n_modules: int = Field(description="Matrices of the model's blocks, those left whole included")
    vocab_size: int | None = Field(description="null where the run knows no tokens")
    capabilities: Capabilities
    has_attributions: bool
    has_evaluation: bool


class DamagedRun(Schema):
    """A directory that looks like a run but cannot be opened."""

    name: str
    error: ErrorBody


class RunList(Schema):
    runs: list[RunSummary]
    damaged: list[DamagedRun]
    seconds: float


class RunDetail(RunSummary):
    description: str
    d_model: int | None
    context: int | None = Field(description="The most tokens it reads at once; null without a model")
    licence: str
    created: str
    provenance: dict[str, str]
    notes: list[Note] = Field(description="What everyone who reads its numbers should know")
    importance: ImportanceInfo | None = Field(description="null where the run came without")
    sites: list[SiteInfo]
    whole: list[WholeModule] = Field(description="The matrices left whole, in forward order")
    attributions: AttributionInfo | None = Field(description="The newest, which queries mean by default")
    subruns: list[str] = Field(description="All complete attribution subruns, newest first")
    subrun_infos: list[AttributionInfo] = Field(description="What each of them is; damaged ones are left out")
    harvests: list[str] = Field(description="All complete harvest subruns, newest first")
    clusterings: list[str] = Field(description="All complete clusterings of its components, newest first")
    evaluation: Evaluation | None
    problems: list[ErrorBody] = Field(description="Parts of the run that are damaged, each with what to do")
    seconds: float
