"""Decomposed toy models of the public code: the toy model of superposition and the residual MLP.

The public code leaves ``<task>_train_config.yaml`` beside the decomposition (of a TMS the bare model
configuration in some versions, the whole training configuration in others) and, for the residual MLP,
``label_coeffs.json``; runs of layout B name the directory of the target's training, which has them. Names
of fields and parameters are facts of goodfire-ai/spd, spd/experiments, and of goodfire-ai/param-decomp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import ValidationError

from backend.importing.checkpoint import (
    Checkpoint,
    load_torch_file,
    open_checkpoint,
    state_dict,
    tie_components,
)
from backend.importing.errors import ImportRefusedError
from backend.importing.families import Parameter
from backend.importing.importance import importance_source
from backend.importing.notes import run_notes
from backend.importing.options import Finding, ImportedRun, ImportOptions
from backend.importing.recognise import PublishedRun
from backend.importing.run import source_provenance
from backend.importing.settings import read_yaml
from backend.importing.sites import DecomposedModule, decomposed_modules
from backend.importing.tensors import check_fit, converted_tensors
from compute.address import Address
from compute.toys.config import ExpectedPattern, ResidualMlpConfig, TmsConfig, ToyData, ToyModule, read_config
from storage.run_directory import RunInfo, RunNote, RunSite, write_run

Task = Literal["tms", "resid_mlp"]
Pattern = Literal["identity", "dense"]
_CLASSES: dict[str, Task] = {
    "TMSModel": "tms",
    "ResidMLP": "resid_mlp",
    "ResidualMLP": "resid_mlp",
    "ResidualMLPModel": "resid_mlp",
}
#: Where a training configuration has the model's, the newest name first.
_MODEL_FIELDS: dict[Task, tuple[str, ...]] = {
    "tms": ("tms_model_config",),
    "resid_mlp": ("resid_mlp_model_config", "resid_mlp_config", "residual_mlp_config"),
}
#: Active features are uniform between these, whatever the configuration says.
_RANGES: dict[Task, tuple[float, float]] = {"tms": (0.0, 1.0), "resid_mlp": (-1.0, 1.0)}
#: Where a configuration says what it was trained on, and which of it is read.
_DATA_FIELDS = ("task_config", "data")
_DATA_NAMES = ("feature_probability", "data_generation_type")
_WORDS: dict[Task, str] = {"tms": "toy model of superposition", "resid_mlp": "residual MLP"}


@dataclass(frozen=True)
class ToySource:
    """A toy model as what a checkpoint is taken apart by (``families.Source``)."""

    class_name: str
    config: TmsConfig | ResidualMlpConfig
    embeddings: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()

    @property
    def matrices(self) -> Mapping[Address, ToyModule]:
        return {module.address: module for module in self.config.modules}

    @property
    def sites(self) -> Mapping[str, Address]:
        return {module.path: module.address for module in self.config.modules}

    @property
    def tensors(self) -> Mapping[str, Parameter]:
        found: dict[str, Parameter] = {}
        for module in self.config.modules:
            for part in ("weight", "bias") if module.has_bias else ("weight",):
                found[f"target.{module.address}.{part}"] = Parameter(f"{module.path}.{part}")
        if isinstance(self.config, ResidualMlpConfig):
            found |= {"target.embedding": Parameter("W_E"), "target.unembedding": Parameter("W_U")}
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for module in self.config.modules:
            found[f"target.{module.address}.weight"] = (module.d_out, module.d_in)
            found[f"target.{module.address}.bias"] = (module.d_out,)
        if isinstance(self.config, ResidualMlpConfig):
            n, d = self.config.n_features, self.config.d_embed
            found |= {"target.embedding": (n, d), "target.unembedding": (d, n)}
        return found

    def rows_of(self, address: Address) -> tuple[int, ...] | None:
        return None


def import_toy(found: PublishedRun, destination: Path, options: ImportOptions) -> ImportedRun:
    """Write a decomposed toy model as a run of the kind ``toy`` at ``destination``.

    Raises :class:`ImportRefusedError` with nothing left half-written.
    """
    settings = found.read.settings
    task = _task(found)
    if options.text or options.tokenizer is not None:
        raise ImportRefusedError(
            f"a {_WORDS[task]} reads features, not tokens", "leave out --text and --tokenizer"
        )
    file, training = _training_config(task, found, options)
    source = ToySource(settings.class_name, _config(task, training, file, found))
    modules = decomposed_modules(source, settings, options.leave_whole)
    by_address = {module.address: module for module in modules}
    kept = {address: by_address[address] for address in source.matrices if address in by_address}
    widths = {str(address): matrix.d_in for address, matrix in source.matrices.items()}
    importance = importance_source(settings, modules, widths)
    checkpoint = _checkpoint(task, found, file)
    check_fit(checkpoint, source, modules, importance)
    tensors, kinds = converted_tensors(checkpoint, source, modules, importance)

    expected, from_settings = _expected(found.read.raw, source, kept)
    warnings = () if task == "tms" or _label_file(file).is_file() else (_NO_LABELS,)
    changes: dict[str, Any] = {"expected": expected}
    if isinstance(source.config, TmsConfig) and source.config.tied:
        first, last = checkpoint.target["linear1.weight"], checkpoint.target["linear2.weight"]
        if not torch.equal(first.T, last):
            changes["tied"] = False
            warnings += ("The configuration ties linear2 to linear1, but the checkpoint has two matrices.",)
    config = source.config.model_copy(update=changes)
    used = {f"{field}.{name}" for field in _DATA_FIELDS for name in _DATA_NAMES} | from_settings
    ignored = tuple(path for path in found.read.ignored if path not in used)
    notes = tuple(
        note if note.topic != "left_whole" else _left_whole(source, modules)
        for note in run_notes(found.read, source, modules, importance.config, kinds, ignored)
        if note.topic != "later_tokens"  # there are no tokens
    )
    made = source_provenance(found, target_class=settings.model_class, target_configuration=file.name)
    info = RunInfo(
        kind="toy",
        name=destination.name,
        title=options.title or f"{source.class_name}, imported from {found.directory.resolve().name}",
        description=f"A decomposed {_WORDS[task]} of {config.n_features:,} features, made with the public "
        "parameter-decomposition code.",
        licence=options.licence or "not stated",
        created=made["created"],
        provenance=made,
        target=config.model_dump(mode="json"),
        importance=importance.config,
        sites=tuple(_site(source.matrices[address], module) for address, module in kept.items()),
        notes=notes,
        tokenizer=None,
    )
    write_run(destination, info, tensors, None, None)
    total = sum(module.n_components for module in kept.values())
    step = f", step {found.step:,}" if found.step is not None else ""
    return ImportedRun(
        destination,
        (
            Finding("checkpoint", f"{found.checkpoint.name}{step}"),
            Finding(
                "target", f"{source.class_name}: {_WORDS[task]}, {config.n_features:,} features ({file.name})"
            ),
            Finding("sites", f"{len(kept)} of {len(source.matrices)} matrices, {total:,} components"),
            Finding("importance", f"{importance.config.kind}, sigmoid {importance.config.sigmoid}"),
        ),
        notes,
        ignored,
        warnings,
        (f"tributary serve {destination}",),
    )


_NO_LABELS = "label_coeffs.json is not beside the run, so outputs cannot be compared with what the model was trained to put out."


def _site(matrix: ToyModule, module: DecomposedModule) -> RunSite:
    return RunSite(
        address=str(matrix.address),
        module_path=matrix.path,
        d_in=matrix.d_in,
        d_out=matrix.d_out,
        n_components=module.n_components,
        source_path=matrix.path,
    )


def _left_whole(source: ToySource, modules: tuple[DecomposedModule, ...]) -> RunNote:
    """The matrices without components, by the names that their users know them by."""
    kept = {module.path for module in modules if module.address is not None}
    whole = [path for path in source.sites if path not in kept]
    dropped = [module.path for module in modules if module.address is None]
    sentences: list[str] = []
    if whole:
        sentences.append(
            f"{len(kept)} of the model's {len(source.sites)} matrices have components. Left whole, as they are: "
            f"{', '.join(whole)}."
        )
    if dropped:
        sentences.append(
            f"The run has components for {', '.join(dropped)} too; they are not used, as asked when it was imported."
        )
    return RunNote(topic="left_whole", text=" ".join(sentences))


def _task(found: PublishedRun) -> Task:
    settings = found.read.settings
    task = _CLASSES.get(settings.class_name)
    if task is None:
        raise ImportRefusedError(
            f"the run decomposes a {settings.model_class!r}, which Tributary does not know; nothing is imported by name",
            f"of toy models it knows {', '.join(_CLASSES)}",
        )
    return task


def _training_config(task: Task, found: PublishedRun, options: ImportOptions) -> tuple[Path, dict[str, Any]]:
    """The file that describes the target, and its content."""
    name = f"{task}_train_config.yaml"
    given = options.target.expanduser() if options.target is not None else None
    if given is not None and not given.exists():
        raise ImportRefusedError(
            f"there is nothing at {given}", "give an existing directory or file as --target"
        )
    places = [found.directory] if given is None else [given]
    trained = found.read.settings.model_path
    if given is None and trained and ":" not in trained:
        # Beside the target's checkpoint, or in the directory of its training.
        places += [Path(trained).expanduser(), Path(trained).expanduser().parent]
    for place in places:
        file = place if given is not None and place.is_file() else place / name
        if file.is_file():
            return file, read_yaml(file)
    raise ImportRefusedError(
        f"the configuration of the target model ({found.read.settings.class_name}) is not there",
        f"copy its {name} into {found.directory}, or give it with --target",
    )


def _config(
    task: Task, training: dict[str, Any], file: Path, found: PublishedRun
) -> TmsConfig | ResidualMlpConfig:
    nested = [training.get(field) for field in _MODEL_FIELDS[task]]
    model = next((one for one in nested if isinstance(one, dict)), training)
    values: dict[str, Any] = {"kind": task, "data": _data(task, training, found)}
    names = {"n_features": "n_features"} | (
        {"n_hidden": "n_hidden", "n_hidden_layers": "n_hidden_layers", "tied_weights": "tied"}
        if task == "tms"
        else {
            "d_embed": "d_embed",
            "d_mlp": "d_mlp",
            "n_layers": "n_layers",
            "act_fn_name": "activation",
            "in_bias": "in_bias",
            "out_bias": "out_bias",
        }
    )
    values |= {ours: model[theirs] for theirs, ours in names.items() if model.get(theirs) is not None}
    if task == "resid_mlp":
        coefficients = _coefficients(_label_file(file))
        if coefficients is not None:
            # The bare model configuration does not say; the public default.
            kind = training.get("label_type") or "act_plus_resid"
            values |= {"label": kind, "label_coefficients": coefficients}
    try:
        return read_config(values)
    except ValidationError as error:
        first = error.errors()[0]
        back = {ours: theirs for theirs, ours in names.items()}
        where = ".".join(str(back.get(str(part), part)) for part in first["loc"] if part != task)
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ImportRefusedError(
            f"{file} does not describe a {_WORDS[task]}: {where + ': ' if where else ''}{message}",
            "give the right configuration with --target",
        ) from error


def _label_file(training_config: Path) -> Path:
    return training_config.parent / "label_coeffs.json"


def _coefficients(file: Path) -> list[float] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ImportRefusedError(f"{file} cannot be read ({error})", "restore it, or remove it") from error
    if not isinstance(content, list) or not all(
        isinstance(c, (int, float)) for c in cast("list[Any]", content)
    ):
        raise ImportRefusedError(f"{file} is not a list of numbers", "restore it, or remove it")
    return cast("list[float]", content)


def _data(task: Task, training: dict[str, Any], found: PublishedRun) -> dict[str, Any] | None:
    """The inputs of the decomposition's training; None where the configuration does not say."""
    said = [found.read.raw.get(field) for field in _DATA_FIELDS]
    content = next((cast("dict[str, Any]", one) for one in said if isinstance(one, dict)), {})
    if content.get("feature_probability") is None:
        return None
    low, high = _RANGES[task]
    values = {
        "feature_probability": content["feature_probability"],
        "generation": content.get("data_generation_type") or "at_least_zero_active",
        "synced": training.get("synced_inputs") or (),
    }
    try:
        return ToyData.model_validate({**values, "low": low, "high": high}).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise ImportRefusedError(
            f"{found.config}: inputs: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
            "restore the configuration of the run",
        ) from error


