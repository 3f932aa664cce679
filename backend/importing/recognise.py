"""What a path holds: a decomposition of one of the published layouts, published attributions, or neither.

Contents decide, names only order the candidates: a configuration is known by its settings, a
checkpoint and an attribution file by their keys.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backend.importing.checkpoint import is_decomposition, load_torch_file
from backend.importing.errors import ImportRefusedError
from backend.importing.huggingface import is_hf_directory
from backend.importing.settings import ReadSettings, layout_of, read_settings, read_yaml

#: File names that the public code has given to configurations, the newest first.
_CONFIGS = ("run_meta.yaml", "experiment_config.yaml", "final_config.yaml")
_ATTRIBUTION_KEYS = ({"regular_attr", "embed_attr"}, {"source_to_component", "component_layer_keys"})
_TORCH_FILES = (".pth", ".pt")
_STEP = re.compile(r"(?:^|_)(\d+)$")


@dataclass(frozen=True)
class PublishedRun:
    """A directory with a configuration and the checkpoint to read."""

    directory: Path
    config: Path
    read: ReadSettings
    checkpoint: Path
    #: From the checkpoint's name; None where it has none.
    step: int | None


@dataclass(frozen=True)
class PublishedAttributions:
    """A file of dataset attributions."""

    path: Path


def recognise(path: Path, step: int | None = None) -> PublishedRun | PublishedAttributions:
    """What is at ``path``; ``step`` chooses among several checkpoints.

    Raises :class:`ImportRefusedError` that says what was found instead and what to do about it.
    """
    if not path.exists():
        raise ImportRefusedError(f"there is nothing at {path}", "give a directory that the public code wrote")
    if path.is_dir():
        return _directory(path, step)
    if path.suffix in (".yaml", ".yml"):
        return _run(path.parent, path, _checkpoint(path.parent, step))
    content = load_torch_file(path)
    if _is_attributions(content):
        return PublishedAttributions(path)
    if not is_decomposition(content):
        raise ImportRefusedError(
            f"{path} holds neither a decomposition nor dataset attributions",
            "give the directory of a decomposition run, or a file of dataset attributions",
        )
    if step is not None:
        raise ImportRefusedError("--step chooses among the checkpoints of a directory", "leave it out")
    return _run(path.parent, _config(path.parent), path)


def _is_attributions(content: Any) -> bool:
    return isinstance(content, dict) and any(
        keys <= set(cast("dict[Any, Any]", content)) for keys in _ATTRIBUTION_KEYS
    )


def _directory(path: Path, step: int | None) -> PublishedRun | PublishedAttributions:
    _refuse_our_own(path)
    torch_files = _torch_files(path)
    steps = [entry for entry in path.glob("ckpts/*") if entry.is_dir()]
    if steps and not any(file.suffix == ".pth" for file in torch_files):
        raise ImportRefusedError(
            f"{path} is a run of the JAX code: its checkpoints (ckpts/{steps[0].name}/…) are orbax trees, "
            "which need JAX to be read",
            "load it with the public code and save the torch state dict as model_<step>.pth beside a "
            "final_config.yaml, as docs/bring-your-own-run.md describes",
        )
    config = _config(path, required=False)
    if config is not None:
        return _run(path, config, _checkpoint(path, step))
    attributions = [file for file in torch_files if _is_attributions(load_torch_file(file))]
    if len(attributions) == 1:
        return PublishedAttributions(attributions[0])
    if attributions:
        raise ImportRefusedError(
            f"{path} holds {len(attributions)} files of dataset attributions",
            f"name one of them: {', '.join(file.name for file in attributions[:5])}",
        )
    raise _unknown(path, torch_files)


def _refuse_our_own(path: Path) -> None:
    try:
        described: Any = json.loads((path / "run.json").read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(described, dict) and cast("dict[str, Any]", described).get("format") == "tributary-run":
        raise ImportRefusedError(f"{path} is a run of Tributary's already", f"run: tributary serve {path}")


def _unknown(path: Path, torch_files: list[Path]) -> ImportRefusedError:
    if is_hf_directory(path):
        return ImportRefusedError(
            f"{path} is a model, not a decomposition of one",
            "decompose it with tributary decompose, giving this directory as its target",
        )
    if (path / "model_config.yaml").is_file():
        return ImportRefusedError(
            f"{path} is the training run of a target model, not a decomposition of it",
            "give the decomposition's directory, and this one as --target",
        )
    below = [
        child.name for child in sorted(path.iterdir()) if child.is_dir() and _config(child, required=False)
    ]
    if below:
        return ImportRefusedError(
            f"{path} holds several things", f"name one of the runs in it: {', '.join(below[:5])}"
        )
    if torch_files:
        return ImportRefusedError(
            f"{path} has {torch_files[0].name} but no configuration of a decomposition",
            f"put the run's {' or '.join(_CONFIGS)} beside it",
        )
    return ImportRefusedError(
        f"{path} is nothing that Tributary knows",
        "give a run directory with final_config.yaml or run_meta.yaml and model_<step>.pth",
    )


def _config(directory: Path, *, required: bool = True) -> Path | None:
    """The file whose settings describe a decomposition."""
    named = [directory / name for name in _CONFIGS]
    others = sorted(file for file in directory.glob("*.y*ml") if file not in named)
    wrong: ImportRefusedError | None = None
    for file in (*named, *others):
        if not file.is_file():
            continue
        try:
            if layout_of(read_yaml(file)) is not None:
                return file
        except ImportRefusedError as error:
            wrong = wrong or (error if file in named else None)
    if wrong is not None:
        raise wrong
    if required:
        raise ImportRefusedError(
            f"there is no configuration of a decomposition beside the checkpoint, in {directory}",
            f"put the run's {' or '.join(_CONFIGS)} there",
        )
    return None


def _torch_files(directory: Path) -> list[Path]:
    return sorted(file for file in directory.iterdir() if file.suffix in _TORCH_FILES and file.is_file())


def step_of(file: Path) -> int | None:
    """The step in a checkpoint's name, the number at its end."""
    found = _STEP.search(file.stem)
    return None if found is None else int(found[1])


def _checkpoint(directory: Path, step: int | None) -> Path:
    files = _torch_files(directory)
    if not files:
        raise ImportRefusedError(
            f"{directory} has no checkpoint",
            "copy the run's model_<step>.pth there (it is not in every download)",
        )
    named = [file for file in files if file.stem == "model" or file.stem.startswith("model_")]
    candidates = named or [file for file in files if is_decomposition(load_torch_file(file))]
    if not candidates:
        raise ImportRefusedError(
            f"no file in {directory} is the checkpoint of a decomposition ({', '.join(f.name for f in files[:5])})",
            "copy the run's model_<step>.pth there",
        )
    if step is None:
        return max(candidates, key=lambda file: -1 if (at := step_of(file)) is None else at)
    for file in candidates:
        if step_of(file) == step:
            return file
    steps = sorted(at for file in candidates if (at := step_of(file)) is not None)
    raise ImportRefusedError(
        f"{directory} has no checkpoint of step {step:,}",
        f"there are {', '.join(f'{at:,}' for at in steps)}" if steps else "leave out --step",
    )


def _run(directory: Path, config: Path | None, checkpoint: Path) -> PublishedRun:
    assert config is not None
    return PublishedRun(
        directory, config, read_settings(read_yaml(config), config), checkpoint, step_of(checkpoint)
    )
