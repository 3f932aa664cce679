"""Evidence of components, as wire models, from a harvest."""

from __future__ import annotations

from typing import Literal

import numpy as np

from backend.evidence_schemas import (
    UNIT,
    ActivationSummary,
    ComponentAssociation,
    ComponentAssociations,
    Evidence,
    ExampleKind,
    ExamplePage,
    Histogram,
    TokenAssociations,
)
from backend.schemas import CompactEvidence, Example, Token, TokenAssociation
from backend.service.association import associated
from backend.service.cursors import Cursors
from backend.service.run import Run
from backend.service.timing import Stopwatch
from compute.address import Key
from compute.statistics.association import Associations, apart, strongest
from storage.harvest import Examples, Harvest

#: What a tooltip has room for.
_COMPACT_TOKENS, _COMPACT_EXAMPLES, _COMPACT_LEFT, _COMPACT_RIGHT = 5, 2, 10, 5
_RANKING = (
    "pmi = ln((together + ½) / (expected by chance + ½)). Listed are those whose 95% interval leaves out 0, by the "
    "end of it nearer to 0, so that rare ones do not come first by accident. The intervals take positions as "
    "independent, which those of one text are not."
)
_OUTPUT = (
    "Output tokens: count is the summed probability that the target model gives the token as the next one, "
    "at the positions where the component fires."
)


def evidence(run: Run, key_text: str, *, k: int, subrun: str | None) -> Evidence:
    """Everything but the examples; raises a 404 for what is no component, and a 409 without a harvest."""
    watch = Stopwatch()
    key = run.component(key_text)
    harvest = run.harvest(subrun)
    flat = run.flat_index(key)
    fired = _firing_count(harvest, flat)
    tokens = harvest.tokens

    def value(name: str) -> float:
        return float(harvest.values(name)[flat])

    edges, counts = harvest.histogram(*harvest.component(flat))
    inputs, outputs = _Tokens(run, harvest, flat, "input"), _Tokens(run, harvest, flat, "output")
    others = _Others(run, harvest, flat)
    return Evidence(
        run=run.name,
        key=str(key),
        subrun=harvest.subrun,
        tokens=tokens,
        documents=harvest.documents,
        threshold=harvest.settings.threshold,
        firing_count=fired,
        density=fired / max(1, tokens),
        mean_ci=value("ci_sum") / max(1, tokens),
        max_ci=value("ci_max"),
        activation=ActivationSummary(
            mean=value("activation_sum") / max(1, tokens),
            rms=float(np.sqrt(value("activation_square_sum") / max(1, tokens))),
            min=value("activation_min"),
            max=value("activation_max"),
            mean_firing=value("firing_activation_sum") / fired if fired else None,
        ),
        histogram=Histogram(edges=edges.tolist() if len(counts) else [], counts=counts.tolist()),
        unit=UNIT,
        sampling=harvest.sampling,
        ranking=_RANKING,
        n_random=min(fired, harvest.settings.n_random),
        n_strongest=min(fired, harvest.settings.n_strongest),
        input_tokens=inputs.lists(k),
        output_tokens=outputs.lists(k),
        cofiring=others.lists(k),
        notes=_notes(harvest),
        seconds=watch.seconds,
    )


def _firing_count(harvest: Harvest, flat: int) -> int:
    return int(harvest.values("firing_count")[flat])


def _notes(harvest: Harvest) -> list[str]:
    notes = [_OUTPUT]
    if harvest.settings.output_floor > 0:
        notes.append(f"Next-token probabilities below {harvest.settings.output_floor:g} are left out.")
    left_out = harvest.settings.compact
    if left_out:
        notes.append(f"{left_out[0].upper()}{left_out[1:]}.")
    return notes


