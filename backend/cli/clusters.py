"""``tributary clusters import|export``: the published mapping file of components to clusters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from backend.cli.options import RUNS, RunArgument, RunsFolder
from storage.errors import InvalidValueError, StorageError

clusters = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Import and export clusters as the published mapping."
)


@clusters.command("export")
def export_mapping(
    run_name: RunArgument,
    subrun: Annotated[str | None, typer.Option(help="A clustering; default the newest")] = None,
    iteration: Annotated[
        int | None, typer.Option(min=0, help="After so many merges; default: the one that is shown")
    ] = None,
    variant: Annotated[
        Literal["newer", "older"],
        typer.Option(help="newer: fields and addresses of newer tools; older: of older ones, module paths"),
    ] = "newer",
    output: Annotated[Path | None, typer.Option(help="A file; default standard output")] = None,
    folder: RunsFolder = RUNS,
) -> None:
    """Write the clusters of a run as a JSON mapping; null is a component that is alone."""
    from storage.cluster_mapping import write_mapping
    from storage.run_directory import resolve_run

    run = resolve_run(run_name, folder)
    paths = {site.address: site.module_path for site in run.info.sites}
    document = write_mapping(run.clustering(subrun), run.name, paths, variant=variant, iteration=iteration)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")
        typer.echo(f"{len(document['clusters']):,} components written to {output}", err=True)


@clusters.command("import")
def import_mapping(
    run_name: RunArgument,
    file: Annotated[Path, typer.Argument(help="A mapping of either variant", show_default=False)],
    notes: Annotated[str | None, typer.Option(help="Words kept with it; default: those in the file")] = None,
    folder: RunsFolder = RUNS,
) -> None:
    """Add the clusters of a mapping file to a run; it becomes the newest clustering."""
    from backend.service.clusters import import_document
    from storage.cluster_mapping import parse_mapping
    from storage.run_directory import resolve_run

    run = resolve_run(run_name, folder)
    try:
        document = parse_mapping(file.read_bytes())
    except OSError as error:
        raise StorageError(f"{file} cannot be read ({error.strerror})", "give the path of a file") from error
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{file} is not JSON ({error})", "give a mapping file") from error
    subrun, mapping = import_document(run, document, file_name=file.name, notes=notes)
    typer.echo(
        f"{len(mapping.component):,} of {run.info.n_components:,} components of {run.name} are in the mapping"
        + (
            f"; {len(mapping.unmatched):,} of its keys are not in this run, "
            f"such as {', '.join(mapping.unmatched[:3])}"
            if mapping.unmatched
            else ""
        ),
        err=True,
    )
    typer.echo(f"written to {run.path / 'clusters' / subrun}", err=True)
