"""The table of components: filtering, sorting and paging over statistics held as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.errors import ServiceError
from backend.schemas import ComponentPage, ComponentSort, ComponentSummary, StrongestEnd, TokenShare
from backend.service.cursors import Cursors
from backend.service.evidence import not_harvested
from backend.service.ranking import Ranking
from backend.service.run import Run
from backend.service.table import ComponentTable
from backend.service.timing import Stopwatch
from compute.address import parse_address

#: Input tokens named in a row of the table.
_TOKENS_SHOWN = 5


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
    sort: ComponentSort = "key"

    @property
    def column(self) -> str:
        return self.sort.removeprefix("-")


def list_components(run: Run, listing: Listing, *, cursor: str | None, limit: int) -> ComponentPage:
    """One page; raises a 404 for a site that the run does not have or a cursor of another listing, and a
    409 or 503 where what it is sorted or filtered by is not there."""
    watch = Stopwatch()
    if listing.fires_on is not None:
        raise not_harvested(run)
    rows = run.table()
    column, ranking = listing.column, None
    if column == "fires_on" and listing.fires_on is None:
        raise ServiceError(
            422,
            "bad_input",
            "Sorting by fires_on needs a token to fire on",
            "Give fires_on, or sort by another.",
        )
    if column in ("strongest_source", "strongest_target"):
        ranking = run.ranking()
    chosen = np.flatnonzero(_selected(run, rows, listing))
    if ranking is not None:
        sizes = [ranking.sizes(column, address, run.n_components[address]) for address in run.starts]
        values = np.concatenate(sizes)
    elif column != "key":
        values = rows.columns[column]
    else:
        values = None
    if values is not None:
        values = values[chosen]
        # A stable sort keeps display order among equals; NaN sorts last either way.
        chosen = chosen[np.argsort(-values if listing.sort.startswith("-") else values, kind="stable")]
    cursors = Cursors(rows.subrun, listing, None if ranking is None else run.attributions().subrun)
    start = cursors.start(
        cursor, "cursors hold for the same filters and sort, until there are new statistics or attributions."
    )
    end = start + limit
    return ComponentPage(
        run=run.name,
        components=[
            summary(run, rows, int(position)).model_copy(
                update={} if ranking is None else {column: _end(run, ranking, column, int(position))}
            )
            for position in chosen[start:end]
        ],
        total=len(chosen),
        tokens=rows.tokens,
        fires_on=None,
        next_cursor=cursors.after(end, len(chosen)),
        ranking_seconds=None if ranking is None else ranking.seconds,
        seconds=watch.seconds,
    )


def _end(run: Run, ranking: Ranking, column: str, position: int) -> StrongestEnd | None:
    found = ranking.end(column, run.key(run.component_keys[position]))
    if found is None:
        return None
    key, value = found
    return StrongestEnd(key=str(key), label=run.label(key), value=value)


def _selected(run: Run, rows: ComponentTable, listing: Listing) -> np.ndarray:
    """Which components the filters keep, [n] bool; an unknown density is none."""
    site, q = listing.site, listing.q
    keep = np.ones(len(rows.keys), bool)
    if listing.min_density is not None:
        keep &= rows.columns["density"] >= listing.min_density
    if listing.max_density is not None:
        keep &= rows.columns["density"] <= listing.max_density
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
        keep &= found
    return keep
