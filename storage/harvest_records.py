"""The records of a harvest: what it knows of one component, packed into a few checked bytes.

A component has one record in each of :data:`SECTIONS`. A record is a zlib stream of columns; a column
is a byte that says how its numbers are stored, their number as four bytes, and their bytes, the first
byte of all numbers first, which packs better. Whole numbers take as few bytes as the largest needs.

Two encodings: ``exact`` keeps every bit and whatever merging needs; ``compact`` keeps activations as
thousandths of the largest one in its record, causal importances as thousandths of 1, none above 0
becoming 0, and output masses with twelve significant bits. None is off by more than 1e-3.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

Section = Literal["histogram", "random", "strongest", "input", "output", "cofiring"]
SECTIONS: Final[tuple[Section, ...]] = ("histogram", "random", "strongest", "input", "output", "cofiring")
Encoding = Literal["exact", "compact"]
#: Steps of a compact activation, and of a compact causal importance.
STEPS: Final = 1000
_MANTISSA_DROPPED: Final = 12
#: Far above any real record; a damaged length must not exhaust the memory.
_LARGEST: Final = 1 << 31
#: What can stand in a column: by the byte that says so.
_TYPES: Final = {
    0: np.dtype("<u1"),
    1: np.dtype("<u2"),
    2: np.dtype("<u4"),
    3: np.dtype("<u8"),
    4: np.dtype("<i1"),
    5: np.dtype("<i2"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    8: np.dtype("<f4"),
}
_CODES: Final = {dtype: code for code, dtype in _TYPES.items()}


class RecordError(ValueError):
    """Bytes that are no record."""


def pack(columns: list[np.ndarray], level: int) -> bytes:
    parts: list[bytes] = []
    for column in columns:
        values = _narrow(column.reshape(-1))
        parts.append(bytes([_CODES[values.dtype]]) + len(values).to_bytes(4, "little"))
        parts.append(values.view(np.uint8).reshape(-1, values.dtype.itemsize).T.tobytes())
    return zlib.compress(b"".join(parts), level)


def _narrow(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.ascontiguousarray(values, dtype="<f4")
    low = int(values.min(initial=0))
    high = int(values.max(initial=0))
    kind = "u" if low >= 0 else "i"
    for width in (1, 2, 4):
        info = np.iinfo(f"{kind}{width}")
        if info.min <= low and high <= info.max:
            return np.ascontiguousarray(values, dtype=f"<{kind}{width}")
    return np.ascontiguousarray(values, dtype=f"<{kind}8")


def unpack(data: bytes) -> list[np.ndarray]:
    """The columns of a record; raises :class:`RecordError`."""
    try:
        content = zlib.decompressobj().decompress(data, _LARGEST)
    except zlib.error as error:
        raise RecordError(f"a record cannot be unpacked ({error})") from error
    columns: list[np.ndarray] = []
    at = 0
    while at < len(content):
        dtype = _TYPES.get(content[at])
        count = int.from_bytes(content[at + 1 : at + 5], "little")
        at += 5
        if dtype is None or at + count * dtype.itemsize > len(content):
            raise RecordError("a record is malformed")
        raw = np.frombuffer(content, np.uint8, count * dtype.itemsize, at)
        columns.append(np.ascontiguousarray(raw.reshape(dtype.itemsize, count).T).view(dtype).reshape(-1))
        at += count * dtype.itemsize
    return columns


# ---- lists: ids and a whole number for each, by id ------------------------------------------------


def pack_list(ids: np.ndarray, values: np.ndarray, encoding: Encoding, *, rounded: bool = False) -> bytes:
    """``rounded``: values are measures, which the compact encoding may round."""
    steps = np.diff(ids.astype(np.int64), prepend=0)
    if encoding == "exact":
        return pack([steps, values], 1)
    if not rounded:
        return pack([steps, values], 9)
    bits = values.astype("<f4").view("<u4").astype(np.int64) + (1 << (_MANTISSA_DROPPED - 1))
    return pack([steps, (bits >> _MANTISSA_DROPPED)], 9)


def unpack_list(data: bytes, encoding: Encoding, *, rounded: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Ids int64, values int64 (float64 if they were rounded)."""
    columns = unpack(data)
    if len(columns) != 2 or len(columns[0]) != len(columns[1]):
        raise RecordError("a list is malformed")
    ids = np.cumsum(columns[0].astype(np.int64))
    if encoding == "compact" and rounded:
        bits = (columns[1].astype(np.uint64) << np.uint64(_MANTISSA_DROPPED)).astype("<u4")
        return ids, np.rint(bits.view("<f4").astype(np.float64)).astype(np.int64)
    return ids, columns[1].astype(np.int64)


