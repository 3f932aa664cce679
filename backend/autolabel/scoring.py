"""How good a label is: whether somebody who knows only the label can tell where the component fires.

*Detection* shows texts in which the component fires and texts in which it was verified to be silent at
every token. *Fuzzing* shows texts in which it fires, some with the right tokens marked, some with as
many silent ones in their place. Both show equally many of either kind, so that guessing is right half
of the time. Texts that the label was made from are left out. A question without an answer is no answer:
it is counted as a failure and asked again, never as a wrong one.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from backend.autolabel import prompts
from backend.autolabel.facts import Window
from backend.autolabel.provider import Message
from storage.label_records import SetAccuracy, Trial, TrialCounts, TrialKind

#: Texts of either kind in one question, and the fewest with which a question is worth asking.
EACH = 5
FEWEST = 3
_Z = 1.959963984540054


class Windows(Protocol):
    """Where the texts come from."""

    @property
    def threshold(self) -> float:
        """A component fires where its causal importance is above this."""
        ...

    def firing(self, key: str) -> list[Window]:
        """A uniform sample of the component's firings, in random order."""
        ...

    def silent(self, key: str) -> list[Window]:
        """Texts in which its causal importance was computed and is 0 at every token."""
        ...


class ImpossibleError(Exception):
    """There are too few texts to ask about."""


@dataclass(frozen=True)
class Question:
    """``truth`` for each text: whether it should be chosen. ``details`` keep what was shown."""

    kind: TrialKind
    number: int
    windows: tuple[Window, ...]
    marks: tuple[tuple[bool, ...], ...]
    truth: tuple[bool, ...]

    def messages(self, label: str) -> list[Message]:
        if self.kind == "detection":
            return prompts.detection(label, self.windows)
        return prompts.fuzzing(label, self.windows, self.marks)

    @property
    def details(self) -> dict[str, Any]:
        return {"spans": [[w.start, w.end] for w in self.windows], "truth": list(self.truth)}

    def judged(self, key: str, label: str, chosen: Sequence[int]) -> Trial:
        """The trial of an answer; raises ``ValueError`` for a number that no text has."""
        picked = set(chosen)
        if not picked <= set(range(1, len(self.truth) + 1)):
            raise ValueError(f"the answer names a text that there is not: {sorted(picked)}")
        said = [number in picked for number in range(1, len(self.truth) + 1)]
        pairs = list(zip(self.truth, said, strict=True))
        return Trial(
            key=key,
            kind=self.kind,
            number=self.number,
            status="done",
            label=label,
            positives=sum(self.truth),
            negatives=len(self.truth) - sum(self.truth),
            hits=sum(truth and answer for truth, answer in pairs),
            rejections=sum(not truth and not answer for truth, answer in pairs),
            details=self.details | {"chosen": sorted(picked)},
        )


def question(
    windows: Windows, key: str, kind: TrialKind, number: int, shown: Iterable[Sequence[int]], seed: int
) -> Question:
    """The ``number``-th question about a component, always the same for the same seed.

    ``shown`` are the places in the corpus that the label was made from. Raises :class:`ImpossibleError`.
    """
    rng = random.Random(hashlib.sha256(f"{seed}/{key}/{kind}/{number}".encode()).digest())
    spans = [(span[0], span[1]) for span in shown]
    held_out = _apart(windows.firing(key), spans)
    if kind == "detection":
        # A text in which it is silent may lie beside a firing that is shown, and share words with it.
        quiet = _apart(windows.silent(key), spans + [(window.start, window.end) for window in held_out])
        return _detection(quiet, held_out, number, rng)
    return _fuzzing(held_out, number, rng, windows.threshold)


def _apart(candidates: Sequence[Window], shown: Sequence[tuple[int, int]]) -> list[Window]:
    """Windows that touch neither a shown place nor each other, in their order."""
    taken = list(shown)
    kept: list[Window] = []
    for window in candidates:
        if all(window.start >= end or window.end <= start for start, end in taken):
            kept.append(window)
            taken.append((window.start, window.end))
    return kept


def _detection(silent: list[Window], held_out: list[Window], number: int, rng: random.Random) -> Question:
    mine = held_out[number * EACH : (number + 1) * EACH]
    # Of all that are silent another few for each question; the order is the sample's, which is random.
    quiet = silent[number * EACH : (number + 1) * EACH]
    each = min(len(mine), len(quiet))
    if each < FEWEST:
        few, what = (mine, "it fires") if len(mine) < len(quiet) else (quiet, "it is silent")
        raise ImpossibleError(f"{_left(few)} in which {what}; {FEWEST} are needed")
    pairs = [(window, True) for window in mine[:each]] + [(window, False) for window in quiet[:each]]
    rng.shuffle(pairs)
    chosen, truth = zip(*pairs, strict=True)
    return Question("detection", number, tuple(chosen), tuple(() for _ in pairs), tuple(truth))


