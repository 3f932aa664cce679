"""Cards, lists of sources and targets, and single edges, as wire models."""

from __future__ import annotations

from backend.errors import ServiceError, error_body
from backend.schemas import (
    AttributionValue,
    BatchFailure,
    BatchRequest,
    BatchResponse,
    ComponentCard,
    Direction,
    Entry,
    EntryList,
    Metric,
    NodeKind,
    Sign,
    Unavailable,
    Unit,
)
from backend.service.evidence import compact
from backend.service.listing import summary, token_shares
from backend.service.run import Run
from backend.service.timing import Stopwatch
from compute.address import Key
from storage import results
from storage.attributions import AttributionStore
from storage.errors import NotComputedError, StorageError

_SCALE_FREE = (
    "A normalisation layer ignores its input's scale, so that all attributions through it add up to nearly "
    "zero; marked values cancel on their own. attr_frozen holds the scale constant and adds up to the target."
)
_OUTPUT_ABS_ABSENT = "attr_abs into output tokens was not computed here: the targets are components only."
_IMPORTED = (
    "These attributions were imported from a published file, which holds sums over its whole text: there are no "
    "standard errors. The public code computes them in a forward pass without deltas."
)
_MEAN = (
    "These attributions were imported from a published file of two matrices. Its values are means over all tokens, "
    "neither weighted by causal importance nor normalised, and without standard errors."
)
_CENTRED = "attr_abs of an output token is the effect on the magnitude of its centred logit (minus the mean of all logits)."


def _kind(key: Key) -> NodeKind:
    if isinstance(key.index, str):
        return key.index
    kinds: dict[str, NodeKind] = {"embed": "embed", "position": "position", "output": "output"}
    return kinds.get(key.address.kind, "component")


def _entry(run: Run, entry: results.Entry) -> Entry:
    return Entry(
        key=str(entry.key),
        address=str(entry.key.address),
        index=entry.key.index,
        kind=_kind(entry.key),
        value=entry.value,
        standard_error=entry.standard_error,
        support=entry.support,
        label=run.label(entry.key),
        scale_free=entry.scale_free,
    )


def _unit(store: AttributionStore | None, *, raw: bool) -> Unit:
    if raw:
        return "raw"
    return "mean" if store is not None and store.normalisation == "tokens" else "normalised"


def _entry_list(
    run: Run,
    store: AttributionStore,
    key: Key,
    direction: Direction,
    *,
    metric: Metric,
    sign: Sign,
    k: int,
    raw: bool,
) -> EntryList:
    """One list; raises the store's errors."""
    watch = Stopwatch()
    unit = _unit(store, raw=raw)
    query = store.top_sources if direction == "sources" else store.top_targets
    found = query(key, k, sign, metric, normalised=not raw)
    return EntryList(
        run=run.name,
        key=str(key),
        direction=direction,
        metric=metric,
        sign=sign,
        normalised=unit == "normalised",
        unit=unit,
        tokens=found.tokens,
        subrun=store.subrun,
        entries=[_entry(run, entry) for entry in found.entries],
        total=found.total,
        total_value=found.total_value,
        shown_value=found.shown_value,
        seconds=watch.seconds,
    )


def entries(
    run: Run,
    key_text: str,
    direction: Direction,
    *,
    metric: Metric,
    sign: Sign,
    k: int,
    raw: bool = False,
    subrun: str | None = None,
) -> EntryList:
    """The strongest sources or targets of one sign; raises a 404 or 409 or the store's errors."""
    key = run.key(key_text)
    return _entry_list(run, run.attributions(subrun), key, direction, metric=metric, sign=sign, k=k, raw=raw)


def attribution(
    run: Run,
    source_text: str,
    target_text: str,
    *,
    metric: Metric,
    raw: bool = False,
    subrun: str | None = None,
) -> AttributionValue:
    """One edge. ``value`` and the standard error are normalised unless ``raw``."""
    watch = Stopwatch()
    source, target = run.key(source_text), run.key(target_text)
    store = run.attributions(subrun)
    unit = _unit(store, raw=raw)
    found = store.attribution(source, target, metric, normalised=not raw)
    return AttributionValue(
        run=run.name,
        source=str(source),
        target=str(target),
        metric=metric,
        normalised=unit == "normalised",
        unit=unit,
        value=found.value,
        raw=found.raw,
        standard_error=found.standard_error,
        support=found.support,
        tokens=found.tokens,
        subrun=store.subrun,
        connected=found.connected,
        scale_free=found.scale_free,
        seconds=watch.seconds,
    )


