"""``tributary merge RUN PART…``: add up attributions that were computed in several places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from backend.pipelines.common import UsageError, console
from storage.layout import GROUPS, Manifest
from storage.manifest import read_manifest
from storage.merge import merge
from storage.run_directory import RunDirectory, resolve_run


def command(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="The run that receives the sum")],
    parts: Annotated[
        list[Path],
        typer.Argument(metavar="PART", help="Run directories whose newest attributions are added"),
    ],
    runs: Annotated[Path, typer.Option(envvar="TRIBUTARY_RUNS", help="Folder of runs")] = Path("runs"),
) -> None:
    """Add up the newest attributions of several copies of a run, e.g. of different --groups."""
    run = resolve_run(run_name, runs)
    stores = [_newest(RunDirectory.open(part)) for part in parts]
    manifests = [read_manifest(store) for store in stores]
    for store, manifest in zip(stores, manifests, strict=True):
        if manifest.settings.model_sha256 != run.info.files.get("model.safetensors", ""):
            raise UsageError(
                f"{store} was computed from another model than that of {run.path}", "merge copies of one run"
            )
    _check_disjoint(stores, manifests)
    subrun = merge(stores, run.path)
    console.print(f"written to {run.path / 'attributions' / subrun}", soft_wrap=True)


def _newest(run: RunDirectory) -> Path:
    subruns = run.attribution_subruns()
    if not subruns:
        raise UsageError(f"{run.path} has no complete attributions", "run tributary attribute on it first")
    return run.path / "attributions" / subruns[0]


def _check_disjoint(stores: list[Path], manifests: list[Manifest]) -> None:
    """Refuse parts that count a group of documents of the same text twice."""
    counted: dict[tuple[str, int], Path] = {}
    for store, manifest in zip(stores, manifests, strict=True):
        for group in _groups(manifest):
            other = counted.setdefault((manifest.settings.corpus_sha256, group), store)
            if other != store:
                raise UsageError(
                    f"{other} and {store} both hold group {group} of the same text",
                    "every group may be counted once only",
                )


def _groups(manifest: Manifest) -> set[int]:
    """The groups that a store, or the stores it was merged from, were asked to compute."""
    groups: set[int] = set()
    for key, value in manifest.provenance.items():
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", value)
        if key.rpartition(".")[2] == "groups":
            groups |= (
                set(range(int(match[1]), int(match[2] or match[1]) + 1)) if match else set(range(GROUPS))
            )
    return groups
