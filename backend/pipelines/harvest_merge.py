"""``tributary harvest-merge RUN PART…``: add up harvests that were computed in several places."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Annotated

import typer

from backend.pipelines.common import UsageError, console, progress, provenance
from backend.pipelines.harvest import compact
from storage.files import publish
from storage.harvest import Harvest
from storage.harvest_merge import check_mergeable, merge_harvests
from storage.run_directory import RunDirectory, resolve_run
from storage.work_lock import WorkLock, remove_abandoned


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="The run that receives the sum")],
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART", help="Run directories whose newest harvests are added")
    ],
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Small copy: only so many associations of each list and sign"),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Random examples in a small copy")] = 100,
    strongest: Annotated[int, typer.Option(min=1, help="Strongest examples in a small copy")] = 50,
) -> None:
    """Add up the newest harvests of several copies of a run; with --keep, write a small copy of the sum."""
    run = resolve_run(run_name, runs)
    harvests = [RunDirectory.open(part).harvest() for part in parts]
    for harvest in harvests:
        if harvest.manifest.model_sha256 != run.info.files["model.safetensors"]:
            raise UsageError(
                f"{harvest.path} was computed from another model than that of {run.path}",
                "merge copies of one run",
            )
        if harvest.manifest.corpus_sha256 != run.corpus().sha256:
            raise UsageError(
                f"{harvest.path} was computed from another text than that of {run.path}",
                "merge copies of one run",
            )
    if len(harvests) == 1 and keep is None:
        raise UsageError("a merge takes two harvests or more", "add --keep to make a small copy of one")
    check_mergeable(harvests)
    made = provenance(command="tributary harvest-merge") | _origins(harvests)
    folder = run.path / "harvest"
    remove_abandoned(folder, ".writing-*")
    work = folder / f".writing-{secrets.token_hex(4)}"
    work.mkdir(parents=True)
    lock = WorkLock(work, "merging harvests")
    try:
        with progress("merge", harvests[0].n_components, "component") as update:
            merge_harvests(
                work,
                harvests,
                store_id=secrets.token_hex(16),
                provenance=made,
                compact=None if keep is None else compact(keep, examples, strongest),
                progress=update,
            )
        lock.remove()
        subrun = publish(work, folder)
    finally:
        lock.close()
        shutil.rmtree(work, ignore_errors=True)
    console.print(f"written to {folder / subrun}", soft_wrap=True)


def _origins(harvests: list[Harvest]) -> dict[str, str]:
    origins = {"merged_from": ", ".join(harvest.manifest.store_id for harvest in harvests)}
    for number, harvest in enumerate(harvests):
        origins |= {f"part_{number}.{key}": value for key, value in harvest.provenance.items()}
    return origins
