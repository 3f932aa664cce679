"""Reading a compact store as if it were a full one (storage/compact.py says what is in it)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from storage.blocks import BlockReader
from storage.compact_codes import unpack_deviations, unpack_relative_error
from storage.layout import ABS_PART, EDGE_ARRAYS, Manifest, ReadPoint, denominator_name


class CompactPlanes:
    """Stored arrays of a compact store, decoded part by part."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._settings = manifest.settings
        self._shapes = {array.name: array.shape for array in manifest.arrays}
        self._file = BlockReader(
            path / "compact.bin",
            manifest.arrays,
            "total",
            1,
            manifest.store_id,
            manifest.sizes["compact.bin"],
        )
        self._points = {point.name: point for point in manifest.settings.layouts}
        self._reader_points = {
            reader: point for point in manifest.settings.layouts for reader in point.readers
        }
        self._places: dict[str, np.ndarray] = {}

    def has(self, name: str) -> bool:
        return name in self._shapes or f"{name}/values" in self._shapes

    @property
    def has_abs_groups(self) -> bool:
        return False

    def _read(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        return self._file.read(name, rows, columns)[0]

    def _kept(self, name: str, size: int) -> np.ndarray:
        """For each row (or column) of the full array its place among those kept, −1 if it was dropped."""
        if name not in self._places:
            places = np.full(size, -1, np.int64)
            kept = self._read(name)[0]
            places[kept] = np.arange(len(kept))
            self._places[name] = places
        return self._places[name]

    def total(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        if name in self._shapes:
            return self._read(name, rows, columns)
        if name.startswith(EDGE_ARRAYS):
            return self._absolute(name, rows or slice(None), columns or slice(None))
        n_rows, width = self._full_shape(name)
        places = self._kept(f"{name}/rows", n_rows)[rows or slice(None)]
        result = np.zeros((len(places), width), np.float32)
        inside = places >= 0
        if inside.any():
            first, last = int(places[inside][0]), int(places[inside][-1]) + 1
            scale = self._read(f"{name}/scale", columns=slice(first, last))[0]
            values = self._read(f"{name}/values", slice(first, last)).astype(np.float32) * scale[:, None]
            result[inside] = values[places[inside] - first]
        return result[:, columns or slice(None)]

    def _full_shape(self, name: str) -> tuple[int, int]:
        kind, _, point_name = name.partition("/")
        point = self._points[point_name]
        if kind == "frozen_delta":
            return sum(block.kind == "delta" for block in point.blocks), point.d_in
        return point.n_rows, point.d_in

    def _absolute(self, name: str, rows: slice, columns: slice) -> np.ndarray:
        """Part of an array of single edges: kept values are means per source, so the denominator goes back in."""
        kind, _, reader = name.partition("/")
        point = self._reader_points[reader]
        places = self._kept(f"{name}/columns", point.n_rows)[columns]
        n_rows = self._shapes[f"{name}/scale"][1]
        wanted = range(*rows.indices(n_rows))
        result = np.zeros((len(wanted), len(places)))
        inside = places >= 0
        if inside.any():
            first, last = int(places[inside][0]), int(places[inside][-1]) + 1
            values = self._read(f"{name}/values", rows, slice(first, last)).astype(np.float64)
            scale = self._read(f"{name}/scale", columns=rows)[0].astype(np.float64)
            decoded = (values * scale[:, None])[:, places[inside] - first]
            result[:, inside] = decoded * self._denominators(point, columns, kind)[inside]
        return result

    def _denominators(self, point: ReadPoint, rows: slice, kind: str) -> np.ndarray:
        """Source denominators of rows of a read point, for ``abs`` or ``edges``."""
        part = kind == "abs" and f"{ABS_PART}tokens" in self._shapes
        start, stop, _ = rows.indices(point.n_rows)
        pieces: list[np.ndarray] = []
        for block in point.blocks:
            first, last = max(start - block.offset, 0), min(stop - block.offset, block.count)
            if first < last:
                name = denominator_name(self._settings, block, part=part)
                shared = name.removeprefix(ABS_PART) == "tokens"
                values = self._read(name, columns=slice(0, 1) if shared else slice(first, last))[0]
                pieces.append(np.broadcast_to(values, last - first))
        return np.concatenate(pieces)

    def groups(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        if f"{name}/groups" in self._shapes:
            return self._read(f"{name}/groups", columns=columns).astype(np.float64)[:, None]
        n_rows, width = self._full_shape(name)
        wanted = range(*(rows or slice(None)).indices(n_rows))
        places = self._kept(f"{name}/rows", n_rows)
        result = np.zeros((self._settings.n_groups, len(wanted), width))
        for i, row in enumerate(wanted):
            if places[row] >= 0:
                result[:, i] = self._row_groups(name, row, int(places[row]), width)
        return result[:, :, columns or slice(None)]

    def _row_groups(self, name: str, row: int, place: int, width: int) -> np.ndarray:
        """x_g = X · N_g/N + deviation, [groups, width]."""
        kind, _, point_name = name.partition("/")
        point = self._points[point_name]
        one = slice(place, place + 1)
        total = (
            self._read(f"{name}/values", one)[0].astype(np.float64)
            * self._read(f"{name}/scale", columns=one)[0, 0]
        )
        if kind == "frozen_delta":
            shares = self._read("tokens/groups")[:, 0].astype(np.float64)
        else:
            block = point.block_at(row)
            denominator = denominator_name(self._settings, block, part=False)
            index = 0 if denominator == "tokens" else row - block.offset
            shares = self._read(f"{denominator}/groups", columns=slice(index, index + 1))[:, 0].astype(
                np.float64
            )
        shares = shares / max(shares.sum(), 1e-10)
        codes = self._read(f"{name}/codes", one)[0].reshape(self._settings.n_groups, -1)
        deviations = unpack_deviations(codes, self._read(f"{name}/code_scale", one)[0], width)
        return np.outer(shares, total) + deviations

    def project(self, name: str, direction: np.ndarray) -> np.ndarray:
        n_rows, _ = self._full_shape(name)
        places = self._kept(f"{name}/rows", n_rows)
        result = np.zeros(n_rows)
        values = self._read(f"{name}/values").astype(np.float32) @ direction.astype(np.float32)
        result[places >= 0] = values * self._read(f"{name}/scale")[0]
        return result

    def relative_error(self, name: str, row: int, column: int) -> float | None:
        point = self._reader_points[name.removeprefix("abs/")]
        place = int(self._kept(f"{name}/columns", point.n_rows)[column])
        if place < 0:
            return float("nan")
        code = self._read(f"{name}/errors", slice(row, row + 1), slice(place, place + 1))[0, 0]
        return unpack_relative_error(int(code))

    def verify(self) -> int:
        return self._file.verify()
