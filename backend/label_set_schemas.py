"""Wire models of label sets: labels that a language model gave, what they cost, and how good they are."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from backend.schemas import Schema

#: The most labels, and the most pairs of labels, that one page holds.
MAX_LABELS = 500


class ScoreInterval(Schema):
    """95 %: for one label Wilson's, over its judgements; for a set over its labels."""

    low: float
    high: float


class LabelScore(Schema):
    """How often the label told rightly where the component fires; guessing is right half of the time."""

    right: int
    judged: int
    accuracy: float | None = Field(description="right / judged; null where no question was answered")
    interval: ScoreInterval | None
    failed: int = Field(description="Questions without an answer; they count as nothing, not as wrong")
    impossible: int = Field(description="Questions that could not be asked: too few texts")


class LabelSetScore(Schema):
    """The mean over the labels of a set that were scored."""

    components: int
    mean: float | None
    interval: ScoreInterval | None
    failed: int
    impossible: int


class LabelSpending(Schema):
    """Over all requests of a set. ``cost`` is in the currency of the prices that were given, else 0."""

    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    uncounted: int = Field(description="Requests that nobody counted; they are here at their largest")
    cost: float


class SetJudge(Schema):
    """The model that the labels of a set are scored by."""

    model: str
    endpoint: str


class LabelSetSummary(Schema):
    id: int
    name: str
    strategy: Literal["evidence", "context"]
    model: str
    endpoint: str
    judge: SetJudge | None = Field(
        description="Whose answers the scores are; null where nobody was asked yet"
    )
    settings: dict[str, Any] = Field(description="All that the labels depend on")
    created: str
    ended: str = Field(
        description='Why the work stopped last: "finished", "cap", "interrupted" or a reason; '
        "empty while it goes on, or after a crash"
    )
    components: int
    labelled: int
    failed: int
    detection: LabelSetScore
    fuzzing: LabelSetScore
    spending: LabelSpending


class LabelSetList(Schema):
    run: str
    sets: list[LabelSetSummary] = Field(description="Newest first")
    seconds: float


class SetLabel(Schema):
    """What a set says of one component."""

    key: str
    status: Literal["pending", "done", "failed"]
    label: str = Field(description="Empty unless status is done")
    confidence: str = Field(description="low, medium or high, as the model says; empty without a label")
    reasoning: str
    error: str
    detection: LabelScore
    fuzzing: LabelScore


class LabelSetPage(Schema):
    run: str
    set: LabelSetSummary
    labels: list[SetLabel] = Field(description="Ordered as components are")
    start: int
    total: int = Field(description="How many there are, of those asked for")
    seconds: float


class LabelStage(Schema):
    """One stage on the way to a label; ``material`` says what was shown."""

    stage: str
    status: Literal["pending", "done", "failed"]
    label: str
    answer: dict[str, Any]
    material: dict[str, Any]
    error: str


class LabelTrial(Schema):
    """One question of scoring. Of ``positives`` texts ``hits`` were chosen, of ``negatives``
    ``rejections`` were not."""

    kind: Literal["detection", "fuzzing"]
    number: int
    status: Literal["pending", "done", "failed", "impossible"]
    label: str
    positives: int
    negatives: int
    hits: int
    rejections: int
    details: dict[str, Any]
    error: str


class LabelMessage(Schema):
    role: str
    content: str


class LabelAttempt(Schema):
    """One request, word for word."""

    purpose: str
    number: int
    state: Literal["sent", "answered", "failed"]
    messages: list[LabelMessage]
    answer: str
    error: str
    prompt_tokens: int
    completion_tokens: int
    counted: bool
    cost: float
    seconds: float
    model: str
    created: str


class LabelOrigin(Schema):
    """Everything about one label: how it came to be, and what it was scored by."""

    run: str
    set: str
    key: str
    stages: list[LabelStage]
    trials: list[LabelTrial]
    attempts: list[LabelAttempt]
    seconds: float


class LabelPair(Schema):
    """What two sets say of one component; null where a set does not have it."""

    key: str
    one: SetLabel | None
    other: SetLabel | None


class ScoreDifference(Schema):
    """Mean of (one − other) over the components that both have scored."""

    components: int
    mean: float | None
    interval: ScoreInterval | None


class LabelComparison(Schema):
    run: str
    one: LabelSetSummary
    other: LabelSetSummary
    detection: ScoreDifference
    fuzzing: ScoreDifference
    same_judge: bool = Field(
        description="False where two models judged: their scores differ also where labels are equally good"
    )
    same: int = Field(description="Components with the same label in both, in any case of letters")
    pairs: list[LabelPair] = Field(description="Ordered as components are")
    start: int
    total: int
    seconds: float


# ---- files --------------------------------------------------------------------------------------


class SetEntry(SetLabel):
    """What a set says of one component, and who said it when."""

    model: str = Field(description="As its server called it; empty without a label")
    created: str = Field(description="When it was asked; empty without a label")


class LabelSetFile(Schema):
    """All labels of a set with their scores, as a file."""

    format: Literal["tributary-label-set"]
    version: Literal[1]
    run: str
    run_digest: str
    exported: str
    set: LabelSetSummary
    labels: list[SetEntry] = Field(description="Ordered as components are")