def card(
    run: Run,
    key_text: str,
    *,
    metric: Metric,
    k: int,
    raw: bool = False,
    subrun: str | None = None,
    with_evidence: bool = False,
) -> ComponentCard:
    """A card. A list that does not exist is replaced by the reason, so that the others still show."""
    watch = Stopwatch()
    key = run.key(key_text)
    kind = _kind(key)
    store: AttributionStore | None = None
    absent = ""
    try:
        store = run.attributions(subrun)
    except ServiceError as error:
        if error.body.code != "not_computed":
            raise
        absent = f"{error.body.message}. {error.body.hint}"

    def place(direction: Direction, sign: Sign) -> EntryList | Unavailable:
        if store is None:
            return Unavailable(direction=direction, metric=metric, sign=sign, reason=absent)
        try:
            return _entry_list(run, store, key, direction, metric=metric, sign=sign, k=k, raw=raw)
        except NotComputedError as error:
            reason = f"{error.reason}; {error.hint}" if error.hint else error.reason
            return Unavailable(direction=direction, metric=metric, sign=sign, reason=reason)

    unit = _unit(store, raw=raw)
    row = shares = count = tokens = None
    if kind == "component":
        rows = run.table()
        tokens = rows.tokens
        row = summary(run, rows, rows.position(key))
        shares = token_shares(run, rows, rows.position(key))
    elif kind in ("embed", "output"):
        counts = run.token_counts()
        count = None if counts is None else int(counts[key.index])
    evidence, problem = None, []
    if with_evidence and kind == "component":
        try:
            evidence = compact(run, key)
        except StorageError as error:
            problem = [f"There is no evidence here: {error}"]
    lists = (
        place("sources", "positive"),
        place("sources", "negative"),
        place("targets", "positive"),
        place("targets", "negative"),
    )
    return ComponentCard(
        run=run.name,
        key=str(key),
        address=str(key.address),
        index=key.index,
        kind=kind,
        label=run.label(key),
        summary=row,
        statistics_tokens=tokens,
        count=count,
        input_tokens=shares or [],
        evidence=evidence,
        subrun=None if store is None else store.subrun,
        metric=metric,
        normalised=unit == "normalised",
        unit=unit,
        k=k,
        sources_positive=lists[0],
        sources_negative=lists[1],
        targets_positive=lists[2],
        targets_negative=lists[3],
        notes=[*_notes(store, key, metric, lists), *problem],
        seconds=watch.seconds,
    )


def _notes(
    store: AttributionStore | None, key: Key, metric: Metric, lists: tuple[EntryList | Unavailable, ...]
) -> list[str]:
    """What a reader must know about the numbers of this card, and cannot see from them."""
    if store is None:
        return []
    notes: list[str] = []
    if not store.n_groups:
        notes.append(_MEAN if store.normalisation == "tokens" else _IMPORTED)
    shown = [place for place in lists if isinstance(place, EntryList)]
    if any(entry.scale_free for place in shown for entry in place.entries):
        notes.append(_SCALE_FREE)
    if metric == "attr_abs" and 0 < store.abs_tokens < store.tokens:
        notes.append(f"attr_abs rests on {store.abs_tokens:,} of the {store.tokens:,} tokens.")
    reaches_output = key.address.kind in ("embed", "position") or key.address.writes_residual
    if metric == "attr_abs" and reaches_output:
        notes.append(_CENTRED if store.has_output_abs else _OUTPUT_ABS_ABSENT)
    elif metric == "attr_abs" and key.address.kind == "output" and store.has_output_abs:
        notes.append(_CENTRED)
    return notes


def batch(run: Run, request: BatchRequest) -> BatchResponse:
    """Cards in the order asked for, each key once."""
    watch = Stopwatch()
    cards: list[ComponentCard] = []
    failures: list[BatchFailure] = []
    for key in dict.fromkeys(request.keys):
        try:
            cards.append(
                card(
                    run,
                    key,
                    metric=request.metric,
                    k=request.k,
                    raw=request.raw,
                    subrun=request.subrun,
                    with_evidence=request.evidence,
                )
            )
        except StorageError as error:
            failures.append(BatchFailure(key=key, error=error_body(error)))
    return BatchResponse(cards=cards, failures=failures, seconds=watch.seconds)
