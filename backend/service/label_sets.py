"""Label sets as wire models. They are only read here: labelling is started on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from backend.autolabel.scoring import Interval, Score, score, score_difference, set_score
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
    SetLabel,
)
from backend.service.run import Run
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.address import parse_key
from storage.errors import UnknownRecordError
from storage.label_sets import FINAL_STAGES, Item, LabelSet, LabelSets, Trial, TrialKind


def list_sets(workshop: Workshop, run: Run) -> LabelSetList:
    watch = Stopwatch()
    store = workshop.database.label_sets
    sets = [_summary(store, found) for found in store.sets(run.name, run.digest)]
    return LabelSetList(run=run.name, sets=sets, seconds=watch.seconds)


def page(workshop: Workshop, run: Run, set_id: int, *, q: str | None, start: int, limit: int) -> LabelSetPage:
    """Labels of a set with all words of ``q`` in the key or the label; raises a 404."""
    watch = Stopwatch()
    store = workshop.database.label_sets
    found = _of_run(store, run, set_id)
    words = [] if q is None else q.casefold().split()
    items = [
        item
        for item in _final(store, found)
        if all(word in f"{item.key}\n{item.label}".casefold() for word in words)
    ]
    trials = _by_key(store.trials(set_id, details=False))
    return LabelSetPage(
        run=run.name,
        set=_summary(store, found),
        labels=[_label(item, trials) for item in items[start : start + limit]],
        start=start,
        total=len(items),
        seconds=watch.seconds,
    )


def origin(workshop: Workshop, run: Run, set_id: int, key_text: str) -> LabelOrigin:
    """How one label came to be; raises a 404."""
    watch = Stopwatch()
    store = workshop.database.label_sets
    found = _of_run(store, run, set_id)
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
    one, other = _of_run(store, run, set_id), _of_run(store, run, other_id)
    ones, others = ({item.key: item for item in _final(store, found)} for found in (one, other))
    of_one, of_other = (_by_key(store.trials(found.id, details=False)) for found in (one, other))
    keys = sorted(ones.keys() | others.keys(), key=parse_key)
    both = [key for key in keys if _labelled(ones.get(key)) and _labelled(others.get(key))]

    def difference(kind: TrialKind) -> ScoreDifference:
        found = score_difference(
            [(score(of_one.get(key, []), kind), score(of_other.get(key, []), kind)) for key in keys]
        )
        return ScoreDifference(
            components=found.components, mean=found.mean, interval=_interval(found.interval)
        )

    def side(items: Mapping[str, Item], trials: Mapping[str, list[Trial]], key: str) -> SetLabel | None:
        return _label(items[key], trials) if key in items else None

    return LabelComparison(
        run=run.name,
        one=_summary(store, one),
        other=_summary(store, other),
        detection=difference("detection"),
        fuzzing=difference("fuzzing"),
        same=sum(ones[key].label.casefold() == others[key].label.casefold() for key in both),
        pairs=[
            LabelPair(key=key, one=side(ones, of_one, key), other=side(others, of_other, key))
            for key in keys[start : start + limit]
        ],
        start=start,
        total=len(keys),
        seconds=watch.seconds,
    )


def _of_run(store: LabelSets, run: Run, set_id: int) -> LabelSet:
    found = store.get(set_id)
    if (found.run, found.run_digest) != (run.name, run.digest):
        raise UnknownRecordError(
            f"there is no label set {set_id} of the run {run.name} as it is now",
            "the list of label sets has those that there are",
        )
    return found


def _final(store: LabelSets, found: LabelSet) -> list[Item]:
    items = [item for item in store.items(found.id) if item.stage in FINAL_STAGES]
    return sorted(items, key=lambda item: parse_key(item.key))


def _labelled(item: Item | None) -> bool:
    return item is not None and item.status == "done"


def _by_key(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.key, []).append(trial)
    return found


# ---- wire models --------------------------------------------------------------------------------


def _summary(store: LabelSets, found: LabelSet) -> LabelSetSummary:
    progress, spent, trials = (
        store.progress(found.id),
        store.spending(found.id),
        store.trials(found.id, details=False),
    )
    return LabelSetSummary(
        id=found.id,
        name=found.name,
        strategy="context" if found.strategy == "context" else "evidence",
        model=str(found.settings.get("model", "")),
        endpoint=str(found.settings.get("endpoint", "")),
        settings=dict(found.settings),
        created=found.created,
        ended=found.ended,
        components=progress.components,
        labelled=progress.done,
        failed=progress.failed,
        detection=_set_score(trials, "detection"),
        fuzzing=_set_score(trials, "fuzzing"),
        spending=LabelSpending(
            requests=spent.requests,
            failed=spent.failed,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            uncounted=spent.uncounted,
            cost=spent.cost,
        ),
    )


def _set_score(trials: Sequence[Trial], kind: TrialKind) -> LabelSetScore:
    found = set_score(trials, kind)
    return LabelSetScore(
        components=found.components,
        mean=found.mean,
        interval=_interval(found.interval),
        failed=found.failed,
        impossible=found.impossible,
    )


def _label(item: Item, trials: Mapping[str, list[Trial]]) -> SetLabel:
    mine = trials.get(item.key, [])
    return SetLabel(
        key=item.key,
        status=item.status,
        label=item.label,
        confidence=str(item.answer.get("confidence", "")),
        reasoning=str(item.answer.get("reasoning", "")),
        error=item.error,
        detection=_score(score(mine, "detection")),
        fuzzing=_score(score(mine, "fuzzing")),
    )


def _score(found: Score) -> LabelScore:
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