def _fuzzing(held_out: list[Window], number: int, rng: random.Random, threshold: float) -> Question:
    mine = held_out[number * 2 * EACH : (number + 1) * 2 * EACH]
    # A text in which more tokens fire than are silent cannot be marked wrongly to the same extent.
    movable = [w for w in mine if sum(w.fires(threshold)) <= sum(ci == 0 for ci in w.ci)]
    each = min(EACH, len(mine) // 2, len(movable))
    if each < FEWEST:
        raise ImpossibleError(
            f"{_left(mine)} in which it fires, {len(movable)} of them with enough silent tokens; "
            f"{2 * FEWEST} and {FEWEST} are needed"
        )
    wrong = rng.sample(movable, each)
    right = [window for window in mine if window not in wrong][:each]
    entries = [(window, tuple(window.fires(threshold)), True) for window in right]
    entries += [(window, _moved(window, rng, threshold), False) for window in wrong]
    rng.shuffle(entries)
    chosen, marks, truth = zip(*entries, strict=True)
    return Question("fuzzing", number, tuple(chosen), tuple(marks), tuple(truth))


def _left(texts: Sequence[Window]) -> str:
    return f"only {len(texts)} more texts" if texts else "no more texts"


def _moved(window: Window, rng: random.Random, threshold: float) -> tuple[bool, ...]:
    """As many marks as there are firings, all on tokens where the importance is exactly 0."""
    silent = [i for i, ci in enumerate(window.ci) if ci == 0]
    marked = set(rng.sample(silent, sum(window.fires(threshold))))
    return tuple(i in marked for i in range(len(window.ci)))


# ---- scores -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def wilson(successes: float, n: int) -> Interval:
    """95 % interval of a proportion; from 0 to 1 where nothing was counted."""
    if n == 0:
        return Interval(0.0, 1.0)
    p, square = successes / n, _Z * _Z
    centre = (p + square / (2 * n)) / (1 + square / n)
    half = _Z * math.sqrt(p * (1 - p) / n + square / (4 * n * n)) / (1 + square / n)
    # Where all or none succeeded the formula gives 0 or 1 up to rounding.
    return Interval(
        0.0 if successes == 0 else max(0.0, centre - half), 1.0 if successes == n else min(1.0, centre + half)
    )


@dataclass(frozen=True)
class Score:
    """Of one label, over its answered questions. Both kinds of text are equally many, so that the share
    of right judgements is also the balanced accuracy."""

    right: int
    judged: int
    hits: int
    positives: int
    rejections: int
    negatives: int
    failed: int
    impossible: int

    @classmethod
    def of(cls, counts: TrialCounts) -> Score:
        return cls(
            right=counts.hits + counts.rejections,
            judged=counts.positives + counts.negatives,
            hits=counts.hits,
            positives=counts.positives,
            rejections=counts.rejections,
            negatives=counts.negatives,
            failed=counts.failed,
            impossible=counts.impossible,
        )

    @property
    def accuracy(self) -> float | None:
        return self.right / self.judged if self.judged else None

    @property
    def interval(self) -> Interval | None:
        return wilson(self.right, self.judged) if self.judged else None


def score(trials: Iterable[Trial], kind: TrialKind) -> Score:
    mine = [trial for trial in trials if trial.kind == kind]
    done = [trial for trial in mine if trial.status == "done"]
    return Score.of(
        TrialCounts(
            hits=sum(t.hits for t in done),
            positives=sum(t.positives for t in done),
            rejections=sum(t.rejections for t in done),
            negatives=sum(t.negatives for t in done),
            failed=sum(trial.status == "failed" for trial in mine),
            impossible=sum(trial.status == "impossible" for trial in mine),
        )
    )


@dataclass(frozen=True)
class SetScore:
    """Of a whole set: the mean over its labels.

    Judgements of one label are alike, so that the labels are what is counted. A value between 0 and 1
    varies at most as much as one that is 0 or 1: an interval for proportions is wide enough, and stays
    an interval where all labels did equally well.
    """

    components: int
    mean: float | None
    interval: Interval | None
    failed: int
    impossible: int

    @classmethod
    def of(cls, found: SetAccuracy) -> SetScore:
        interval = None if found.mean is None else wilson(found.mean * found.components, found.components)
        return cls(found.components, found.mean, interval, found.failed, found.impossible)


def set_score(trials: Sequence[Trial], kind: TrialKind) -> SetScore:
    by_key: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.kind == kind:
            by_key.setdefault(trial.key, []).append(trial)
    scores = [score(mine, kind) for mine in by_key.values()]
    values = [s.accuracy for s in scores if s.accuracy is not None]
    return SetScore.of(
        SetAccuracy(
            components=len(values),
            mean=sum(values) / len(values) if values else None,
            failed=sum(s.failed for s in scores),
            impossible=sum(s.impossible for s in scores),
        )
    )


@dataclass(frozen=True)
class Difference:
    """Mean of one score minus another over the components that have both."""

    components: int
    mean: float | None
    interval: Interval | None


def score_difference(pairs: Iterable[tuple[Score, Score]]) -> Difference:
    """The interval is that of :class:`SetScore`, of differences between −1 and 1."""
    values = [
        one.accuracy - other.accuracy
        for one, other in pairs
        if one.accuracy is not None and other.accuracy is not None
    ]
    n = len(values)
    if n == 0:
        return Difference(0, None, None)
    mean = sum(values) / n
    found = wilson((mean + 1) / 2 * n, n)
    return Difference(n, mean, Interval(2 * found.low - 1, 2 * found.high - 1))
