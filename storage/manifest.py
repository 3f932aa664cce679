"""Reading and writing the manifest of an attribution store; its own checksum included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from storage.errors import StoreDamagedError
from storage.files import read_signed_json, write_signed_json
from storage.layout import (
    ABS_PART,
    FORMAT,
    VERSION,
    Manifest,
    Settings,
    TensorCheck,
    has_frozen,
    plan_arrays,
    plan_compact,
    site_sizes,
)
from storage.model_tensors import ModelTensors, checksum

MANIFEST = "manifest.json"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_signed_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """Raises :class:`StoreDamagedError` for a manifest that is missing, edited or of another format."""
    file = folder / MANIFEST
    content = read_signed_json(file)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise StoreDamagedError(file, f"is not an attribution manifest of version {VERSION}")
    try:
        manifest = Manifest.model_validate(content)
        if manifest.encoding == "compact":
            plan = plan_compact({a.name: (a.shape, a.dtype) for a in manifest.arrays})
        else:
            shapes = {a.name: (a.shape[1:] if a.dtype == "<f8" else a.shape) for a in manifest.arrays}
            check_shapes(manifest.settings, shapes)
            plan = plan_arrays(shapes, manifest.settings.n_groups)
        if plan != (manifest.arrays, manifest.sizes):
            raise ValueError("its blocks do not lie where they should")
    except ValidationError as error:
        raise StoreDamagedError(file, f"is malformed: {error.errors()[0]['msg']}") from error
    except (ValueError, KeyError) as error:  # an address of no known kind, an array of another shape
        raise StoreDamagedError(file, f"is malformed: {error}") from error
    return manifest


def check_tensors(tensors: ModelTensors) -> dict[str, TensorCheck]:
    """Checksums of all tensors that queries multiply with: the target's and the components'."""
    return {
        name: TensorCheck(shape=tensors.shape(name), crc32=checksum(tensors[name]))
        for name in sorted(tensors)
        if name.startswith(("target.", "components."))
    }


def differences(a: Settings, b: Settings) -> list[str]:
    """Names of the settings that differ, for messages."""
    names = [
        name for name in Settings.model_fields if name != "options" and getattr(a, name) != getattr(b, name)
    ]
    options = a.options.keys() | b.options.keys()
    return names + sorted(name for name in options if a.options.get(name) != b.options.get(name))


def check_shapes(settings: Settings, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """That every array which the settings call for is there and has its shape; raises ``ValueError``."""
    sizes = site_sizes(settings)
    expected: dict[str, tuple[int, ...]] = {}
    parts = ("", ABS_PART) if f"{ABS_PART}tokens" in shapes else ("",)
    for prefix in parts:
        expected[f"{prefix}tokens"] = (1,)
        if settings.normalisation == "tokens":
            continue
        expected |= {
            f"{prefix}token_count": (sizes["output"],),
            f"{prefix}logit_square_sum": (sizes["output"],),
        }
        for address, count in sizes.items():
            if address != "output":
                expected[f"{prefix}ci_sum/{address}"] = (count,)
                expected[f"{prefix}activation_square_sum/{address}"] = (count,)
        if "abs/output" in shapes:
            expected[f"{prefix}centred_logit_square_sum"] = (sizes["output"],)
    for point in settings.layouts:
        for reader in point.readers:
            if settings.edgewise(reader):
                expected[f"edges/{reader}"] = (sizes[reader], point.n_rows)
            else:
                expected[f"signed/{point.name}"] = (point.n_rows, point.d_in)
        if point.operation == "norm" and has_frozen(settings):
            expected[f"frozen_weight/{point.name}"] = (point.n_rows,)
            deltas = sum(block.kind == "delta" for block in point.blocks)
            if deltas:
                expected[f"frozen_delta/{point.name}"] = (deltas, point.d_in)
        for block in point.blocks:
            if block.kind == "position":
                expected |= {f"{prefix}position_count": (block.count,) for prefix in parts}
        for reader in point.readers:
            chosen = settings.abs_targets.get(reader)
            rows = sizes[reader] if chosen is None else len(chosen)
            if "attr_abs" in settings.metrics and (reader != "output" or f"abs/{reader}" in shapes):
                expected[f"abs/{reader}"] = (rows, point.n_rows)
            if chosen is not None and (
                len(set(chosen)) != rows or not all(0 <= i < sizes[reader] for i in chosen)
            ):
                raise ValueError(
                    f"the attr_abs targets of {reader} are not distinct indices below {sizes[reader]}"
                )
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            raise ValueError(f"{name} should have shape {list(shape)}, has {shapes.get(name)}")


def stored_arrays(arrays: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Sums as they are stored: statistics in float64, matrices in float32, on the CPU."""
    stored: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        stored[name] = array.astype(np.float64 if array.ndim <= 1 else np.float32, copy=False)
    return stored
