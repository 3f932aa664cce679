"""Lazy access to ``model.safetensors``: each tensor is a view of the mapped file, read when touched.

The safetensors layout is eight bytes of header length, a JSON header with type, shape and byte range
of every tensor, and the bytes. The reference reader copies a tensor on every access; queries use the
same few matrices again and again, hence views.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from storage.errors import StoreDamagedError

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_MAX_HEADER = 100_000_000


class ModelTensors(Mapping[str, np.ndarray]):
    """The tensors of a safetensors file by name, as read-only arrays backed by the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = path.stat().st_size
                if not 2 <= length <= min(_MAX_HEADER, size - 8):
                    raise StoreDamagedError(path, "is not a safetensors file")
                header: Any = json.loads(file.read(length))
        except FileNotFoundError:
            raise StoreDamagedError(path, "is missing") from None
        except (OSError, ValueError, RecursionError) as error:
            raise StoreDamagedError(path, f"the header cannot be read ({error})") from error
        self._views: dict[str, np.ndarray] = {}
        self._checked: set[str] = set()
        if not isinstance(header, dict):
            raise StoreDamagedError(path, "the header is not a table of tensors")
        cast("dict[str, Any]", header).pop("__metadata__", None)
        start = 8 + length
        self._entries: dict[str, tuple[str, tuple[int, ...], int]] = {}
        end = 0
        for name, entry in cast("dict[str, Any]", header).items():
            dtype, shape, begin, stop = self._entry(name, entry)
            if stop > size - start:
                raise StoreDamagedError(path, f"is truncated: {name} ends beyond the end of the file")
            self._entries[name] = (dtype, shape, start + begin)
            end = max(end, stop)
        if end != size - start:
            raise StoreDamagedError(path, f"holds {size - start - end} bytes that belong to no tensor")

    def _entry(self, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
        try:
            dtype = _TYPES[entry["dtype"]]
            shape = tuple(int(n) for n in entry["shape"])
            begin, stop = (int(n) for n in entry["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreDamagedError(
                self.path, f"the entry of {name[:80]} is malformed or of an unknown type"
            ) from error
        count = 1
        for n in shape:
            count *= n
        if min(shape, default=0) < 0 or begin < 0 or stop - begin != count * np.dtype(dtype).itemsize:
            raise StoreDamagedError(self.path, f"the shape of {name[:80]} does not match its bytes")
        return dtype, shape, begin, stop

    def __getitem__(self, name: str) -> np.ndarray:
        view = self._views.get(name)
        if view is None:
            if name not in self._entries:
                raise StoreDamagedError(self.path, f"has no tensor {name}")
            dtype, shape, offset = self._entries[name]
            view = (
                np.memmap(self.path, dtype, "r", offset, shape).view(np.ndarray)
                if all(shape)
                else np.empty(shape, dtype)
            )
            view.flags.writeable = False
            self._views[name] = view
        return view

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without touching its bytes; raises :class:`StoreDamagedError` if it is absent."""
        if name not in self._entries:
            raise StoreDamagedError(self.path, f"has no tensor {name}")
        return self._entries[name][1]

    def checked(self, name: str, crc32: int, *, again: bool = False) -> np.ndarray:
        """The tensor, after its bytes were compared with their checksum once, or ``again``."""
        view = self[name]
        if again or name not in self._checked:
            if checksum(view) != crc32:
                raise StoreDamagedError(
                    self.path, f"{name} is not the tensor that the attributions were made with"
                )
            self._checked.add(name)
        return view


def checksum(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes in C order, little-endian."""
    contiguous = np.ascontiguousarray(array)
    return zlib.crc32(contiguous.data.cast("B")) if contiguous.size else 0
