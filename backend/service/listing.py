"""The table of components: filtering, sorting and paging over statistics held as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backend.errors import ServiceError
from backend.label_schemas import Label
from backend.schemas import (
    ComponentPage,
    ComponentSort,
    ComponentSummary,
    EndReading,
    Labelled,
    StrongestEnd,
    Token,
    TokenAssociation,
    TokenShare,
)
from backend.service import clusters
from backend.service.association import associated
from backend.service.cursors import Cursors
from backend.service.ends import EndColumn, EndFilter, by_site, parse_end
from backend.service.evidence import token_associations
from backend.service.labels import label_texts, labels_of, read_labels
from backend.service.run import Run
from backend.service.table import ComponentTable
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from compute.address import parse_address, parse_key
from storage.strongest import StrongestEnds

#: Input tokens named in a row of the table.
_TOKENS_SHOWN = 5
_END_COLUMNS: tuple[EndColumn, ...] = ("strongest_source", "strongest_target")


def summary(run: Run, rows: ComponentTable, position: int) -> ComponentSummary:
    """One row of the table."""
    address = rows.addresses[rows.site[position]]

    def value(name: str) -> float | None:
        number = float(rows.columns[name][position])
        return None if np.isnan(number) else number

    tokens = rows.top_token[position, :_TOKENS_SHOWN]
    return ComponentSummary(
        key=rows.keys[position],
        address=str(address),
        index=position - rows.starts[address],
        mean_ci=value("mean_ci"),
        density=value("density"),
        max_ci=value("max_ci"),
        activation_rms=value("activation_rms"),
        top_tokens=[run.vocabulary.texts[token] for token in tokens if token >= 0],
        strongest_source=None,
        strongest_target=None,
        fires_on=None,
    )


def token_shares(run: Run, rows: ComponentTable, position: int) -> list[TokenShare]:
    """The input tokens on which the component is most active, by share of its causal importance."""
    if rows.token_count is None or not rows.ci_sum[position] > 0:
        return []
    pairs = zip(rows.top_token[position], rows.top_token_ci[position], strict=True)
    return [
        TokenShare(
            token_id=int(token),
            text=run.vocabulary.texts[token],
            share=float(mass / rows.ci_sum[position]),
            mean_ci=float(mass / max(1, rows.token_count[token])),
        )
        for token, mass in pairs
        if token >= 0 and mass > 0
    ]


@dataclass(frozen=True)
class Listing:
    """What is listed, and in which order."""

    site: str | None = None
    q: str | None = None
    fires_on: str | None = None
    min_density: float | None = None
    max_density: float | None = None
    min_mean_ci: float | None = None
    max_mean_ci: float | None = None
    #: Words that all occur in its label, and whose label it is.
    label: str | None = None
    labelled: Labelled | None = None
    #: What its strongest source and target are, as :mod:`backend.service.ends` reads them.
    strongest_source: str | None = None
    strongest_target: str | None = None
    sort: ComponentSort = "key"
    #: A cluster's number, ``alone`` or ``unknown``, in a clustering at an iteration.
    cluster: str | None = None
    clustering: str | None = None
    iteration: int | None = None

    @property
    def column(self) -> str:
        return self.sort.removeprefix("-")


def list_components(
    workshop: Workshop, run: Run, listing: Listing, *, cursor: str | None, limit: int
) -> ComponentPage:
    """One page; raises a 404 for a site that the run does not have or a cursor of another listing, a
    422 for bounds and ends that cannot be, and a 409 or 503 where what it is sorted or filtered by is
    not there."""
    watch = Stopwatch()
    _check(listing)
    rows = run.table()
    filters = _end_filters(run, listing)
    shown_ends: list[EndColumn] = [
        column for column in _END_COLUMNS if column == listing.column or column in filters
    ]
    ends = run.strongest_ends() if shown_ends else None
    on = None if listing.fires_on is None else _FiresOn(run, listing.fires_on)
    texts = label_texts(workshop, run) if listing.q and listing.q.strip() else {}
    labels: dict[str, Label] = {}
    if listing.label or listing.labelled is not None:
        labels = read_labels(workshop, run)
    elif listing.column == "label":
        labels = labels_of(workshop, run)
    called = {key: words for key, label in labels.items() if (words := _words(label)) and key in rows.row_of}
    keep = _selected(run, rows, listing, texts, on) & _labelled(rows, listing, labels, called)
    if ends is not None:
        for wanted in filters.values():
            keep &= wanted.keep(run, ends.value)
    chosen = np.flatnonzero(keep)
    if listing.column == "label":
        values = _by_name(rows, called)
    else:
        values = _values(run, rows, listing, None if ends is None else ends.value, on)
    if values is not None:
        values = values[chosen]
        # A stable sort keeps display order among equals; NaN sorts last either way.
        chosen = chosen[np.argsort(-values if listing.sort.startswith("-") else values, kind="stable")]
    subruns = (rows.subrun, None if ends is None else run.attributions().subrun, on and on.subrun)
    names = sorted((key, words, labels[key].source) for key, words in called.items())
    cursors = Cursors(listing, *subruns, names)
    start = cursors.start(
        cursor, "cursors hold for the same filters and sort, until there are new numbers to sort by."
    )
    end = start + limit
    shown: list[ComponentSummary] = []
    for position in chosen[start:end].tolist():
        update: dict[str, object] = {}
        if ends is not None:
            update.update((column, _end(run, ends.value, column, position)) for column in shown_ends)
        if on is not None:
            update["fires_on"] = on.of(position)
        shown.append(summary(run, rows, position).model_copy(update=update))
    readings: dict[EndColumn, EndReading] = {column: one.reading for column, one in filters.items()}
    scans = [scan.seconds for scan in (ends, on) if scan is not None]
    return ComponentPage(
        run=run.name,
        components=shown,
        total=len(chosen),
        tokens=rows.tokens,
        fires_on=None if on is None else on.tokens,
        strongest_source=readings.get("strongest_source"),
        strongest_target=readings.get("strongest_target"),
        next_cursor=cursors.after(end, len(chosen)),
        scan_seconds=sum(scans) if scans else None,
        seconds=watch.seconds,
    )


def _check(listing: Listing) -> None:
    for name in ("density", "mean_ci"):
        least, most = getattr(listing, f"min_{name}"), getattr(listing, f"max_{name}")
        if least is not None and most is not None and least > most:
            raise ServiceError(
                422,
                "bad_input",
                f"min_{name} is {least:g}, above max_{name}, {most:g}: nothing lies between them",
                "Exchange them, or leave one out.",
            )
    if listing.labelled == "none" and (listing.label or "").split():
        raise ServiceError(
            422,
            "bad_input",
            "What has no label has no words in it either",
            "Leave out label, or labelled=none.",
        )


def _end_filters(run: Run, listing: Listing) -> dict[EndColumn, EndFilter]:
    given = {"strongest_source": listing.strongest_source, "strongest_target": listing.strongest_target}
    return {
        column: parse_end(run, column, text) for column in _END_COLUMNS if (text := given[column]) is not None
    }


class _FiresOn:
    """Components that fire on a token of that text more often than by chance; each with the token it
    goes with most surely."""

    def __init__(self, run: Run, text: str) -> None:
        self._run = run
        pairs, harvest = run.token_firings(), run.harvest()
        self.seconds, self.subrun = pairs.seconds, harvest.subrun
        ids = run.vocabulary.reading(text)
        self.tokens = [Token(id=i, text=run.vocabulary.texts[i]) for i in ids]
        found = [pairs.value.of(token) for token in ids]
        none = [np.empty(0, np.int64)]
        flat = np.concatenate([*none, *(flat for flat, _ in found)])
        joint = np.concatenate([*none, *(joint for _, joint in found)])
        self._ids = np.repeat(np.array(ids, np.int64), [len(flat) for flat, _ in found])
        self._totals = harvest.token_count[self._ids]
        self._fired = harvest.values("firing_count")[flat]
        self._together = associated(harvest, joint, self._fired, self._totals)
        n = harvest.n_components
        #: What is sorted by, [n]; NaN where it does not fire on any.
        self.sizes = np.full(n, np.nan)
        self._pair = np.full(n, -1)
        order = np.argsort(self._together.pmi_low, kind="stable")  # the surest is written last
        self.sizes[flat[order]] = self._together.pmi_low[order]
        self._pair[flat[order]] = order

    def of(self, position: int) -> TokenAssociation:
        """How a component that fires on a token does so."""
        pair = self._pair[position : position + 1]
        return token_associations(
            self._run, self._together.take(pair), self._ids[pair], self._totals[pair], self._fired[pair]
        )[0]


def _values(
    run: Run, rows: ComponentTable, listing: Listing, ends: StrongestEnds | None, on: _FiresOn | None
) -> np.ndarray | None:
    """What the listing is sorted by, for all components; ``None`` for the order of keys."""
    if listing.column == "key":
        return None
    if listing.column == "fires_on":
        if on is None:
            raise ServiceError(
                422,
                "bad_input",
                "Sorting by fires_on needs a token to fire on",
                "Give fires_on, or sort by another column.",
            )
        return on.sizes
    for column in _END_COLUMNS:
        if ends is not None and listing.column == column:
            sites = by_site(ends, column)
            return np.concatenate([np.abs(sites[address].value) for address in run.starts])
    return rows.columns[listing.column]


def _by_name(rows: ComponentTable, names: Mapping[str, str]) -> np.ndarray:
    """Places of the components in the order of their labels' names; NaN where there is none."""
    values = np.full(len(rows.keys), np.nan)
    order = {name: place for place, name in enumerate(sorted(set(names.values()), key=_folded))}
    for key, name in names.items():
        values[rows.row_of[key]] = order[name]
    return values


