"""``tributary verify``: every checksum and identity of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from backend.cli.options import RUNS, Json, RunArgument, RunsFolder, find_run


def verify(
    run_name: RunArgument,
    identities: Annotated[
        bool,
        typer.Option("--identities/--no-identities", help="Also check the mathematics on the run's model"),
    ] = True,
    folder: RunsFolder = RUNS,
    as_json: Json = False,
) -> None:
    """Check every checksum and identity of a run; exit code 1 if one does not hold."""
    from backend.schemas import Check, Verification
    from backend.service import verification
    from backend.service.timing import Stopwatch

    watch = Stopwatch()
    run = find_run(run_name, folder)
    checks: list[Check] = []
    for check in verification.verify(run, identities=identities):
        checks.append(check)
        if not as_json:
            mark = {"ok": "✓", "failed": "✗", "absent": "–"}[check.status]
            typer.echo(f"{mark} {check.name}: {check.detail}")
    ok = all(check.status != "failed" for check in checks)
    report = Verification(run=run.name, ok=ok, checks=checks, seconds=watch.seconds)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        failed = sum(check.status == "failed" for check in checks)
        typer.echo(
            f"{run.name}: {'everything holds' if ok else f'{failed} of {len(checks)} checks failed'} ({report.seconds:.1f} s)"
        )
    if not ok:
        raise typer.Exit(1)
