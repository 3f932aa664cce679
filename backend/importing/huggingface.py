"""Local Hugging Face model directories as targets, read with torch and safetensors alone.

No code of the directory is run and nothing is fetched. The library ``transformers`` is what the tests
compare with (tests/importing/test_huggingface.py); it is not needed here.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor

from backend.importing.errors import ImportRefusedError
from backend.importing.families import Parameter, TargetSource
from backend.importing.huggingface_config import hf_source
from backend.importing.weight_files import LazyTensors, state_dict
from compute.targets.config import TargetConfig
from compute.targets.export import import_target
from compute.targets.model import TargetModel


def is_hf_directory(directory: Path) -> bool:
    """Whether this looks like a directory that ``save_pretrained`` of ``transformers`` wrote."""
    try:
        content = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and ("architectures" in content or "model_type" in content)


def read_config_json(directory: Path) -> dict[str, Any]:
    """The content of ``config.json``; raises :class:`ImportRefusedError` where there is none."""
    path = directory / "config.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ImportRefusedError(
            f"{directory} has no config.json", "give the directory of a Hugging Face model"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ImportRefusedError(f"{path} cannot be read ({error})", "copy the model again") from error
    if not isinstance(content, dict):
        raise ImportRefusedError(f"{path} is not a table", "copy the model again")
    return cast("dict[str, Any]", content)


def read_hf_config(directory: Path) -> TargetConfig:
    """The shape of the model in a local directory."""
    return hf_source(read_config_json(directory)).config


def load_hf_target(directory: Path, context: int | None = None) -> tuple[TargetModel, TargetSource]:
    """The model of a local directory in float32, on the CPU.

    Tensors that the file has in float32 and in our order stay mapped from it: they take no memory of
    their own. ``context`` as in :func:`hf_source`; learned positions beyond it are left out.
    """
    source = hf_source(read_config_json(directory), context=context)
    state = state_dict(directory)
    prefix = next(iter(source.sites)).partition(".")[0] + "."
    if not any(name.startswith(prefix) for name in state):
        # As the base model writes it, without its head.
        state = {name if name == "lm_head.weight" else prefix + name: read for name, read in state.items()}
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in TargetModel(source.config).state_dict().items()}
    missing = sorted({parameter.name for parameter in source.tensors.values()} - set(state))
    used = {name for parameter in source.tensors.values() for name in (parameter.name, *parameter.copies)}
    surplus = [
        name
        for name in sorted(set(state) - used)
        if not any(fnmatchcase(name, pattern) for pattern in source.buffers)
    ]
    for problem, names in (("has no", missing), ("has tensors that do not belong to it:", surplus)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ImportRefusedError(
                f"the {source.class_name} in {directory} {problem} {', '.join(names[:3])}{more}",
                "its config.json and its tensors are not of the same model; copy it again",
            )
    tensors: dict[str, Tensor] = {}
    for ours, parameter in source.tensors.items():
        tensors[ours] = _tensor(state, parameter, shapes[ours.removeprefix("target.")])
    return import_target(source.config, tensors).eval(), source


def _tensor(state: LazyTensors, parameter: Parameter, shape: torch.Size) -> Tensor:
    value = state[parameter.name]()
    if not value.is_floating_point():
        raise ImportRefusedError(
            f"{parameter.name} holds {value.dtype}, not numbers with a fraction",
            "quantised weights cannot be read",
        )
    for copy in parameter.copies:
        if copy in state and not torch.equal(value, state[copy]()):
            raise ImportRefusedError(
                f"{copy} differs from {parameter.name}, but config.json says that they are one",
                "set tie_word_embeddings to false in config.json",
            )
    given = value.T if parameter.transpose and value.dim() == 2 else value
    if parameter.name.endswith("wpe.weight") and given.dim() == 2 and len(given) > shape[0]:
        given = given[: shape[0]]  # used with a shorter context
    if given.shape != shape:
        expected = list(reversed(shape)) if parameter.transpose else list(shape)
        raise ImportRefusedError(
            f"{parameter.name} has shape {list(value.shape)}, config.json says {expected}",
            "its config.json and its tensors are not of the same model; copy it again",
        )
    if parameter.rows is not None:
        given = given[list(parameter.rows)]
    return given.to(torch.float32).contiguous()


def load_hf_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """The ``tokenizer.json`` at ``path``, or in the directory ``path``."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise ImportRefusedError(
            f"there is no {file.name} at {file.parent}",
            "write one: AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)",
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ImportRefusedError(f"{file} is not a tokenizer ({error})", "copy it again") from error
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= vocab_size:
        raise ImportRefusedError(
            f"{file} has tokens up to number {largest:,}, but the model's vocabulary has {vocab_size:,}",
            "give the model's own tokenizer",
        )
    return tokenizer
