"""Checkpoints of the public training code: read without running anything in them, and taken apart.

A checkpoint is a bare state dict: the whole target under ``target_model.``, components under
``_components.<module path with - for .>.``, and causal-importance functions under ``ci_fn.``. Old
checkpoints spell these in other ways, which are brought to the newest spelling first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from backend.importing.errors import ImportRefusedError

#: At most so many differences are named.
_NAMED = 10


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint; tensors are mapped from the file and not read before they are used."""

    path: Path
    #: By the parameter's name in the target model; empty where the checkpoint holds learned weights only.
    target: dict[str, Tensor]
    #: ``<module path with - for .>.V``, ``….U``, ``….bias``.
    components: dict[str, Tensor]
    #: ``<module path with - for .>.layers.<i>.W`` …, of importance functions that see one module.
    importance: dict[str, Tensor]
    #: Of the one importance function that sees all modules.
    global_importance: dict[str, Tensor]
    #: Everything else.
    other: dict[str, Tensor]


def load_torch_file(path: Path) -> Any:
    """What a file written by ``torch.save`` holds, tensors and plain values only.

    Raises :class:`ImportRefusedError` for anything else; nothing in the file is ever run.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError as error:
        raise ImportRefusedError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:
        raise ImportRefusedError(
            f"{path} is damaged, or holds more than tensors and plain values ({str(error).strip().partition(chr(10))[0][:120]})",
            "Tributary runs no code from files; save the bare state dict with torch.save",
        ) from error


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Tensors by name; raises :class:`ImportRefusedError` where ``content`` is anything else."""
    if not isinstance(content, dict) or not content:
        raise ImportRefusedError(f"{path} is not a state dict", "give the directory of a decomposition")
    for name, value in cast("dict[Any, Any]", content).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ImportRefusedError(
                f"{path} is not a state dict: {str(name)[:60]} is no tensor", "save the bare state dict"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise ImportRefusedError(
                f"{path}: {name} is stored sparse, quantised or complex", "save it as plain numbers"
            )
    return cast("dict[str, Tensor]", content)


def is_decomposition(content: Any) -> bool:
    """Whether a file's content looks like the state dict of a decomposed model, of any age."""
    if not isinstance(content, dict):
        return False
    names = [name for name in cast("dict[Any, Any]", content) if isinstance(name, str)]
    return any(name.startswith("_components.") or ".components." in name for name in names)


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and take it apart; raises :class:`ImportRefusedError`."""
    return take_apart(state_dict(load_torch_file(path), path), path)


def take_apart(tensors: Mapping[str, Tensor], path: Path) -> Checkpoint:
    """The parts of a state dict, by their newest names without prefixes."""
    parts = Checkpoint(path, {}, {}, {}, {}, {})
    for old, tensor in tensors.items():
        name = newest_name(old)
        for prefix, part in (
            ("target_model.", parts.target),
            ("_components.", parts.components),
            ("ci_fn._ci_fns.", parts.importance),
            ("ci_fn._global_ci_fn.", parts.global_importance),
            ("", parts.other),
        ):
            if name.startswith(prefix):
                key = name.removeprefix(prefix)
                if key in part:
                    raise ImportRefusedError(f"{path} holds {name} twice, once under its old name {old}")
                part[key] = tensor
                break
    return parts


def tie_components(checkpoint: Checkpoint, pairs: Iterable[tuple[str, str]]) -> None:
    """Make the second of each pair of modules the transpose of the first, as the public loader does.

    ``tied_weights`` of the configuration; the checkpoint's own values of the second do not count.
    """
    components = checkpoint.components
    for first, second in pairs:
        keys = [f"{path.replace('.', '-')}.{letter}" for path in (first, second) for letter in "VU"]
        missing = [key for key in keys if key not in components]
        if missing:
            raise ImportRefusedError(
                f"tied_weights ties {first} and {second}, but the checkpoint has no _components.{missing[0]}",
                "give the configuration that the checkpoint was trained with",
            )
        components[keys[2]], components[keys[3]] = components[keys[1]].T, components[keys[0]].T


def newest_name(name: str) -> str:
    """A key of an old checkpoint in today's spelling."""
    if name.startswith("patched_model."):
        name = "target_model." + name.removeprefix("patched_model.")
    if name.startswith("target_model.") and ".components." in name:
        module, _, letter = name.removeprefix("target_model.").partition(".components.")
        return f"_components.{module.replace('.', '-')}.{letter}"
    if name.startswith("target_model."):
        return name.replace(".original.", ".")
    if name.startswith("_gates."):
        name = "_ci_fns." + name.removeprefix("_gates.")
    return f"ci_fn.{name}" if name.startswith(("_ci_fns.", "_global_ci_fn.")) else name


def dashed(modules: Iterable[str]) -> dict[str, str]:
    """How checkpoints spell module paths (``-`` for ``.``) → the paths; raises where two look the same."""
    found: dict[str, str] = {}
    for module in modules:
        spelled = module.replace(".", "-")
        if spelled in found:
            raise ImportRefusedError(
                f"the checkpoint cannot tell {found[spelled]} from {module}: both are spelled {spelled}"
            )
        found[spelled] = module
    return found


def require_fit(what: str, found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise :class:`ImportRefusedError` naming the keys and shapes on which the two disagree."""
    problems = [
        f"{name} is {list(found[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    problems += [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} does not belong there" for name in found if name not in expected]
    if problems:
        raise ImportRefusedError(
            f"{what} does not fit its configuration: {_first(problems)}",
            "give the configuration that the checkpoint was trained with",
        )


def _first(problems: list[str]) -> str:
    rest = len(problems) - _NAMED
    return ", ".join(problems[:_NAMED]) + (f", and {rest:,} more" if rest > 0 else "")
