"""The tensors of a model directory: one file or the parts that an index names, read when touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from backend.importing.errors import ImportRefusedError

#: Names of tensors, each with what reads it.
LazyTensors = dict[str, Callable[[], Tensor]]


def state_dict(directory: Path) -> LazyTensors:
    """Names of all tensors in a model directory, each with what reads it."""
    found: LazyTensors = {}
    for file in weight_files(directory):
        try:
            if file.suffix == ".safetensors":
                opened = safe_open(file, framework="pt", device="cpu")
                for name in opened.keys():  # noqa: SIM118  (no mapping)
                    found[name] = partial(opened.get_tensor, name)
                continue
            loaded: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise ImportRefusedError(
                f"{file} cannot be read ({str(error)[:120]})", "copy it again"
            ) from error
        except Exception as error:  # what unpickling raises for anything but tensors
            raise ImportRefusedError(
                f"{file} holds more than tensors, or is damaged ({str(error)[:120]})",
                "save the model as model.safetensors",
            ) from error
        if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
            raise ImportRefusedError(
                f"{file} is not a table of tensors", "save the model as model.safetensors"
            )
        for name, value in loaded.items():
            found[str(name)] = partial(_same, value)
    return found


def weight_files(directory: Path) -> list[Path]:
    """The files that hold a model's tensors: one, or the parts that an index names."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (directory / name).is_file():
            return [directory / name]
        index = directory / f"{name}.index.json"
        if not index.is_file():
            continue
        try:
            parts = sorted({str(part) for part in json.loads(index.read_bytes())["weight_map"].values()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ImportRefusedError(f"{index} cannot be read ({error})", "copy it again") from error
        suffix = Path(name).suffix
        for part in parts:
            if part != Path(part).name or not part.endswith(suffix):
                raise ImportRefusedError(
                    f"{index} names {part[:80]!r}, which is no file beside it", "copy it again"
                )
            if not (directory / part).is_file():
                raise ImportRefusedError(f"{directory} has no {part}, which its index names", "copy it again")
        return [directory / part for part in parts]
    raise ImportRefusedError(
        f"{directory} has no model.safetensors and no pytorch_model.bin", "copy the whole model directory"
    )


def _same(value: Tensor) -> Tensor:
    return value
