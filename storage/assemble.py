"""From group values to a finished store: totals, bundles, manifest, one atomic rename.

Used by the writer (groups come from its shards) and by the merge (groups come from the stores to be
added). Works through each array in parts of bounded size, so memory does not grow with the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import isqrt
from pathlib import Path

import numpy as np

from storage.blocks import BlockWriter
from storage.files import publish, write_durably
from storage.layout import EDGE_ARRAYS, TENSORS, ArrayPlan, Manifest, Settings, TensorCheck, plan_arrays
from storage.manifest import write_manifest

#: (array, rows, columns) -> the values of all groups there, [groups, rows, columns] float64; of the whole
#: text, [1, rows, columns], where there are no groups.
GroupValues = Callable[[str, slice, slice], np.ndarray]
_PART_ELEMENTS = 1 << 22


def parts(array: ArrayPlan, n_groups: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of bounded parts whose edges are block edges in both files."""
    rows, columns = array.shape
    if not rows or not columns:
        return
    bundle = array.total if array.groups is None else array.groups
    row_step = max(array.total.rows, bundle.rows)
    column_step = max(array.total.columns, bundle.columns)
    budget = _PART_ELEMENTS // max(n_groups, 1)
    wide = max(1, budget // (row_step * column_step)) * column_step
    if array.name.startswith(EDGE_ARRAYS):  # as high as wide: sources may lie in rows or in columns
        wide = max(1, isqrt(budget) // column_step) * column_step
    wide = min(columns, wide)
    high = min(rows, max(1, budget // (row_step * wide)) * row_step)
    for row in range(0, rows, high):
        for column in range(0, columns, wide):
            yield slice(row, min(row + high, rows)), slice(column, min(column + wide, columns))


def assemble(
    work: Path,
    attributions: Path,
    settings: Settings,
    shapes: dict[str, tuple[int, ...]],
    values: GroupValues,
    *,
    store_id: str,
    method: str,
    method_reason: str,
    provenance: dict[str, str],
    model_tensors: dict[str, TensorCheck],
    tensors: bytes | None = None,
) -> str:
    """Write the store in the folder ``work`` and publish it in ``attributions``; its name there.

    ``tensors`` are the bytes of a file with ``model_tensors`` that goes with the store, where these are
    not the tensors of the run's model.
    """
    arrays, sizes = plan_arrays(shapes, settings.n_groups)
    if tensors is not None:
        write_durably(work / TENSORS, tensors)
    totals = BlockWriter(work / "totals.bin", arrays, "total", 1, store_id, "totals.bin")
    groups = None
    if settings.n_groups:
        groups = BlockWriter(work / "groups.bin", arrays, "groups", settings.n_groups, store_id, "groups.bin")
    counted: dict[str, float] = {}
    for array in arrays:
        for rows, columns in parts(array, settings.n_groups):
            group_values = values(array.name, rows, columns)
            total = group_values.sum(0, dtype=np.float64)
            if groups is not None:
                groups.write(array.name, rows.start, columns.start, group_values)
            totals.write(array.name, rows.start, columns.start, total[None])
            if array.name in ("tokens", "abs_part/tokens"):
                counted[array.name] = float(total.sum())
    totals.close()
    if groups is not None:
        groups.close()
    tokens = int(counted["tokens"])
    abs_tokens = int(counted.get("abs_part/tokens", tokens)) if "attr_abs" in settings.metrics else 0
    manifest = Manifest(
        store_id=store_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tokens=tokens,
        abs_tokens=abs_tokens,
        method=method,
        method_reason=method_reason,
        settings=settings,
        provenance=provenance,
        model_tensors=model_tensors,
        tensors=None if tensors is None else TENSORS,
        arrays=arrays,
        sizes=sizes,
    )
    write_manifest(work, manifest)
    return publish(work, attributions)
