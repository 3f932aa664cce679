"""Files of blocks: what is written is read, and zeros take no room."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import blocks
from storage.blocks import BlockReader, BlockWriter
from storage.errors import StoreDamagedError
from storage.layout import plan_arrays

PLANES = 16
NAME = "groups.bin"


def _write(folder: Path, name: str, values: np.ndarray) -> BlockReader:
    """``values``: [planes, rows, columns]."""
    path = folder / NAME
    planes, rows, columns = values.shape
    plans, sizes = plan_arrays({name: (rows, columns)}, planes)
    writer = BlockWriter(path, plans, "groups", planes, "0" * 32, NAME)
    writer.write(name, 0, 0, values)
    writer.close()
    return BlockReader(path, plans, "groups", planes, "0" * 32, sizes[NAME])


@pytest.fixture
def sparse_folder(tmp_path: Path) -> Path:
    """A folder whose file system has holes; skipped elsewhere."""
    probe = tmp_path / "probe"
    with probe.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
    if probe.stat().st_blocks * 512 > 1 << 19:
        pytest.skip("this file system has no holes")
    return tmp_path


def test_rows_that_are_zero_take_a_page_each(sparse_folder: Path) -> None:
    values = np.zeros((PLANES, 200, 2048), np.float32)
    values[:, 7] = 1.5
    values[2, 150, 3] = -2
    reader = _write(sparse_folder, "attr/0.mlp.down", values)
    assert np.array_equal(reader.read("attr/0.mlp.down"), values)
    assert reader.verify() == 200
    found = (sparse_folder / NAME).stat()
    assert found.st_size > values.nbytes
    assert found.st_blocks * 512 < values.nbytes / 6


@given(seed=st.integers(0, 2**32 - 1), zeros=st.sampled_from([0.0, -0.0]), columns=st.integers(1, 1200))
def test_holes_change_no_byte(seed: int, zeros: float, columns: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(PLANES, 30, columns)).astype(np.float32)
    values[:, generator.random(30) < 0.7] = zeros
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        holes, whole = Path(folder) / "holes", Path(folder) / "whole"
        holes.mkdir()
        whole.mkdir()
        reader = _write(holes, "attr/0.mlp.down", values)
        assert reader.read("attr/0.mlp.down").tobytes() == values.tobytes()
        patch.setattr(blocks, "_HOLE_FROM", 1 << 40)
        _write(whole, "attr/0.mlp.down", values)
        assert (holes / NAME).read_bytes() == (whole / NAME).read_bytes()


def test_a_block_that_was_zeroed_is_no_hole(tmp_path: Path) -> None:
    values = np.zeros((PLANES, 3, 2048), np.float32)
    values[:, 1] = 1.0
    reader = _write(tmp_path, "attr/0.mlp.down", values)
    size = (tmp_path / NAME).stat().st_size // 3
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(size)
        file.write(bytes(size))
    with pytest.raises(StoreDamagedError, match=r"block 1 of attr/0\.mlp\.down does not match its checksum"):
        reader.read("attr/0.mlp.down")
