"""The table of components: filtering, sorting and paging over statistics held as columns."""

from __future__ import annotations

import hashlib

import numpy as np

from backend.errors import ServiceError
from backend.schemas import ComponentPage, ComponentSort, ComponentSummary, TokenShare
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


def list_components(
    run: Run, *, site: str | None, q: str | None, sort: ComponentSort, cursor: str | None, limit: int
) -> ComponentPage:
    """One page; raises a 404 for a site that the run does not have or a cursor of another listing."""
    watch = Stopwatch()
    rows = run.table()
    chosen = np.flatnonzero(_selected(run, rows, site, q))
    if sort != "key":
        column = rows.columns[sort.removeprefix("-")][chosen]
        # A stable sort keeps display order among equals; NaN sorts last either way.
        chosen = chosen[np.argsort(-column if sort.startswith("-") else column, kind="stable")]
    mark = hashlib.sha256(repr((rows.subrun, site, q, sort)).encode()).hexdigest()[:12]
    start = 0
    if cursor is not None:
        number, _, given = cursor.partition("-")
        if given != mark or not number.isdigit():
            raise ServiceError(
                404,
                "unknown_cursor",
                "The cursor does not belong to this listing",
                "Ask without a cursor; cursors hold for the same site, q and sort until new statistics appear.",
            )
        start = int(number)
    end = start + limit
    return ComponentPage(
        run=run.name,
        components=[summary(run, rows, int(position)) for position in chosen[start:end]],
        total=len(chosen),
        tokens=rows.tokens,
        next_cursor=f"{end}-{mark}" if end < len(chosen) else None,
        seconds=watch.seconds,
    )


def _selected(run: Run, rows: ComponentTable, site: str | None, q: str | None) -> np.ndarray:
    """Which components a filter keeps, [n] bool."""
    keep = np.ones(len(rows.keys), bool)
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
