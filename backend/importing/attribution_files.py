"""``tributary import FILE.pt``: published dataset attributions as a subrun of a run, or as a run of their own.

Both published formats hold edges between components one by one; so does the store that they become
(storage/layout.py, ``imported_from``). Edges into output tokens stay vectors of the residual stream,
multiplied with the unembedding that came with the file, or with that of the run.
"""

from __future__ import annotations

import time
from pathlib import Path

from tokenizers import Tokenizer

from backend.importing.attribution_store import FORMATS, ImportedStore
from backend.importing.checkpoint import load_torch_file
from backend.importing.errors import ImportRefusedError
from backend.importing.huggingface import load_hf_tokenizer
from backend.importing.options import Finding, ImportedRun, ImportOptions
from backend.importing.published_sums import PublishedSums, read_sums
from backend.importing.run import new_run
from backend.pipelines.common import provenance
from storage.files import sha256_file
from storage.run_directory import AttributedModel, RunInfo, RunSite, resolve_run, write_run


def import_attributions(path: Path, options: ImportOptions) -> ImportedRun:
    """Add a file to the run ``options.into``, or make the run ``options.name`` of it.

    Raises :class:`ImportRefusedError`, or another :class:`storage.errors.StorageError`, with nothing
    left half-written.
    """
    started = time.monotonic()
    _check_options(options)
    into = None if options.into is None else resolve_run(options.into, options.runs)
    destination = None if into is not None else new_run(options, path)
    sums = read_sums(path, load_torch_file(path))
    store = ImportedStore(sums, into)
    made = provenance(
        command="tributary import",
        source=path.resolve().name,
        source_sha256=sha256_file(path),
        source_format=sums.format,
        source_ci_threshold=f"{sums.ci_threshold:g}",
    )
    if into is not None:
        subrun = store.write(into.path / "attributions", made)
        warnings = (f"It is the newest subrun, so {into.name}'s pages show it first.",)
        target, written = into.path, f"attributions/{subrun} of {into.name}"
    else:
        assert destination is not None
        _write_run(destination, store, options, made)
        warnings = _warnings(sums, options)
        target, written = destination, destination.name
    found = (
        Finding("format", FORMATS[sums.format]),
        Finding("text", f"{sums.n_tokens:,} tokens, vocabulary {sums.vocab_size:,}"),
        Finding("sites", f"{len(sums.counts):,}, with {sum(sums.counts.values()):,} components"),
        Finding("metrics", ", ".join(store.settings.metrics)),
        Finding("written", f"{written}, in {time.monotonic() - started:.1f} s"),
    )
    run = target.name if target.parent == Path("runs") else str(target)
    return ImportedRun(target, found, store.notes, (), warnings, (f"tributary serve {run}",))


def _check_options(options: ImportOptions) -> None:
    if (options.into is None) == (options.name is None):
        raise ImportRefusedError(
            "attributions go into a run or become one"
            if options.into is None
            else "attributions go into a run or become one, not both",
            "give --into RUN for a run that there is, or --as NAME to browse them without their model",
        )
    useless: dict[str, object] = {"--target": options.target, "--text": options.text}
    useless |= {"--leave-whole": options.leave_whole, "--step": options.checkpoint is not None}
    if options.into is not None:
        useless |= {"--tokenizer": options.tokenizer, "--title": options.title, "--licence": options.licence}
    for name, value in useless.items():
        if value:
            raise ImportRefusedError(f"{name} does not go with a file of attributions", "leave it out")


def _write_run(destination: Path, store: ImportedStore, options: ImportOptions, made: dict[str, str]) -> None:
    sums = store.sums
    tokenizer: Tokenizer | None = None
    if options.tokenizer is not None:
        tokenizer = load_hf_tokenizer(options.tokenizer.expanduser(), sums.vocab_size)
    sites = sorted((address, sums.counts[name], name) for name, address in store.sites.items())
    info = RunInfo(
        kind="attributions",
        name=destination.name,
        title=options.title or f"Attributions imported from {sums.path.name}",
        description=f"Dataset attributions over {sums.n_tokens:,} tokens, from {FORMATS[sums.format]}, without their model.",
        licence=options.licence or "not stated",
        created=made["created"],
        provenance=made,
        target=AttributedModel(vocab_size=sums.vocab_size, d_model=sums.d_model).model_dump(),
        importance=None,
        sites=tuple(
            RunSite(
                address=str(address),
                module_path=name,
                d_in=None,
                d_out=None,
                n_components=count,
                source_path=name,
            )
            for address, count, name in sites
        ),
        notes=store.notes,
    )
    write_run(
        destination,
        info,
        None,
        tokenizer,
        None,
        fill=lambda folder: store.write(folder / "attributions", made),
    )


def _warnings(sums: PublishedSums, options: ImportOptions) -> tuple[str, ...]:
    warnings: list[str] = []
    if sums.unembedding is None:
        warnings.append(
            "There are no edges into output tokens: they need the unembedding, which this format leaves to the model."
        )
    if options.tokenizer is None:
        warnings.append(
            "There is no tokenizer, so tokens are shown by their ids. Import again with --tokenizer PATH to have one."
        )
    return tuple(warnings)