def _checkpoint(task: Task, found: PublishedRun, training: Path) -> Checkpoint:
    """The checkpoint; where it holds learned weights only, with the target's own from beside it or
    from beside the target's configuration."""
    checkpoint = open_checkpoint(found.checkpoint)
    tie_components(checkpoint, found.read.settings.tied_weights)
    if checkpoint.target:
        return checkpoint
    for directory in (found.directory, training.parent):
        file = directory / f"{task}.pth"
        if file.is_file():
            return replace(checkpoint, target=state_dict(load_torch_file(file), file))
    raise ImportRefusedError(
        f"{found.checkpoint} holds learned weights only, and the target's are not beside it",
        f"copy {task}.pth into {found.directory}",
    )


def _expected(
    raw: Mapping[str, Any], source: ToySource, kept: Mapping[Address, DecomposedModule]
) -> tuple[tuple[ExpectedPattern, ...], set[str]]:
    """The known solution at each decomposed matrix, and the settings that it is from.

    The run's own evaluation says it (``IdentityCIError``); otherwise what the public runs of these
    models expect: one component for each feature where features are read or put out, and elsewhere
    as many as the vector between has dimensions.
    """
    metric = _identity_metric(raw)
    patterns: list[tuple[str, Pattern, int]] = []
    if metric is not None:
        kinds: tuple[tuple[str, Pattern, str], ...] = (
            ("identity_ci", "identity", "n_features"),
            ("dense_ci", "dense", "k"),
        )
        for field, pattern, size in kinds:
            for entry in metric[1].get(field) or ():
                if isinstance(entry, dict) and isinstance(cast("dict[str, Any]", entry).get(size), int):
                    said = cast("dict[str, Any]", entry)
                    patterns.append((str(said.get("layer_pattern")), pattern, said[size]))
    n = source.config.n_features
    if metric is None and isinstance(source.config, TmsConfig):
        patterns = [("linear*", "identity", n), ("hidden_layers.*", "dense", source.config.n_hidden)]
    elif metric is None and isinstance(source.config, ResidualMlpConfig):
        patterns = [("layers.*.mlp_in", "identity", n), ("layers.*.mlp_out", "dense", source.config.d_mlp)]
    found: list[ExpectedPattern] = []
    for address, module in kept.items():
        match = next((entry for entry in patterns if fnmatchcase(module.path, entry[0])), None)
        if match is None:
            continue
        _, pattern, k = match
        # More than there are components cannot be expected, nor features that there are not.
        if 1 <= k <= module.n_components and (pattern == "dense" or k == n):
            found.append(ExpectedPattern(address=str(address), pattern=pattern, k=k))
    return tuple(found), set() if metric is None else {metric[0]}


def _identity_metric(raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The settings of the public code's ``IdentityCIError``, and where they are."""
    evaluation = raw.get("eval")
    places = {
        "eval_metric_configs": raw.get("eval_metric_configs"),
        "eval_metrics": raw.get("eval_metrics"),
        "eval": cast("dict[str, Any]", evaluation).get("metrics") if isinstance(evaluation, dict) else None,
    }
    for field, entries in places.items():
        for entry in cast("list[Any]", entries) if isinstance(entries, list) else ():
            if not isinstance(entry, dict):
                continue
            values = cast("dict[str, Any]", entry)
            if "IdentityCIError" in (values.get("classname"), values.get("type")):
                extra = values.get("extra_init_kwargs")
                return field, {**values, **cast("dict[str, Any]", extra if isinstance(extra, dict) else {})}
    return None