# ---- histograms ----------------------------------------------------------------------------------


def pack_histogram(exponent: int, counts: np.ndarray, encoding: Encoding) -> bytes:
    """Counts [bins] of values v by floor(v / 2^exponent) + bins / 2; outer zeros are not stored."""
    filled = np.flatnonzero(counts)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
    return pack(
        [np.array([exponent]), np.array([first]), counts[first:last]], 1 if encoding == "exact" else 9
    )


def unpack_histogram(data: bytes, bins: int) -> tuple[int, np.ndarray]:
    columns = unpack(data)
    if [len(c) for c in columns[:2]] != [1, 1] or len(columns) != 3:
        raise RecordError("a histogram is malformed")
    first = int(columns[1][0])
    if first + len(columns[2]) > bins:
        raise RecordError("a histogram has more bins than there are")
    counts = np.zeros(bins, np.int64)
    counts[first : first + len(columns[2])] = columns[2]
    return int(columns[0][0]), counts


# ---- examples ------------------------------------------------------------------------------------

#: Columns of examples: name → shape after the first axis is [L] for the last two, [] otherwise.
EXAMPLE_COLUMNS: Final = ("key", "position", "document", "before", "after", "ci", "activation")


def pack_examples(examples: Mapping[str, np.ndarray], tokens_crc: int, encoding: Encoding) -> bytes:
    """``examples`` of one component in their order; ``tokens_crc`` checks the text that they show."""
    e = examples
    common = [np.array([tokens_crc]), e["position"], e["document"], e["before"], e["after"]]
    if encoding == "exact":
        key = e["key"].astype(np.uint64)
        high, low = key >> np.uint64(32), key & np.uint64(0xFFFFFFFF)
        return pack([*common, high.astype(np.int64), low.astype(np.int64), e["ci"], e["activation"]], 1)
    largest = float(np.abs(e["activation"]).max(initial=0.0))
    steps = np.rint(e["ci"].T.astype(np.float64) * STEPS)
    scale = np.float32(largest / STEPS) if largest > 0 else np.float32(1.0)
    return pack(
        [
            *common,
            np.array([scale], "<f4"),
            # What is above 0 stays above 0: there, the component fires.
            np.where(e["ci"].T > 0, np.maximum(steps, 1), steps).astype(np.int64),
            np.rint(e["activation"].T.astype(np.float64) / float(scale)).astype(np.int64),
        ],
        9,
    )


def unpack_examples(data: bytes, length: int, encoding: Encoding) -> tuple[dict[str, np.ndarray], int]:
    """Columns by name (``key`` in the exact encoding only) and the checksum of their tokens."""
    columns = unpack(data)
    if len(columns) != (9 if encoding == "exact" else 8) or len(columns[0]) != 1:
        raise RecordError("examples are malformed")
    n = len(columns[1])
    if any(len(c) != n for c in columns[2:5]) or any(len(c) != n * length for c in columns[-2:]):
        raise RecordError("examples are malformed")
    result: dict[str, np.ndarray] = {
        "position": columns[1].astype(np.int64),
        "document": columns[2].astype(np.int64),
        "before": columns[3].astype(np.int64),
        "after": columns[4].astype(np.int64),
    }
    ci, activation = columns[-2], columns[-1]
    if encoding == "exact":
        result["key"] = (columns[5].astype(np.uint64) << np.uint64(32)) | columns[6].astype(np.uint64)
        result["ci"] = ci.reshape(n, length)
        result["activation"] = activation.reshape(n, length)
    else:
        scale = np.float32(columns[5][0])
        result["ci"] = np.ascontiguousarray(ci.reshape(length, n).T).astype(np.float32) / np.float32(STEPS)
        result["activation"] = (
            np.ascontiguousarray(activation.reshape(length, n).T).astype(np.float32) * scale
        )
    return result, int(columns[0][0])
