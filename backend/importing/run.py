"""One command for everything that the public decomposition code writes (``tributary import``)."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from backend.importing.checkpoint import Checkpoint, open_checkpoint, tie_components
from backend.importing.errors import ImportRefusedError
from backend.importing.importance import ImportanceSource, importance_source
from backend.importing.notes import run_notes
from backend.importing.options import Finding, ImportedRun, ImportOptions
from backend.importing.recognise import PublishedAttributions, PublishedRun, recognise
from backend.importing.sites import DecomposedModule, decomposed_modules
from backend.importing.target_files import TOY_CLASSES, FoundTarget, find_target, find_tokenizer, find_weights
from backend.importing.tensors import check_fit, converted_tensors
from backend.pipelines.common import provenance
from backend.pipelines.text import tokenize_files
from compute.topology import Topology
from storage.files import sha256_file
from storage.run_directory import DEMO_NAME, RunInfo, RunSite, write_run

_LAYOUTS = {"spd": "A, of the spd code", "param_decomp": "B, of the param_decomp code"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def import_run(path: Path, options: ImportOptions) -> ImportedRun:
    """Read what is at ``path`` and write it as a run of ours.

    Raises :class:`ImportRefusedError`, or another :class:`storage.errors.StorageError`, with nothing
    left half-written.
    """
    path = path.expanduser()
    found = recognise(path, options.checkpoint)
    if isinstance(found, PublishedAttributions):
        from backend.importing.attribution_files import import_attributions

        return import_attributions(found.path, options)
    if options.into is not None:
        raise ImportRefusedError(
            f"{path} is a decomposition; --into adds dataset attributions to a run", "leave out --into"
        )
    destination = new_run(options, found.directory)
    if found.read.settings.class_name in TOY_CLASSES or found.read.settings.task_name in ("tms", "resid_mlp"):
        from backend.importing.toys import import_toy

        return import_toy(found, destination, options)
    return _import_decomposition(found, destination, options)


def new_run(options: ImportOptions, source: Path) -> Path:
    """The directory to write a run to; raises where its name cannot be or is taken."""
    name = options.name
    if name is None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", source.resolve().name).strip(".-_")
    if not _NAME.fullmatch(name) or name == DEMO_NAME:
        raise ImportRefusedError(
            f"a run cannot be called {name[:100]!r}",
            "choose a name of letters, digits, dots and dashes with --as",
        )
    path = options.runs.expanduser() / name
    if path.exists():
        raise ImportRefusedError(
            f"there is a run called {name} already, at {path}",
            "choose another name with --as, or remove it first",
        )
    return path


def source_provenance(found: PublishedRun, **more: str) -> dict[str, str]:
    """Where a run came from: names and checksums of its files, and its configuration as JSON."""
    step = {} if found.step is None else {"source_step": str(found.step)}
    return provenance(
        command="tributary import",
        source=found.directory.resolve().name,
        source_layout=found.read.layout,
        source_checkpoint=found.checkpoint.name,
        source_checkpoint_sha256=sha256_file(found.checkpoint),
        source_configuration=json.dumps(found.read.raw, sort_keys=True, default=str),
        **step,
        **more,
    )


def _import_decomposition(found: PublishedRun, destination: Path, options: ImportOptions) -> ImportedRun:
    settings = found.read.settings
    target = find_target(found.read, found.directory, options)
    source = target.source
    modules = decomposed_modules(source, settings, options.leave_whole)
    topology = Topology(source.config)
    widths = {str(address): module.d_in for address, module in topology.modules.items()}
    importance = importance_source(settings, modules, widths)
    checkpoint = open_checkpoint(found.checkpoint)
    tie_components(checkpoint, settings.tied_weights)
    learned_only = not checkpoint.target
    if learned_only:
        checkpoint = replace(checkpoint, target=find_weights(settings, target, found.directory, options))
    check_fit(checkpoint, source, modules, importance)
    tokenizer, tokenizer_from = find_tokenizer(settings, target, found.directory, options)
    if options.text and tokenizer is None:
        raise ImportRefusedError(
            f"--text needs a tokenizer, and there is none: {tokenizer_from}", "give --tokenizer"
        )
    tensors, kinds = converted_tensors(checkpoint, source, modules, importance)
    corpus = None
    if options.text and tokenizer is not None:
        corpus = tokenize_files(options.text, tokenizer, source.config.vocab_size)

    ignored = (*found.read.ignored, *source.ignored)
    notes = run_notes(found.read, source, modules, importance.config, kinds, ignored)
    made = source_provenance(
        found,
        target_class=settings.model_class,
        target_configuration=Path(target.where).name if target.directory else target.where,
    )
    info = RunInfo(
        name=destination.name,
        title=options.title or f"{source.class_name}, imported from {found.directory.resolve().name}",
        description=_description(settings.dataset_name, source.class_name),
        licence=options.licence or "not stated",
        created=made["created"],
        provenance=made,
        target=source.config.model_dump(mode="json"),
        importance=importance.config,
        sites=_sites(modules, topology),
        notes=notes,
        tokenizer=None if tokenizer is None else "tokenizer.json",
    )
    write_run(destination, info, tensors, tokenizer, corpus)
    warnings = _warnings(
        tokenizer_from if tokenizer is None else None, _called(destination), has_text=corpus is not None
    )
    return ImportedRun(
        destination,
        _findings(found, target, modules, importance, tokenizer_from, checkpoint, learned_only=learned_only),
        notes,
        ignored,
        warnings,
        _next(_called(destination), has_text=corpus is not None, has_tokenizer=tokenizer is not None),
    )


def _sites(modules: tuple[DecomposedModule, ...], topology: Topology) -> tuple[RunSite, ...]:
    """Sites in forward order, whatever the order of the configuration."""
    by_address = {module.address: module for module in modules}
    return tuple(
        RunSite(
            address=str(address),
            module_path=site.module_path,
            d_in=site.d_in,
            d_out=site.d_out,
            n_components=by_address[address].n_components,
            source_path=by_address[address].path,
        )
        for address, site in topology.modules.items()
        if address in by_address
    )


def _description(dataset: str | None, class_name: str) -> str:
    text = f"A decomposed {class_name}, made with the public parameter-decomposition code"
    return f"{text} on {dataset}." if dataset else f"{text}."


def _findings(
    found: PublishedRun,
    target: FoundTarget,
    modules: tuple[DecomposedModule, ...],
    importance: ImportanceSource,
    tokenizer_from: str,
    checkpoint: Checkpoint,
    *,
    learned_only: bool,
) -> tuple[Finding, ...]:
    config = target.source.config
    kept = [module for module in modules if module.address is not None]
    total = len(Topology(config).modules)
    components = sum(module.n_components for module in kept)
    read = found.checkpoint.name + (f", step {found.step:,}" if found.step is not None else "")
    weights = ", learned weights only; the target's are its own" if learned_only else ""
    functions = f"{importance.config.kind}, sigmoid {importance.config.sigmoid}"
    return (
        Finding("layout", f"{_LAYOUTS[found.read.layout]} ({found.config.name})"),
        Finding("checkpoint", f"{read} ({_size(checkpoint.path)}{weights})"),
        Finding(
            "target",
            f"{target.source.class_name}: {config.n_blocks:,} blocks of width {config.d_model:,}, vocabulary "
            f"{config.vocab_size:,} ({target.where})",
        ),
        Finding("sites", f"{len(kept):,} of {total:,} matrices, {components:,} components"),
        Finding("importance", functions + (", for all sites at once" if importance.is_global else "")),
        Finding("tokenizer", tokenizer_from),
    )


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _warnings(no_tokenizer: str | None, run: str, *, has_text: bool) -> tuple[str, ...]:
    warnings: list[str] = []
    if no_tokenizer is not None:
        warnings.append(
            f"There is no tokenizer ({no_tokenizer}), so tokens are shown as numbers and no text can be typed. "
            "Import again with --tokenizer PATH to have one."
        )
    elif not has_text:
        warnings.append(
            f"The run has no text yet, which attributions and statistics need: tributary text {run} FILE"
        )
    return tuple(warnings)


def _called(path: Path) -> str:
    """What a command calls a run: its name in the default folder, its path elsewhere."""
    return path.name if path.parent == Path("runs") else str(path)


def _next(run: str, *, has_text: bool, has_tokenizer: bool) -> tuple[str, ...]:
    commands = [f"tributary serve {run}"]
    if has_tokenizer and not has_text:
        commands.append(f"tributary text {run} FILE")
    if has_tokenizer:
        commands += [f"tributary evaluate {run}", f"tributary attribute {run}"]
    return tuple(commands)
