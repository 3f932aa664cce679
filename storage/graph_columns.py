"""Columns of numbers and texts as compressed pieces that know what they are.

An array is cut into pieces of at most ``CHUNK_BYTES``. The bytes of each are regrouped (all first bytes
of the numbers, then all second ones, ...), which makes sorted indices and floats of like size several
times more compressible, and deflated by zlib at its fastest level. A list is stored as one piece of JSON.
Each piece carries the kind of its numbers (``dtype``, little-endian, or ``json``), how many the whole
column has, its own number, and a CRC-32 over all of that and its content: a piece that was altered, cut,
swapped or lost is reported and never turned into a number.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from storage.files import canonical_json

CHUNK_BYTES = 4 << 20
#: Little-endian whatever the machine; one byte has no order.
DTYPES = ("<f4", "<f8", "<i2", "<i4", "<i8", "<u2", "<u4", "|i1", "|u1", "|b1")
_JSON = "json"


class ColumnError(ValueError):
    """A column that is not what was written; the message names it."""


@dataclass(frozen=True)
class Chunk:
    """One piece of a column: ``data`` is compressed, ``length`` counts the entries of the whole column."""

    name: str
    number: int
    dtype: str
    length: int
    crc: int
    data: bytes


def _seal(name: str, number: int, dtype: str, length: int, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(f"{name}\n{number}\n{dtype}\n{length}\n".encode()))


def _chunk(name: str, number: int, dtype: str, length: int, content: bytes) -> Chunk:
    sealed = _seal(name, number, dtype, length, content)
    return Chunk(name, number, dtype, length, sealed, zlib.compress(content, 1))


def _regrouped(values: np.ndarray) -> bytes:
    width = values.dtype.itemsize
    return np.ascontiguousarray(values.view(np.uint8).reshape(-1, width).T).tobytes()


def pack(name: str, values: np.ndarray | list[Any]) -> list[Chunk]:
    """A column as pieces, at least one. Raises ``ValueError`` for an array that is not one of ``DTYPES``."""
    if isinstance(values, list):
        return [_chunk(name, 0, _JSON, len(values), canonical_json(values))]
    dtype = values.dtype.newbyteorder("<").str
    if dtype not in DTYPES or values.ndim != 1:
        raise ValueError(f"column {name}: {values.dtype} of shape {list(values.shape)} cannot be stored")
    stored = np.ascontiguousarray(values, dtype=np.dtype(dtype))
    step = CHUNK_BYTES // stored.dtype.itemsize
    return [
        _chunk(name, number, dtype, len(stored), _regrouped(stored[start : start + step]))
        for number, start in enumerate(range(0, max(len(stored), 1), step))
    ]


def pack_all(columns: Mapping[str, np.ndarray | list[Any]]) -> list[Chunk]:
    return [chunk for name, values in columns.items() for chunk in pack(name, values)]


def _content(chunk: Chunk, at_most: int) -> bytes:
    """The bytes of a piece, checked; never more than ``at_most`` of them are made."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(chunk.data, at_most + 1)
    except zlib.error as error:
        raise ColumnError(f"column {chunk.name[:80]}: piece {chunk.number} is damaged ({error})") from None
    whole = inflater.eof and not inflater.unused_data
    if not whole or _seal(chunk.name, chunk.number, chunk.dtype, chunk.length, content) != chunk.crc:
        raise ColumnError(
            f"column {chunk.name[:80]}: piece {chunk.number} does not match its checksum or its description"
        )
    return content


def unpack(chunks: Sequence[Chunk]) -> np.ndarray | list[Any]:
    """The column that these pieces, in order, are; raises :class:`ColumnError`."""
    if not chunks:
        raise ColumnError("a column without pieces")
    first = chunks[0]
    if first.dtype == _JSON:
        return _unpack_list(chunks)
    if first.dtype not in DTYPES or not 0 <= first.length < 1 << 40:
        raise ColumnError(f"column {first.name[:80]}: its description is damaged")
    dtype = np.dtype(first.dtype)
    step = CHUNK_BYTES // dtype.itemsize
    if len(chunks) != max(-(-first.length // step), 1):
        raise ColumnError(f"column {first.name[:80]}: pieces are missing")
    values = np.empty(first.length, dtype=dtype)
    for number, chunk in enumerate(chunks):
        part = values[number * step : (number + 1) * step]
        content = _content(chunk, part.nbytes)
        described = (chunk.name, chunk.number, chunk.dtype, chunk.length)
        if described != (first.name, number, first.dtype, first.length) or len(content) != part.nbytes:
            raise ColumnError(f"column {first.name[:80]}: piece {number} is not the one that belongs there")
        planes = np.frombuffer(content, dtype=np.uint8).reshape(dtype.itemsize, len(part))
        part.view(np.uint8).reshape(len(part), dtype.itemsize)[...] = planes.T
    return values


def _unpack_list(chunks: Sequence[Chunk]) -> list[Any]:
    first = chunks[0]
    if len(chunks) != 1 or first.number != 0:
        raise ColumnError(f"column {first.name[:80]}: its pieces do not belong together")
    found: Any = json.loads(_content(first, 1 << 30))
    if not isinstance(found, list) or len(cast("list[Any]", found)) != first.length:
        raise ColumnError(f"column {first.name[:80]}: it is not the list that was written")
    return cast("list[Any]", found)


def unpack_all(chunks: Iterable[Chunk]) -> dict[str, np.ndarray | list[Any]]:
    """Columns by name, of pieces of which those of one column follow each other in order."""
    by_name: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_name.setdefault(chunk.name, []).append(chunk)
    return {name: unpack(pieces) for name, pieces in by_name.items()}


def sparse_columns(importance: Mapping[str, np.ndarray]) -> dict[str, np.ndarray | list[Any]]:
    """Causal importances [T, C] by site as columns of what is not zero, and the shapes to go back."""
    addresses, shapes, places, values = list(importance), [], [], []
    for site, dense in enumerate(importance.values()):
        positions, components = np.nonzero(dense)
        shapes.append([int(n) for n in dense.shape])
        places.append(np.stack([np.full(len(positions), site), positions, components]))
        values.append(np.asarray(dense[positions, components], dtype=np.float32))
    where = np.concatenate([np.empty((3, 0), dtype=np.int64), *places], axis=1)
    return {
        "addresses": addresses,
        "shapes": shapes,
        "site": where[0].astype(np.int16),
        "position": where[1].astype(np.int32),
        "index": where[2].astype(np.int32),
        "value": np.concatenate([np.empty(0, dtype=np.float32), *values]),
    }


def dense_arrays(columns: Mapping[str, np.ndarray | list[Any]]) -> dict[str, np.ndarray]:
    """What :func:`sparse_columns` was given, in float32."""
    site, position, index = (np.asarray(columns[name]) for name in ("site", "position", "index"))
    values = np.asarray(columns["value"], dtype=np.float32)
    dense: dict[str, np.ndarray] = {}
    for number, (address, shape) in enumerate(zip(columns["addresses"], columns["shapes"], strict=True)):
        here = site == number
        dense[address] = np.zeros(tuple(shape), dtype=np.float32)
        dense[address][position[here], index[here]] = values[here]
    return dense
