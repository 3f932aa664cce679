"""Reading and writing the manifest of an attribution store; its own checksum included."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import ValidationError

from storage.errors import StoreDamagedError
from storage.files import canonical_json, write_durably
from storage.layout import FORMAT, VERSION, Manifest, Settings, TensorCheck
from storage.model_tensors import ModelTensors, checksum

MANIFEST = "manifest.json"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    content = manifest.model_dump(mode="json")
    content["sha256"] = hashlib.sha256(canonical_json(content)).hexdigest()
    write_durably(folder / MANIFEST, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Raises :class:`StoreDamagedError` for a manifest that is missing, edited or of another format."""
    file = folder / MANIFEST
    try:
        parsed: Any = json.loads(file.read_bytes())
        if not isinstance(parsed, dict):
            raise StoreDamagedError(file, "is not a manifest")
        content = cast("dict[str, Any]", parsed)
        expected = content.pop("sha256", None)
        actual = hashlib.sha256(canonical_json(content)).hexdigest()
    except FileNotFoundError:
        raise StoreDamagedError(file, "is missing") from None
    except OSError as error:
        raise StoreDamagedError(file, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise StoreDamagedError(file, f"is not JSON ({error})") from error
    if actual != expected:
        raise StoreDamagedError(file, "was altered: it does not match its own checksum")
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise StoreDamagedError(file, f"is not an attribution manifest of version {VERSION}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise StoreDamagedError(file, f"is malformed: {error.errors()[0]['msg']}") from error


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
    """That arrays fit the settings; raises ``ValueError``: it is the caller's mistake, not a user's."""
    for point in settings.layouts:
        name = f"signed/{point.name}"
        if shapes.get(name) != (point.n_rows, point.d_in):
            raise ValueError(f"{name} should be {[point.n_rows, point.d_in]}, is {shapes.get(name)}")
        for reader in point.readers:
            array = shapes.get(f"abs/{reader}")
            if array is not None and array[1] != point.n_rows:
                raise ValueError(f"abs/{reader} has {array[1]} columns for {point.n_rows} sources")
    for name in ("tokens", "token_count", "logit_square_sum"):
        if name not in shapes:
            raise ValueError(f"the sums have no {name}")


def stored_arrays(arrays: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Sums as they are stored: statistics in float64, matrices in float32, on the CPU."""
    stored: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        stored[name] = array.astype(np.float64 if array.ndim <= 1 else np.float32, copy=False)
    return stored
