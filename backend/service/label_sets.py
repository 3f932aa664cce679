"""Label sets as wire models. They are only read here: labelling is started on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from backend.autolabel.scoring import Interval, Score, SetScore, score_difference
from backend.label_set_schemas import (
    LabelAttempt,
    LabelComparison,
    LabelMessage,
    LabelOrigin,
    LabelPair,
    LabelScore,
    LabelSetList,
    LabelSetPage,
    LabelSetScore,
    LabelSetSummary,
    LabelSpending,
    LabelStage,
    LabelTrial,
    ScoreDifference,
    ScoreInterval,
    SetJudge,
    SetLabel,
)
from backend.service.run import Run
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.address import parse_key
from storage.errors import UnknownRecordError
from storage.label_records import Item, ItemStatus, LabelSet, SetAccuracy, TrialCounts, TrialKind

if TYPE_CHECKING:
    from storage.label_sets import LabelSets

_Counts = Mapping[tuple[str, TrialKind], TrialCounts]


def list_sets(workshop: Workshop, run: Run) -> LabelSetList:
    watch = Stopwatch()
    store = workshop.database.label_sets
    sets = [summary(store, found) for found in store.sets(run.name, run.digest)]
    return LabelSetList(run=run.name, sets=sets, seconds=watch.seconds)


def page(
    workshop: Workshop,
    run: Run,
    set_id: int,
    *,
    q: str | None,
    status: ItemStatus | None,
    start: int,
    limit: int,
) -> LabelSetPage:
    """Labels of a set with all words of ``q`` in the key or the label; raises a 404."""
    watch = Stopwatch()
    store = workshop.database.label_sets
    found = of_run(store, run, set_id)
    words = [] if q is None else q.casefold().split()
    keys = in_order(
        key
        for key, found_status, label in store.outline(set_id)
        if status in (None, found_status) and all(word in f"{key}\n{label}".casefold() for word in words)
    )
    shown = keys[start : start + limit]
    items, counts = store.final_items(set_id, shown), store.trial_counts(set_id, shown)
    return LabelSetPage(
        run=run.name,
        set=summary(store, found),
        labels=[set_label(items[key], counts) for key in shown if key in items],
        start=start,
        total=len(keys),
        seconds=watch.seconds,
    )


def origin(workshop: Workshop, run: Run, set_id: int, key_text: str) -> LabelOrigin:
    """How one label came to be; raises a 404."""
    watch = Stopwatch()
    store = workshop.database.label_sets
    found = of_run(store, run, set_id)
    key = str(run.key(key_text))
    items = store.items(set_id, key=key)
    if not items:
        raise UnknownRecordError(f"the label set {found.name!r} has nothing on {key}", "ask for another key")
    return LabelOrigin(
        run=run.name,
        set=found.name,
        key=key,
        stages=[
            LabelStage(
                stage=item.stage,
                status=item.status,
                label=item.label,
                answer=dict(item.answer),
                material=dict(item.material),
                error=item.error,
            )
            for item in items
        ],
        trials=[
            LabelTrial(
                kind=trial.kind,
                number=trial.number,
                status=trial.status,
                label=trial.label,
                positives=trial.positives,
                negatives=trial.negatives,
                hits=trial.hits,
                rejections=trial.rejections,
                details=dict(trial.details or {}),
                error=trial.error,
            )
            for trial in store.trials(set_id, key)
        ],
        attempts=[
            LabelAttempt(
                purpose=attempt.purpose,
                number=attempt.number,
                state=attempt.state,
                messages=[LabelMessage(role=m["role"], content=m["content"]) for m in attempt.messages],
                answer=attempt.answer,
                error=attempt.error,
                prompt_tokens=attempt.prompt_tokens,
                completion_tokens=attempt.completion_tokens,
                counted=attempt.counted,
                cost=attempt.cost,
                seconds=attempt.seconds,
                model=attempt.model,
                created=attempt.created,
            )
            for attempt in store.attempts(set_id, key)
        ],
        seconds=watch.seconds,
    )


def compare(
    workshop: Workshop, run: Run, set_id: int, other_id: int, *, start: int, limit: int
) -> LabelComparison:
    """Two sets side by side; raises a 404."""
    watch = Stopwatch()
    store = workshop.database.label_sets
    one, other = of_run(store, run, set_id), of_run(store, run, other_id)
    ones, others = (
        {key: label if status == "done" else None for key, status, label in store.outline(found.id)}
        for found in (one, other)
    )
    of_one, of_other = store.trial_counts(one.id), store.trial_counts(other.id)
    keys = in_order(ones.keys() | others.keys())
    shown = keys[start : start + limit]
    shown_one, shown_other = store.final_items(one.id, shown), store.final_items(other.id, shown)

    def difference(kind: TrialKind) -> ScoreDifference:
        found = score_difference(
            [
                (Score.of(of_one[key, kind]), Score.of(of_other[key, kind]))
                for key in keys
                if (key, kind) in of_one and (key, kind) in of_other
            ]
        )
        return ScoreDifference(
            components=found.components, mean=found.mean, interval=_interval(found.interval)
        )

    def side(items: Mapping[str, Item], counts: _Counts, key: str) -> SetLabel | None:
        return set_label(items[key], counts) if key in items else None

    def alike(key: str) -> bool:
        mine, theirs = ones.get(key), others.get(key)
        return mine is not None and theirs is not None and mine.casefold() == theirs.casefold()

    return LabelComparison(
        run=run.name,
        one=summary(store, one),
        other=summary(store, other),
        detection=difference("detection"),
        fuzzing=difference("fuzzing"),
        same_judge=one.judge is None or other.judge is None or one.judge == other.judge,
        same=sum(map(alike, keys)),
        pairs=[
            LabelPair(key=key, one=side(shown_one, of_one, key), other=side(shown_other, of_other, key))
            for key in shown
        ],
        start=start,
        total=len(keys),
        seconds=watch.seconds,
    )


def of_run(store: LabelSets, run: Run, set_id: int) -> LabelSet:
    found = store.get(set_id)
    if (found.run, found.run_digest) != (run.name, run.digest):
        raise UnknownRecordError(
            f"there is no label set {set_id} of the run {run.name} as it is now",
            "the list of label sets has those that there are",
        )
    return found


def in_order(keys: Iterable[str]) -> list[str]:
    """As components are ordered."""
    return sorted(keys, key=parse_key)


# ---- wire models --------------------------------------------------------------------------------


def summary(store: LabelSets, found: LabelSet) -> LabelSetSummary:
    progress, spent, scores = (
        store.progress(found.id),
        store.spending(found.id),
        store.accuracies(found.id),
    )
    return LabelSetSummary(
        id=found.id,
        name=found.name,
        strategy="context" if found.strategy == "context" else "evidence",
        model=str(found.settings.get("model", "")),
        endpoint=str(found.settings.get("endpoint", "")),
        judge=None
        if found.judge is None
        else SetJudge(model=found.judge.model, endpoint=found.judge.endpoint),
        settings=dict(found.settings),
        created=found.created,
        ended=found.ended,
        components=progress.components,
        labelled=progress.done,
        failed=progress.failed,
        detection=_set_score(scores.get("detection")),
        fuzzing=_set_score(scores.get("fuzzing")),
        spending=LabelSpending(
            requests=spent.requests,
            failed=spent.failed,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            uncounted=spent.uncounted,
            cost=spent.cost,
        ),
    )


def _set_score(accuracy: SetAccuracy | None) -> LabelSetScore:
    found = SetScore.of(accuracy or SetAccuracy(0, None, 0, 0))
    return LabelSetScore(
        components=found.components,
        mean=found.mean,
        interval=_interval(found.interval),
        failed=found.failed,
        impossible=found.impossible,
    )


def set_label(item: Item, counts: _Counts) -> SetLabel:
    return SetLabel(
        key=item.key,
        status=item.status,
        label=item.label,
        confidence=str(item.answer.get("confidence", "")),
        reasoning=str(item.answer.get("reasoning", "")),
        error=item.error,
        detection=_score(counts.get((item.key, "detection"))),
        fuzzing=_score(counts.get((item.key, "fuzzing"))),
    )


def _score(counts: TrialCounts | None) -> LabelScore:
    found = Score.of(counts or TrialCounts(0, 0, 0, 0, 0, 0))
    return LabelScore(
        right=found.right,
        judged=found.judged,
        accuracy=found.accuracy,
        interval=_interval(found.interval),
        failed=found.failed,
        impossible=found.impossible,
    )


def _interval(found: Interval | None) -> ScoreInterval | None:
    return None if found is None else ScoreInterval(low=found.low, high=found.high)