def _words(label: Label) -> str:
    """What the table shows of a label: its name, else how its note begins; nothing of mere stars."""
    return label.name or label.text.split("\n", 1)[0]


def _labelled(
    rows: ComponentTable, listing: Listing, labels: Mapping[str, Label], called: Mapping[str, str]
) -> np.ndarray:
    """Which components the filters by label keep, [n] bool; ``called`` is what the table shows of them."""
    words = (listing.label or "").casefold().split()
    if listing.labelled is None and not words:
        return np.ones(len(rows.keys), bool)
    named = np.zeros(len(rows.keys), bool)
    for key, text in called.items():
        by = "person" if labels[key].source == "person" else "model"
        if listing.labelled in ("person", "model") and by != listing.labelled:
            continue
        named[rows.row_of[key]] = all(word in text.casefold() for word in words)
    return ~named if listing.labelled == "none" else named


def _folded(name: str) -> tuple[str, str]:
    return name.casefold(), name


def _end(run: Run, ends: StrongestEnds, column: EndColumn, position: int) -> StrongestEnd | None:
    key = parse_key(run.component_keys[position])
    assert isinstance(key.index, int)
    found = by_site(ends, column)[key.address]
    other = found.key(key.index)
    if other is None:
        return None
    return StrongestEnd(key=str(other), label=run.label(other), value=float(found.value[key.index]))


