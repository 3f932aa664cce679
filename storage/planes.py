"""The two files of a full store as arrays: totals, and values by group."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from storage.blocks import BlockReader
from storage.layout import Manifest


class Planes(Protocol):
    """Stored arrays, however they are encoded."""

    def has(self, name: str) -> bool: ...

    def total(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        """Sums over all groups, [rows, columns]; statistics have one row."""
        ...

    def groups(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        """Sums of each group, [groups, rows, columns], float64; not to be asked for where there are none."""
        ...

    def project(self, name: str, direction: np.ndarray) -> np.ndarray:
        """All rows of a signed array times a direction [d_in]: [n_rows], float64."""
        ...

    @property
    def has_abs_groups(self) -> bool:
        """Whether attr_abs is stored by group, or with :meth:`relative_error` beside it."""
        ...

    def relative_error(self, name: str, row: int, column: int) -> float | None:
        """Standard error of a normalised attr_abs value as a share of it; None where groups are stored."""
        ...

    def verify(self) -> int:
        """Check every block; returns how many there are."""
        ...


class FullPlanes:
    """Parts of the stored arrays, read when asked for. Nothing is read at construction but sizes."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._names = {array.name for array in manifest.arrays}
        n_groups, sizes = manifest.settings.n_groups, manifest.sizes
        identity = manifest.store_id
        self._totals = BlockReader(
            path / "totals.bin", manifest.arrays, "total", 1, identity, sizes["totals.bin"]
        )
        self._groups: BlockReader | None = None
        if n_groups:
            self._groups = BlockReader(
                path / "groups.bin", manifest.arrays, "groups", n_groups, identity, sizes["groups.bin"]
            )

    def has(self, name: str) -> bool:
        return name in self._names

    def total(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        return self._totals.read(name, rows, columns)[0]

    def groups(self, name: str, rows: slice | None = None, columns: slice | None = None) -> np.ndarray:
        assert self._groups is not None, "this store has no groups"
        return self._groups.read(name, rows, columns).astype(np.float64)

    def project(self, name: str, direction: np.ndarray) -> np.ndarray:
        return (self.total(name) @ direction.astype(np.float32)).astype(np.float64)

    @property
    def has_abs_groups(self) -> bool:
        return True

    def relative_error(self, name: str, row: int, column: int) -> float | None:
        return None

    def verify(self) -> int:
        return self._totals.verify() + (0 if self._groups is None else self._groups.verify())
