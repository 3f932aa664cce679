"""Where the configuration of a run's target model is, its tokenizer, and its weights if the run has none.

A decomposition names its target by a class and by where it was trained or published. Classes come from
a list: nothing is imported by name. Of the target's own files only the configuration is needed, for the
checkpoint of a decomposition holds the target's weights too (the newest may hold learned weights only).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer
from torch import Tensor

from backend.importing.checkpoint import load_torch_file, state_dict
from backend.importing.errors import ImportRefusedError
from backend.importing.families import TargetSource
from backend.importing.huggingface import load_hf_tokenizer, read_config_json
from backend.importing.huggingface_config import hf_source
from backend.importing.options import ImportOptions
from backend.importing.settings import ReadSettings, Settings, read_yaml
from backend.importing.simple_families import SIMPLE_CLASSES, simple_source
from backend.importing.weight_files import state_dict as model_directory_tensors
from backend.importing.weight_files import weight_files

#: Hugging Face classes; the last says nothing, so that config.json decides.
HF_CLASSES = ("GPT2LMHeadModel", "LlamaForCausalLM", "Qwen2ForCausalLM")
_AUTO = "AutoModelForCausalLM"
TOY_CLASSES = ("TMSModel", "ResidMLP", "ResidualMLP", "ResidualMLPModel")

_CONFIG_NAMES = ("model_config.yaml", "model_config.yml", "final_config.yaml", "config.json")


@dataclass(frozen=True)
class FoundTarget:
    """A target's shape and names, and the directory that its configuration was found in (None: fetched)."""

    source: TargetSource
    directory: Path | None
    #: The configuration's file, as it is told in the report.
    where: str


def find_target(read: ReadSettings, run: Path, options: ImportOptions) -> FoundTarget:
    """The target that a run decomposes; raises :class:`ImportRefusedError` naming what is missing."""
    settings = read.settings
    name = settings.class_name
    if name in SIMPLE_CLASSES:
        return _simple(settings, run, options)
    if name in HF_CLASSES or name == _AUTO:
        return _hugging_face(settings, run, options)
    raise ImportRefusedError(
        f"the run decomposes a {settings.model_class!r}, which Tributary does not know; nothing is imported by name",
        f"it knows {', '.join((*SIMPLE_CLASSES, *HF_CLASSES, *TOY_CLASSES[:2]))}",
    )


def _places(settings: Settings, run: Path, options: ImportOptions) -> list[Path]:
    """Directories (and files) that may hold the target's configuration, the best first."""
    if options.target is not None:
        given = options.target.expanduser()
        if not given.exists():
            raise ImportRefusedError(
                f"there is nothing at {given}", "give an existing directory or file as --target"
            )
        return [given, *([given.parent, given.parent.parent] if given.is_file() else [])]
    places = [run, run / "target", run / "pretrain"]
    for named in (settings.model_path, settings.model_name):
        local = _local(named, run)
        if local is not None:
            # The public loader looks two levels above a checkpoint.
            places += [local.parent, local.parent.parent] if local.is_file() else [local]
    return places


def _local(named: str | None, run: Path) -> Path | None:
    """The local path that a setting names, if there is something."""
    if not named or named.startswith(("wandb:", "http:", "https:")):
        return None
    for path in (Path(named).expanduser(), run / named):
        try:
            if path.exists():
                return path
        except OSError:  # a name longer than file names can be
            return None
    return None


def _simple(settings: Settings, run: Path, options: ImportOptions) -> FoundTarget:
    name = settings.class_name
    assert name in SIMPLE_CLASSES
    for place in _places(settings, run, options):
        files = [place] if place.is_file() else [place / config for config in _CONFIG_NAMES]
        for file in files:
            if file.suffix not in (".yaml", ".yml", ".json") or not file.is_file():
                continue
            described = _model_settings(file)
            if described is not None:
                _refuse_fixed_norms(file.parent)
                return FoundTarget(simple_source(name, described), file.parent, str(file))
    trained = settings.model_path or settings.model_name
    published = _published_settings(settings, options)
    if published is not None:
        return FoundTarget(simple_source(name, published), None, f"config.json of {trained}, model hub")
    raise ImportRefusedError(
        f"the configuration of the target model ({name}{f', {trained}' if trained else ''}) is not there",
        f"copy its model_config.yaml into {run}, or give it with --target",
    )


def _published_settings(settings: Settings, options: ImportOptions) -> Mapping[str, Any] | None:
    """The configuration of published weights that were loaded into a class of the public code."""
    name = settings.model_name
    if name is None or name.count("/") != 1 or ":" in name:
        return None
    try:
        return _model_settings(fetch(name, "config.json", offline=options.offline))
    except ImportRefusedError:
        return None  # it is as if it were not there


def _model_settings(file: Path) -> Mapping[str, Any] | None:
    """The sizes of a model in a configuration, at its top or under ``model``; None where there are none."""
    content = read_yaml(file)  # YAML reads JSON too
    for candidate in (content, content.get("model"), content.get("model_config")):
        if isinstance(candidate, dict) and "n_embd" in candidate and "n_layer" in candidate:
            return cast("dict[str, Any]", candidate)
    return None


def _refuse_fixed_norms(directory: Path) -> None:
    if (directory / "ln-stds.json").exists():
        raise ImportRefusedError(
            f"the target divides by standard deviations fixed in {directory / 'ln-stds.json'}",
            "Tributary's LayerNorm computes them; such a model cannot be imported",
        )


