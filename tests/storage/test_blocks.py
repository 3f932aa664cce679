"""Blocks on the disk: what is all zero takes no room, and is read and checked like anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.blocks import BlockReader, BlockWriter
from storage.errors import StoreDamagedError
from storage.layout import plan_arrays

SHAPES = {"signed/a": (20_000, 64), "tokens": (1,)}


def written(path: Path, values: np.ndarray) -> BlockReader:
    plans, sizes = plan_arrays(SHAPES, 2)
    writer = BlockWriter(path, plans, "total", 1, "store", path.name)
    writer.write("signed/a", 0, 0, values[None])
    writer.write("tokens", 0, 0, np.full((1, 1, 1), 3.0))
    writer.close()
    return BlockReader(path, plans, "total", 1, "store", sizes["totals.bin"])


def test_zeros_take_no_room(tmp_path: Path) -> None:
    values = np.zeros(SHAPES["signed/a"], np.float32)
    values[7] = 1.5
    values[12_345] = -0.0  # not the same bytes as zero
    path = tmp_path / "some.bin"
    reader = written(path, values)
    assert path.stat().st_size > values.nbytes
    if _has_holes(tmp_path):
        assert path.stat().st_blocks * 512 < values.nbytes / 3
    read = reader.read("signed/a")[0]
    assert read.tobytes() == values.tobytes()
    assert reader.verify() > 1
    full = tmp_path / "full.bin"
    written(full, np.ones_like(values))
    assert full.stat().st_size == path.stat().st_size
    with path.open("r+b") as file:
        file.seek(values.nbytes // 2)
        file.write(b"\x01")
    with pytest.raises(StoreDamagedError, match="does not match its checksum"):
        written_again(path).verify()


def written_again(path: Path) -> BlockReader:
    plans, sizes = plan_arrays(SHAPES, 2)
    return BlockReader(path, plans, "total", 1, "store", sizes["totals.bin"])


def _has_holes(folder: Path) -> bool:
    """Whether this file system keeps no room for what was never written."""
    file = folder / "holes"
    with file.open("wb") as opened:
        opened.truncate(1 << 20)
    return file.stat().st_blocks * 512 < 1 << 19
