"""Labels by people and by models as values; nothing here knows of the database.

A server that only explores imports these and not what reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["edit", "import", "undo", "redo"]
#: Whether the state of a step is in force, was taken back and can come again, or was passed over.
StepState = Literal["done", "undone", "passed"]
ItemStatus = Literal["pending", "done", "failed"]
TrialStatus = Literal["pending", "done", "failed", "impossible"]
TrialKind = Literal["detection", "fuzzing"]


@dataclass(frozen=True)
class LabelContent:
    """What a person says of a component. All empty: nothing."""

    name: str = ""
    text: str = ""
    rating: int | None = None

    @property
    def empty(self) -> bool:
        return self == LabelContent()


@dataclass(frozen=True)
class LabelRecord:
    """A label as it stands: ``author`` gave it its present form at ``updated``."""

    key: str
    content: LabelContent
    author: str
    created: str
    updated: str
    version: int


@dataclass(frozen=True)
class StepRecord:
    """One step in the history of a label: what it was before, what after, who did it and when."""

    step: int
    kind: Kind
    state: StepState
    before: LabelContent
    after: LabelContent
    author: str
    changed: str


@dataclass(frozen=True)
class LabelHistory:
    """``label`` as it stands (its content may be empty); ``steps`` oldest first."""

    label: LabelRecord
    steps: tuple[StepRecord, ...]
    #: What undo and redo would be about.
    undo: StepRecord | None
    redo: StepRecord | None


@dataclass(frozen=True)
class ImportedLabel:
    """A label of a file, with its own author and times."""

    key: str
    content: LabelContent
    author: str
    created: str
    updated: str


@dataclass(frozen=True)
class ImportResult:
    """Keys of a file by what became of them; ``step`` 0 where nothing was changed."""

    step: int
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]
    same: tuple[str, ...]


@dataclass(frozen=True)
class ImportRecord:
    """An import of the past: of its labels, so many are in force, so many were taken back."""

    step: int
    author: str
    changed: str
    labels: int
    in_force: int
    undone: int


@dataclass(frozen=True)
class Judge:
    """The model that the labels of a set are scored by."""

    model: str
    endpoint: str


@dataclass(frozen=True)
class LabelSet:
    """``ended``: why the work on it stopped last; empty while it goes on, or after a crash. ``judge`` is
    None until somebody is to judge."""

    id: int
    run: str
    run_digest: str
    name: str
    strategy: str
    settings: Mapping[str, Any]
    ended: str
    created: str
    judge: Judge | None = None


@dataclass(frozen=True)
class Item:
    """A component in a stage. ``material`` says what was shown for it, ``answer`` is the model's, parsed."""

    stage: str
    key: str
    status: ItemStatus
    label: str
    answer: Mapping[str, Any]
    material: Mapping[str, Any]
    error: str


@dataclass(frozen=True)
class Trial:
    """One question of scoring. Counts are 0 unless ``status`` is done.

    ``hits`` of the ``positives`` and ``rejections`` of the ``negatives`` were judged rightly; ``label``
    is the one that was judged.
    """

    key: str
    kind: TrialKind
    number: int
    status: TrialStatus
    label: str
    positives: int = 0
    negatives: int = 0
    hits: int = 0
    rejections: int = 0
    details: Mapping[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True)
class TrialCounts:
    """Trials of one component and kind, added up."""

    hits: int
    positives: int
    rejections: int
    negatives: int
    failed: int
    impossible: int


@dataclass(frozen=True)
class SetAccuracy:
    """``mean`` over the ``components`` of which a question was answered; None of none."""

    components: int
    mean: float | None
    failed: int
    impossible: int


@dataclass(frozen=True)
class GivenLabel:
    """What a set calls a component; ``created`` is the set's."""

    label: str
    set_name: str
    created: str


@dataclass(frozen=True)
class Attempt:
    """One request. While its state is ``sent``, or where ``counted`` is False, the tokens and the cost
    are the most that it can have cost."""

    id: int
    purpose: str
    key: str
    number: int
    state: Literal["sent", "answered", "failed"]
    messages: Sequence[Mapping[str, str]]
    answer: str
    error: str
    prompt_tokens: int
    completion_tokens: int
    counted: bool
    cost: float
    seconds: float
    model: str
    created: str


@dataclass(frozen=True)
class Spending:
    """Over all requests of a set."""

    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    #: Requests whose tokens nobody counted, or that never ended: counted here at their largest.
    uncounted: int
    cost: float


@dataclass(frozen=True)
class Progress:
    """Of the components of a set."""

    components: int
    done: int
    failed: int