class _Tokens:
    """How one component goes with input or output tokens; those that never meet it count too."""

    def __init__(self, run: Run, harvest: Harvest, flat: int, side: Literal["input", "output"]) -> None:
        self._run = run
        self._fired = _firing_count(harvest, flat)
        self.complete = harvest.complete[side]
        here = harvest.component(flat)
        if side == "input":
            ids, joint = harvest.input_counts(*here)
            totals = harvest.token_count
        else:
            ids, joint = harvest.output_mass_of(*here)
            totals = harvest.output_mass
        if self.complete:
            ids, joint = _spread(ids, joint, len(totals))
        self._ids, self._totals = ids, totals[ids].astype(np.float64)
        self._found = associated(harvest, joint, self._fired, self._totals, rounded=side == "output")

    def strongest(self, k: int, sign: Literal["positive", "negative"]) -> list[TokenAssociation]:
        if self._fired == 0:
            return []
        chosen = strongest(self._found, k, sign)
        return token_associations(
            self._run, self._found.take(chosen), self._ids[chosen], self._totals[chosen], self._fired
        )

    def _count(self, sign: Literal["positive", "negative"]) -> int:
        return apart(self._found, sign) if self._fired else 0

    def lists(self, k: int) -> TokenAssociations:
        return TokenAssociations(
            positive=self.strongest(k, "positive"),
            negative=self.strongest(k, "negative"),
            positive_total=self._count("positive"),
            negative_total=self._count("negative"),
            complete=self.complete,
        )


def token_associations(
    run: Run, found: Associations, ids: np.ndarray, totals: np.ndarray, fired: int | np.ndarray
) -> list[TokenAssociation]:
    """The wire models of associations with tokens that occur; ``fired`` is one number, or one for each."""
    texts = run.vocabulary.texts
    firings = np.broadcast_to(fired, ids.shape)
    return [
        TokenAssociation(
            token_id=int(token),
            text=texts[token],
            count=float(found.joint[i]),
            token_total=float(totals[i]),
            firing_count=int(firings[i]),
            recall=float(found.recall[i]),
            recall_low=float(found.recall_low[i]),
            recall_high=float(found.recall_high[i]),
            precision=float(found.precision[i]),
            precision_low=float(found.precision_low[i]),
            precision_high=float(found.precision_high[i]),
            lift=float(found.lift[i]),
            pmi=float(found.pmi[i]),
            pmi_low=float(found.pmi_low[i]),
            pmi_high=float(found.pmi_high[i]),
        )
        for i, token in enumerate(ids)
    ]


class _Others:
    """How one component goes with all other components."""

    def __init__(self, run: Run, harvest: Harvest, flat: int) -> None:
        self._keys = run.component_keys
        self._complete = harvest.complete["cofiring"]
        every = harvest.values("firing_count")
        self._fired = int(every[flat])
        ids, joint = harvest.cofiring(*harvest.component(flat))
        if self._complete:
            ids, joint = _spread(ids, joint, len(every))
        others = ids != flat
        self._ids, joint = ids[others], joint[others]
        self._counts = every[self._ids]
        self._found = associated(harvest, joint, self._fired, self._counts)

    def _list(self, k: int, sign: Literal["positive", "negative"]) -> list[ComponentAssociation]:
        if self._fired == 0:
            return []
        chosen = strongest(self._found, k, sign)
        found = self._found.take(chosen)
        return [
            ComponentAssociation(
                key=self._keys[self._ids[other]],
                count=int(found.joint[i]),
                other_count=int(self._counts[other]),
                recall=float(found.recall[i]),
                recall_low=float(found.recall_low[i]),
                recall_high=float(found.recall_high[i]),
                precision=float(found.precision[i]),
                precision_low=float(found.precision_low[i]),
                precision_high=float(found.precision_high[i]),
                jaccard=float(found.jaccard[i]),
                lift=float(found.lift[i]),
                pmi=float(found.pmi[i]),
                pmi_low=float(found.pmi_low[i]),
                pmi_high=float(found.pmi_high[i]),
            )
            for i, other in enumerate(chosen)
        ]

    def lists(self, k: int) -> ComponentAssociations:
        return ComponentAssociations(
            positive=self._list(k, "positive"),
            negative=self._list(k, "negative"),
            positive_total=apart(self._found, "positive") if self._fired else 0,
            negative_total=apart(self._found, "negative") if self._fired else 0,
            complete=self._complete,
        )