def _hugging_face(settings: Settings, run: Path, options: ImportOptions) -> FoundTarget:
    for place in _places(settings, run, options):
        directory = place.parent if place.is_file() else place
        if (directory / "config.json").is_file():
            return _hf_found(settings, read_config_json(directory), directory, str(directory / "config.json"))
    name = settings.model_name or settings.model_path
    why = "the run does not name the model"
    if name:
        try:
            directory = fetch(name, "config.json", offline=options.offline).parent
        except ImportRefusedError as error:
            why = error.message
        else:
            return _hf_found(settings, read_config_json(directory), None, f"config.json of {name}, model hub")
    raise ImportRefusedError(
        f"the configuration of the target model ({settings.class_name}, {name}) is not there ({why})",
        f"copy the model's config.json into {run}, or give the model's directory with --target",
    )


def _hf_found(settings: Settings, config: dict[str, Any], directory: Path | None, where: str) -> FoundTarget:
    wanted = None if settings.class_name == _AUTO else settings.class_name
    named = config.get("architectures")
    if wanted is not None and isinstance(named, list) and named and wanted not in named:
        raise ImportRefusedError(
            f"the run decomposes a {wanted}, but {where} is of a {cast('list[Any]', named)[0]}",
            "give the right model with --target",
        )
    return FoundTarget(hf_source(config, wanted), directory, where)


def fetch(name: str, file: str, *, offline: bool) -> Path:
    """A file of a published model: from the cache of the model hub's client, else from the hub.

    Raises :class:`ImportRefusedError` where that fails, as without a network.
    """
    try:
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(name, file)
        if isinstance(cached, str):
            return Path(cached)
        if offline:
            raise ImportRefusedError("nothing is fetched, as --offline asks")
        _reach(constants.ENDPOINT)
        return Path(hf_hub_download(name, file, etag_timeout=10))
    except ImportRefusedError:
        raise
    except Exception as error:  # the library, its transport and its cache have errors of many kinds
        what = str(error).strip().partition(chr(10))[0][:160]
        raise ImportRefusedError(f"fetching {file} of {name} failed: {what}") from error


def _reach(address: str) -> None:
    """The client tries for half a minute where there is no network; say so at once."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    place = urlsplit(address)
    if getproxies() or place.hostname is None:
        return
    try:
        socket.create_connection((place.hostname, place.port or 443), timeout=5).close()
    except OSError as error:
        raise ImportRefusedError(f"the model hub ({place.hostname}) cannot be reached") from error


def find_tokenizer(
    settings: Settings, found: FoundTarget, run: Path, options: ImportOptions
) -> tuple[Tokenizer | None, str]:
    """The tokenizer, and where it came from; or None and why there is none.

    One that was asked for must be there: raises :class:`ImportRefusedError`.
    """
    vocab = found.source.config.vocab_size
    if options.tokenizer is not None:
        return load_hf_tokenizer(options.tokenizer.expanduser(), vocab), str(options.tokenizer)
    places = [run, *([found.directory] if found.directory is not None else [])]
    places += [place for place in _places(settings, run, options) if place.is_dir()]
    named = _local(settings.tokenizer_name, run)
    if named is not None:
        places.append(named if named.is_dir() else named.parent)
    for place in places:
        if (place / "tokenizer.json").is_file():
            return load_hf_tokenizer(place, vocab), str(place / "tokenizer.json")
    name = settings.tokenizer_name
    if not name:
        return None, "it is not beside the run, and the run does not name one"
    try:
        file = fetch(name, "tokenizer.json", offline=options.offline)
    except ImportRefusedError as error:
        return None, f"it is not beside the run, and {error.message}"
    return load_hf_tokenizer(file, vocab), f"{name}, model hub"


def find_weights(
    settings: Settings, found: FoundTarget, run: Path, options: ImportOptions
) -> dict[str, Tensor]:
    """The target's own weights, for checkpoints that hold learned weights only."""
    readers: tuple[Callable[[Path], dict[str, Tensor] | None], ...] = (
        _directory_weights,
        _checkpoint_weights,
    )
    for place in _places(settings, run, options):
        for reader in readers:
            tensors = reader(place)
            if tensors is not None:
                return tensors
    raise ImportRefusedError(
        f"the checkpoint holds learned weights only, and the weights of its target ({found.source.class_name}) "
        "are not there",
        "give the directory of the target model, with its weights, as --target",
    )


def _directory_weights(place: Path) -> dict[str, Tensor] | None:
    try:
        if not place.is_dir() or not weight_files(place):
            return None
    except ImportRefusedError:
        return None
    return {name: read() for name, read in model_directory_tensors(place).items()}


def _checkpoint_weights(place: Path) -> dict[str, Tensor] | None:
    """The last ``model_step_<n>.pt`` of a pretraining run."""
    files = (
        [place]
        if place.suffix == ".pt"
        else [*place.glob("model_step_*.pt"), *place.glob("*/model_step_*.pt")]
    )
    steps = [
        (int(file.stem.rpartition("_")[2]), file) for file in files if file.stem.rpartition("_")[2].isdigit()
    ]
    if not steps:
        return None
    file = max(steps)[1]
    return state_dict(load_torch_file(file), file)