def _selected(
    run: Run, rows: ComponentTable, listing: Listing, texts: Mapping[str, str], on: _FiresOn | None
) -> np.ndarray:
    """Which components the filters keep, [n] bool; an unknown density or mean CI is none."""
    site, q = listing.site, listing.q
    keep = np.ones(len(rows.keys), bool)
    if on is not None:
        keep &= ~np.isnan(on.sizes)
    if listing.cluster is not None:
        keep &= clusters.keep(run, listing.cluster, listing.clustering, listing.iteration)
    for name, least, most in (
        ("density", listing.min_density, listing.max_density),
        ("mean_ci", listing.min_mean_ci, listing.max_mean_ci),
    ):
        if least is not None:
            keep &= rows.columns[name] >= least
        if most is not None:
            keep &= rows.columns[name] <= most
    if site is not None:
        address = parse_address(site)
        if address not in rows.starts:
            there = ", ".join(str(known) for known in rows.addresses)
            raise ServiceError(404, "unknown_site", f"{run.name} has no site {site}", f"There are {there}.")
        keep &= rows.site == rows.addresses.index(address)
    if q is not None and q.strip():
        found = np.isin(rows.top_token, run.vocabulary.matching(q)).any(axis=1)
        wanted = q.strip().casefold()
        # A word is a search for tokens; only what looks like part of a key is looked for in the keys.
        if wanted in {str(known) for known in rows.addresses} or any(c in ".:0123456789" for c in wanted):
            found |= np.fromiter((wanted in key for key in rows.keys), bool, len(rows.keys))
        labelled = {key for key, text in texts.items() if wanted in text.casefold()}
        if labelled:
            found |= np.fromiter((key in labelled for key in rows.keys), bool, len(rows.keys))
        keep &= found
    return keep
