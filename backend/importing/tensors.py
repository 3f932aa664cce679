"""From a checkpoint's tensors to those of a run: every key accounted for, then converted one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor

from backend.importing.checkpoint import Checkpoint, dashed, require_fit
from backend.importing.errors import ImportRefusedError
from backend.importing.families import Parameter, Source
from backend.importing.importance import ImportanceSource
from backend.importing.sites import DecomposedModule

_TARGET, _COMPONENTS = "target_model.", "_components."
_PER_MODULE, _GLOBAL = "ci_fn._ci_fns.", "ci_fn._global_ci_fn."


def check_fit(
    checkpoint: Checkpoint,
    source: Source,
    modules: Sequence[DecomposedModule],
    importance: ImportanceSource,
) -> None:
    """Compare every key and shape with what the configuration says; nothing is read but the headers.

    Raises :class:`ImportRefusedError` naming what disagrees.
    """
    found = {f"{_TARGET}{name}": tensor for name, tensor in _parameters(checkpoint.target, source).items()}
    expected = {f"{_TARGET}{name}": shape for name, shape in _target_shapes(source).items()}
    for parameter in source.tensors.values():
        for copy in parameter.copies:
            if copy in checkpoint.target:
                expected[f"{_TARGET}{copy}"] = expected[f"{_TARGET}{parameter.name}"]
    spelled = {path: key for key, path in dashed(module.path for module in modules).items()}
    dropped = tuple(f"{spelled[module.path]}." for module in modules if module.address is None)
    for prefix, part in ((_COMPONENTS, checkpoint.components), (_PER_MODULE, checkpoint.importance)):
        found |= {f"{prefix}{name}": value for name, value in part.items() if not name.startswith(dropped)}
    found |= {f"{_GLOBAL}{name}": value for name, value in checkpoint.global_importance.items()}
    found |= checkpoint.other
    expected |= _component_shapes(source, modules, spelled, checkpoint)
    prefix = _GLOBAL if importance.is_global else _PER_MODULE
    expected |= {f"{prefix}{part.key}": part.shape for part in importance.parts}
    expected |= {f"{prefix}{key}": value.shape for key, value in importance.derived.items()}
    require_fit(str(checkpoint.path), found, expected)
    _check_values(checkpoint, source, modules, importance, spelled)


def _parameters(state: Mapping[str, Tensor], source: Source) -> dict[str, Tensor]:
    """Without masks and tables, which old checkpoints carry. A bias that the model has is no mask."""
    known = {parameter.name for parameter in source.tensors.values()}
    return {
        name: value
        for name, value in state.items()
        if name in known or not any(fnmatchcase(name, pattern) for pattern in source.buffers)
    }


def _target_shapes(source: Source) -> dict[str, tuple[int, ...]]:
    ours = source.shapes()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in source.tensors.items():
        shape = ours[name]
        shapes[parameter.name] = shape[::-1] if parameter.transpose else shape
    return shapes


def _component_shapes(
    source: Source,
    modules: Sequence[DecomposedModule],
    spelled: Mapping[str, str],
    checkpoint: Checkpoint,
) -> dict[str, tuple[int, ...]]:
    matrices = source.matrices
    shapes: dict[str, tuple[int, ...]] = {}
    for module in modules:
        if module.address is None:
            continue
        site, key = matrices[module.address], spelled[module.path]
        shapes[f"{_COMPONENTS}{key}.V"] = (site.d_in, module.n_components)
        shapes[f"{_COMPONENTS}{key}.U"] = (module.n_components, site.d_out)
        # The oldest checkpoints do not repeat the target's bias.
        if site.has_bias and f"{key}.bias" in checkpoint.components:
            shapes[f"{_COMPONENTS}{key}.bias"] = (site.d_out,)
    return shapes


def _check_values(
    checkpoint: Checkpoint,
    source: Source,
    modules: Sequence[DecomposedModule],
    importance: ImportanceSource,
    spelled: Mapping[str, str],
) -> None:
    """What is stored twice must be equal: tied weights, biases, and what follows from the configuration."""
    state = checkpoint.target
    for parameter in source.tensors.values():
        for copy in parameter.copies:
            if copy in state and not torch.equal(state[copy], state[parameter.name]):
                raise ImportRefusedError(
                    f"{checkpoint.path}: {copy} differs from {parameter.name}, but a {source.class_name} has one "
                    "matrix for both",
                    "save the checkpoint with both equal",
                )
    for module in modules:
        bias = checkpoint.components.get(f"{spelled[module.path]}.bias")
        if module.address is None or bias is None:
            continue
        theirs = state[f"{module.path}.bias"]
        if not torch.allclose(bias.float(), theirs.float(), rtol=0, atol=1e-6):
            raise ImportRefusedError(
                f"{checkpoint.path}: the bias of the components of {module.path} is not the target's; their largest "
                f"difference is {(bias.float() - theirs.float()).abs().max().item():.3g}",
                "the public code copies it and never trains it; restore the checkpoint",
            )
    for key, value in importance.derived.items():
        stored = checkpoint.global_importance[key].float()
        if not torch.allclose(stored, value.values(), rtol=1e-3, atol=1e-6):
            raise ImportRefusedError(
                f"{checkpoint.path}: {key} does not follow from the configuration (rope_base)",
                "give the configuration that the checkpoint was trained with",
            )


def converted_tensors(
    checkpoint: Checkpoint,
    source: Source,
    modules: Sequence[DecomposedModule],
    importance: ImportanceSource,
) -> tuple[dict[str, np.ndarray], set[str]]:
    """The tensors of ``model.safetensors``, and the number types other than float32 that they had.

    Raises :class:`ImportRefusedError` for a tensor that holds something else than finite numbers.
    """
    arrays: dict[str, np.ndarray] = {}
    kinds: set[str] = set()
    for name, tensor, parameter in _all(checkpoint, source, modules, importance):
        if not tensor.is_floating_point():
            raise ImportRefusedError(f"{checkpoint.path}: {parameter.name} holds {tensor.dtype}")
        if tensor.dtype != torch.float32:
            kinds.add(str(tensor.dtype).removeprefix("torch."))
        value = tensor.float()
        if not bool(torch.isfinite(value).all()):
            raise ImportRefusedError(
                f"{checkpoint.path}: {parameter.name} holds values that are not finite",
                "take an earlier checkpoint",
            )
        value = value.T if parameter.transpose else value
        if parameter.rows is not None:
            value = value[torch.tensor(parameter.rows)]
        arrays[name] = value.numpy()
    for name, (width, value) in importance.constants.items():
        arrays[name] = np.full(width, value, dtype=np.float32)
    return arrays, kinds


def _all(
    checkpoint: Checkpoint,
    source: Source,
    modules: Sequence[DecomposedModule],
    importance: ImportanceSource,
) -> Iterator[tuple[str, Tensor, Parameter]]:
    """Our name, the stored tensor and how to take it, of everything that a run stores."""
    for name, parameter in source.tensors.items():
        yield name, checkpoint.target[parameter.name], parameter
    for module in modules:
        if module.address is None:
            continue
        key = module.path.replace(".", "-")
        V, U = checkpoint.components[f"{key}.V"], checkpoint.components[f"{key}.U"]
        yield f"components.{module.address}.V", V, Parameter(f"_components.{key}.V")
        rows = source.rows_of(module.address)
        yield (
            f"components.{module.address}.U",
            U if rows is None else U[:, torch.tensor(rows)],
            Parameter(f"_components.{key}.U"),
        )
    stored = checkpoint.global_importance if importance.is_global else checkpoint.importance
    for part in importance.parts:
        yield part.ours, stored[part.key], Parameter(part.key)