def _spread(ids: np.ndarray, values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A whole list as one entry for every id, zeros included."""
    whole = np.zeros(size, values.dtype)
    whole[ids] = values
    return np.arange(size), whole


# ---- examples -----------------------------------------------------------------------------------


def examples(
    run: Run,
    key_text: str,
    *,
    kind: ExampleKind,
    token: int | None,
    cursor: str | None,
    limit: int,
    subrun: str | None,
) -> ExamplePage:
    """A page of the examples kept; raises a 404 for a cursor of other examples, a 409 without a harvest."""
    watch = Stopwatch()
    key = run.component(key_text)
    harvest = run.harvest(subrun)
    assert isinstance(key.index, int)
    found = harvest.examples(key.address, key.index, kind)
    kept = len(found.corpus_position)
    chosen = np.arange(kept) if token is None else np.flatnonzero(found.tokens[:, found.left] == token)
    cursors = Cursors(harvest.subrun, str(key), kind, token)
    start = cursors.start(cursor, "cursors hold for the same component, kind and token, until a new harvest.")
    end = start + limit
    return ExamplePage(
        run=run.name,
        key=str(key),
        subrun=harvest.subrun,
        kind=kind,
        examples=_examples(run, found, chosen[start:end]),
        total=_firing_count(harvest, run.flat_index(key)),
        kept=kept,
        matching=len(chosen),
        next_cursor=cursors.after(end, len(chosen)),
        unit=UNIT,
        sampling=harvest.sampling,
        seconds=watch.seconds,
    )


def _examples(run: Run, found: Examples, rows: np.ndarray, window: slice = slice(None)) -> list[Example]:
    """``window`` are the places of each example that are wanted."""
    texts, corpus = run.vocabulary.texts, run.corpus()
    left = found.left - (window.start or 0)
    listed: list[Example] = []
    for row in rows:
        ids = found.tokens[row, window].tolist()
        ci, activation = found.ci[row, window].tolist(), found.activation[row, window].tolist()
        document, position = int(found.document[row]), int(found.corpus_position[row])
        listed.append(
            Example(
                document=document,
                document_title=corpus.titles[document],
                corpus_position=position,
                document_position=position - int(corpus.offsets[document]),
                left=left,
                tokens=[None if i < 0 else Token(id=i, text=texts[i]) for i in ids],
                ci=[None if i < 0 else value for i, value in zip(ids, ci, strict=True)],
                activation=[None if i < 0 else value for i, value in zip(ids, activation, strict=True)],
            )
        )
    return listed


def compact(run: Run, key: Key) -> CompactEvidence | None:
    """What a tooltip shows of a component; ``None`` without a harvest."""
    if not run.has_harvest():
        return None
    harvest = run.harvest()
    flat = run.flat_index(key)
    fired = _firing_count(harvest, flat)
    shown: list[Example] = []
    if fired:
        found = harvest.examples(*harvest.component(flat), "random")
        first = max(0, found.left - _COMPACT_LEFT)
        rows = np.arange(min(_COMPACT_EXAMPLES, len(found.corpus_position)))
        shown = _examples(run, found, rows, slice(first, found.left + 1 + _COMPACT_RIGHT))
    return CompactEvidence(
        subrun=harvest.subrun,
        density=fired / max(1, harvest.tokens),
        input_tokens=_Tokens(run, harvest, flat, "input").strongest(_COMPACT_TOKENS, "positive"),
        output_tokens=_Tokens(run, harvest, flat, "output").strongest(_COMPACT_TOKENS, "positive"),
        examples=shown,
    )
