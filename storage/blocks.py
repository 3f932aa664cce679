"""Files of checked blocks: reading any part of an array reads, and verifies, only its blocks.

An array is cut into a grid of blocks of equal shape, laid out in row-major order; those at the edge
are padded with zeros. With ``planes`` > 1 a block holds the same part of every group. On disk a
block is its payload (little-endian, C order, padded to eight bytes) and a 64-bit word: the CRC-32 of
the payload, started from a number that depends on the store, the file, the array and the block's
place. So a block of another store, or in another place, is as wrong as one with a flipped bit.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from storage.errors import StoreDamagedError
from storage.layout import ArrayPlan, BlockPlan, record_size

Plane = Literal["total", "groups"]

#: Blocks of zeros alone, as of tokens that were never seen, are left as holes of the file: they read as zeros, and
#: a page of 4 KiB each, with the checksum, is all they take. Of smaller blocks too little would be saved for files in
#: so many pieces, which a file system is slow to delete.
_HOLE_FROM = 1 << 15


def _seed(store_id: str, file: str, array: str) -> int:
    return zlib.crc32(f"{store_id}/{file}/{array}".encode())


class _Grid:
    """Arithmetic of one array in one file."""

    def __init__(self, array: ArrayPlan, plan: BlockPlan, planes: int, seed: int) -> None:
        self.name = array.name
        self.rows, self.columns = array.shape
        self.block_rows, self.block_columns = plan.rows, plan.columns
        self.down = -(-self.rows // plan.rows)
        self.across = -(-self.columns // plan.columns)
        self.offset = plan.offset
        self.planes = planes
        self.seed = seed
        shape = (planes, plan.rows, plan.columns)
        payload = planes * plan.rows * plan.columns * np.dtype(array.dtype).itemsize
        self.payload = payload
        self.record = np.dtype(
            {
                "names": ["data", "crc"],
                "formats": [(array.dtype, shape), "<u8"],
                "offsets": [0, record_size(payload) - 8],
                "itemsize": record_size(payload),
            }
        )

    @property
    def blocks(self) -> int:
        return self.down * self.across


def grids(
    arrays: tuple[ArrayPlan, ...], plane: Plane, planes: int, store_id: str, file: str
) -> dict[str, _Grid]:
    return {
        array.name: _Grid(
            array,
            array.total if plane == "total" or array.groups is None else array.groups,
            planes,
            _seed(store_id, file, array.name),
        )
        for array in arrays
    }


class BlockReader:
    """Reads parts of arrays from one file; every block is compared with its checksum the first time.

    ``os.pread`` and not a mapping: a file that is cut while it is open gives an error with a name
    instead of a bus error, and the memory of a server stays what its queries need.
    """

    def __init__(
        self, path: Path, arrays: tuple[ArrayPlan, ...], plane: Plane, planes: int, store_id: str, size: int
    ) -> None:
        self.path = path
        self._grids = grids(arrays, plane, planes, store_id, path.name)
        self._verified: dict[str, bytearray] = {}
        self._descriptor = -1
        self.check_size(size)

    def check_size(self, size: int) -> None:
        try:
            actual = self.path.stat().st_size
        except OSError:
            raise StoreDamagedError(self.path, "is missing") from None
        if actual != size:
            raise StoreDamagedError(self.path, f"has {actual} bytes, its manifest says {size}")

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _pread(self, size: int, offset: int, grid: _Grid) -> memoryview:
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            buffer = memoryview(bytearray(size))
            done = 0
            while done < size:
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
                if count == 0:
                    raise StoreDamagedError(self.path, f"ends inside {grid.name}")
                done += count
        except OSError as error:
            raise StoreDamagedError(self.path, f"cannot be read ({error.strerror})") from error
        return buffer

    def _records(self, grid: _Grid, first: int, count: int) -> np.ndarray:
        """``count`` consecutive blocks as [count, planes, block rows, block columns], verified."""
        step = grid.record.itemsize
        buffer = self._pread(count * step, grid.offset + first * step, grid)
        records = np.frombuffer(buffer, grid.record, count)
        verified = self._verified.setdefault(grid.name, bytearray(grid.blocks))
        if verified.count(0, first, first + count):
            crcs = records["crc"]
            for i in range(count):
                if not verified[first + i]:
                    start = i * step
                    crc = zlib.crc32(
                        buffer[start : start + grid.payload], (grid.seed + first + i) & 0xFFFFFFFF
                    )
                    if crc != crcs[i]:
                        raise StoreDamagedError(
                            self.path, f"block {first + i} of {grid.name} does not match its checksum"
                        )
                    verified[first + i] = 1
        return records["data"]

    def read(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        """Part of an array as [planes, rows, columns], in the file's number type."""
        grid = self._grid(name)
        r0, r1, _ = (rows or slice(None)).indices(grid.rows)
        c0, c1, _ = (columns or slice(None)).indices(grid.columns)
        i0, i1 = r0 // grid.block_rows, -(-r1 // grid.block_rows)
        j0, j1 = c0 // grid.block_columns, -(-c1 // grid.block_columns)
        if i1 <= i0 or j1 <= j0:
            return np.empty((grid.planes, max(r1 - r0, 0), max(c1 - c0, 0)), grid.record["data"].base)
        if j1 - j0 == grid.across:  # consecutive on disk: one read
            data = self._records(grid, i0 * grid.across, (i1 - i0) * grid.across)
            data = data.reshape(i1 - i0, grid.across, *data.shape[1:])
        else:
            data = np.stack([self._records(grid, i * grid.across + j0, j1 - j0) for i in range(i0, i1)])
        # [i, j, plane, r, c] -> [plane, i, r, j, c]
        whole = data.transpose(2, 0, 3, 1, 4).reshape(
            grid.planes, (i1 - i0) * grid.block_rows, (j1 - j0) * grid.block_columns
        )
        top, left = i0 * grid.block_rows, j0 * grid.block_columns
        return whole[:, r0 - top : r1 - top, c0 - left : c1 - left]

    def _grid(self, name: str) -> _Grid:
        grid = self._grids.get(name)
        if grid is None:
            raise StoreDamagedError(self.path, f"has no array {name}")
        return grid

    def verify(self) -> int:
        """Check every block again, in bounded memory; returns the number of blocks."""
        total = 0
        for name, grid in self._grids.items():
            self._verified[name] = bytearray(grid.blocks)
            per_read = max(1, (1 << 24) // grid.record.itemsize)
            for first in range(0, grid.blocks, per_read):
                self._records(grid, first, min(per_read, grid.blocks - first))
            total += grid.blocks
        return total


class BlockWriter:
    """Writes the blocks of one file at their places; parts may come in any order, block-aligned.

    ``seed_name`` is the name under which the file will be read.
    """

    def __init__(
        self,
        path: Path,
        arrays: tuple[ArrayPlan, ...],
        plane: Plane,
        planes: int,
        store_id: str,
        seed_name: str,
    ) -> None:
        self.path = path
        self._grids = grids(arrays, plane, planes, store_id, seed_name)
        self._file = path.open("wb")

    def write(self, name: str, row: int, column: int, values: np.ndarray) -> None:
        """Write [planes, rows, columns] whose corner lies at (row, column), a corner of a block.

        Its far edges must be block edges too, or the ends of the array.
        """
        grid = self._grids[name]
        planes, rows, columns = values.shape
        assert planes == grid.planes
        assert row % grid.block_rows == 0
        assert column % grid.block_columns == 0
        down, across = -(-rows // grid.block_rows), -(-columns // grid.block_columns)
        assert rows == down * grid.block_rows or row + rows == grid.rows
        assert columns == across * grid.block_columns or column + columns == grid.columns
        i0, j0 = row // grid.block_rows, column // grid.block_columns
        step = grid.record.itemsize
        for i in range(down):
            records = np.zeros(across, grid.record)
            band = values[:, i * grid.block_rows : (i + 1) * grid.block_rows]
            for j in range(across):
                part = band[:, :, j * grid.block_columns : (j + 1) * grid.block_columns]
                records["data"][j, :, : part.shape[1], : part.shape[2]] = part
            first = (i0 + i) * grid.across + j0
            raw = memoryview(records.tobytes())
            records["crc"] = [
                zlib.crc32(raw[j * step : j * step + grid.payload], (grid.seed + first + j) & 0xFFFFFFFF)
                for j in range(across)
            ]
            self._file.seek(grid.offset + first * step)
            if step < _HOLE_FROM:
                self._file.write(records.tobytes())
                continue
            # By their bits, for a negative zero is no hole.
            for record, bits in zip(records, np.frombuffer(raw, "<u8").reshape(across, -1), strict=True):
                if bits.any():
                    self._file.write(record.tobytes())
                else:
                    self._file.seek(step - 8, os.SEEK_CUR)
                    self._file.write(record["crc"].tobytes())

    def close(self) -> None:
        """Flush and sync."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
