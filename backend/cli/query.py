"""``tributary query``: strongest sources and targets of a key, and single edges."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from backend.cli.options import RUNS, Json, RunArgument, RunsFolder, find_run, visible

if TYPE_CHECKING:
    from backend.schemas import AttributionValue, EntryList

# Written out rather than imported from the wire models: those cost half of the start.
Metric = Literal["attr", "attr_abs", "attr_frozen"]
Sign = Literal["positive", "negative"]
_BAR = 24
_UNITS = {"normalised": "normalised", "mean": "mean over all tokens, not normalised", "raw": "raw sum"}


def query(
    run_name: RunArgument,
    what: Annotated[
        Literal["sources", "targets", "between"],
        typer.Argument(
            help="sources or targets of KEY, or the edge between KEY and TARGET", show_default=False
        ),
    ],
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="For example 1.glu.down:17 or embed:42", show_default=False)
    ],
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="The other end, for between", show_default=False)
    ] = None,
    metric: Annotated[
        Metric, typer.Option(help="Effect on the target, on its magnitude, or with norms held constant")
    ] = "attr",
    sign: Annotated[Sign, typer.Option(help="Which sign to list")] = "positive",
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=1000, help="How many entries")] = 10,
    raw: Annotated[bool, typer.Option("--raw", help="Raw sums instead of normalised values")] = False,
    subrun: Annotated[str | None, typer.Option(help="An attribution subrun; default the newest")] = None,
    folder: RunsFolder = RUNS,
    as_json: Json = False,
) -> None:
    """Query dataset attributions: sources KEY, targets KEY, or between SOURCE TARGET."""
    from backend.service import cards
    from compute.address import AddressError
    from storage.errors import UnknownKeyError

    if (what == "between") != (target is not None):
        wrong = "between needs two keys" if what == "between" else f"{what} takes one key"
        raise UnknownKeyError(wrong, "write query RUN sources KEY, targets KEY, or between SOURCE TARGET")
    run = find_run(run_name, folder)
    try:
        if what == "between":
            assert target is not None
            found = cards.attribution(run, key, target, metric=metric, raw=raw, subrun=subrun)
        else:
            found = cards.entries(run, key, what, metric=metric, sign=sign, k=k, raw=raw, subrun=subrun)
    except AddressError as error:
        raise UnknownKeyError(str(error), "tributary query --help has examples") from error
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    elif isinstance(found, cards.EntryList):
        _print_list(found)
    else:
        _print_edge(found)


def _print_list(found: EntryList) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    unit = _UNITS[found.unit]
    console.print(
        Text(
            f"{found.sign} {found.direction} of {found.key} in {found.run}: {found.metric}, {unit}, "
            f"over {found.tokens:,} tokens"
        )
    )
    if not found.entries:
        console.print(Text(f"there are no {found.sign} {found.direction}"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("key", "token", "value", "± error", ""):
        table.add_column(name, justify="right" if name in ("value", "± error") else "left", no_wrap=True)
    largest = max(abs(entry.value) for entry in found.entries)
    for entry in found.entries:
        table.add_row(
            Text(entry.key),
            Text("" if entry.label is None else visible(entry.label)),
            f"{entry.value:+.4g}" + ("°" if entry.scale_free else ""),
            "" if entry.standard_error is None else f"{entry.standard_error:.2g}",
            "█" * max(1, round(_BAR * abs(entry.value) / largest)),
        )
    console.print(table)
    share = found.shown_value / found.total_value if found.total_value else 1.0
    console.print(
        Text(f"{len(found.entries)} of {found.total:,}, {share:.0%} of their sum {found.total_value:+.4g}")
    )
    if any(entry.scale_free for entry in found.entries):
        console.print(
            Text(
                "° through a norm, which ignores scale: all such add up to nearly zero; see --metric attr_frozen"
            )
        )


def _print_edge(found: AttributionValue) -> None:
    error = "" if found.standard_error is None else f" ± {found.standard_error:.2g}"
    unit = _UNITS[found.unit]
    typer.echo(
        f"{found.source} → {found.target} in {found.run}: {found.metric}, {unit}, over {found.tokens:,} tokens"
    )
    typer.echo(f"{found.value:+.6g}{error} (raw sum {found.raw:+.6g})")
    if not found.connected:
        typer.echo("not connected: the source does not flow directly into the target")
    if found.scale_free:
        typer.echo(
            "through a norm, which ignores scale: all such add up to nearly zero; see --metric attr_frozen"
        )
