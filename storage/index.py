"""The optional index of a large store: which ends are strongest, so that a query need not scan.

For every key, direction, metric, sign, and with and without normalisation, the index holds the
positions of the ``k`` strongest ends, how many ends have that sign, and their sum. Values, standard
errors and support are not in it: they are computed from the store as always, for just the entries
shown. So an index can never disagree with its store about a number.

``index.json`` and ``index.bin`` lie beside the blocks; blocks are those of storage/blocks.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from compute.address import OUTPUT
from storage.blocks import BlockReader, BlockWriter
from storage.errors import StoreDamagedError
from storage.files import read_signed_json, sync_directory, write_signed_json
from storage.keys import KeySpace
from storage.layout import ArrayPlan, BlockPlan, Metric, ReadPoint, record_size
from storage.numbers import Numbers

FORMAT, VERSION = "tributary-index", 1
JSON, DATA = "index.json", "index.bin"
FILES = (JSON, DATA)
#: Rows of a read point that are ranked at a time.
_BAND = 2048


def _list_number(
    metrics: tuple[Metric, ...], metric: Metric, normalised: bool, positive: bool, outputs: bool
) -> int:
    """Where a list stands in a key's record; ``outputs`` matters for targets only."""
    return ((metrics.index(metric) * 2 + normalised) * 2 + positive) * 2 + outputs


def _plan(keys: KeySpace, metrics: tuple[Metric, ...], k: int) -> tuple[tuple[ArrayPlan, ...], int]:
    """One record of positions and one of counts and sums for each key; and the size of the file."""
    lists = len(metrics) * 8
    counts = {f"sources/{reader}": count for reader, count in keys.sizes.items()}
    for point in keys.points:
        counts |= {f"targets/{block.address}/{block.kind}": block.count for block in point.blocks}
    arrays: list[ArrayPlan] = []
    offset = 0
    for name in sorted(counts):
        for suffix, width, dtype, size in (("ids", lists * k, "<i4", 4), ("sums", lists * 2, "<f8", 8)):
            total = BlockPlan(offset=offset, rows=1, columns=width)
            plan = {"name": f"{name}/{suffix}", "shape": (counts[name], width), "dtype": dtype}
            arrays.append(ArrayPlan.model_validate(plan | {"total": total, "groups": None}))
            offset += counts[name] * record_size(width * size)
    return tuple(arrays), offset


class Index:
    """An index that exists, of one store."""

    def __init__(self, path: Path, store_id: str, keys: KeySpace, metrics: tuple[Metric, ...]) -> None:
        """Raises :class:`StoreDamagedError` for an index that is damaged or of another store."""
        content = read_signed_json(path / JSON)
        if (
            content.get("format") != FORMAT
            or content.get("version") != VERSION
            or content.get("store_id") != store_id
        ):
            raise StoreDamagedError(
                path / JSON, "is not an index of this store", "remove it and build it again"
            )
        self.k = int(content["k"])
        self._metrics = metrics
        try:
            arrays, size = _plan(keys, metrics, self.k)
        except ValidationError as error:
            raise StoreDamagedError(path / JSON, "is malformed") from error
        self._file = BlockReader(path / DATA, arrays, "total", 1, store_id, size)

    def ranked(
        self,
        name: str,
        row: int,
        k: int,
        metric: Metric,
        *,
        normalised: bool,
        positive: bool,
        outputs: bool = True,
    ) -> tuple[list[int], int, float]:
        """Positions of the k strongest, how many there are, and their sum; as a scan would give."""
        number = _list_number(self._metrics, metric, normalised, positive, outputs)
        one = slice(row, row + 1)
        ids = self._file.read(f"{name}/ids", one)[0, 0, number * self.k : number * self.k + k]
        count, total = self._file.read(f"{name}/sums", one)[0, 0, number * 2 : number * 2 + 2]
        return [int(i) for i in ids if i >= 0], int(count), float(total)

    def verify(self) -> int:
        return self._file.verify()


class _Ranking:
    """The k strongest entries of many lists at once, fed part by part. Shapes [lists, k]."""

    def __init__(self, lists: int, k: int) -> None:
        self.values = np.zeros((lists, k), np.float32)
        self.ids = np.full((lists, k), -1, np.int32)
        self.counts = np.zeros(lists)
        self.sums = np.zeros(lists)

    def feed(self, rows: slice, values: np.ndarray, ids: np.ndarray) -> None:
        """Offer ``values`` [lists in rows, n] (only those > 0 count) that stand at positions ``ids`` [n]."""
        k = self.values.shape[1]
        positive = np.maximum(values, 0)
        self.counts[rows] += np.count_nonzero(positive, axis=1)
        self.sums[rows] += positive.sum(1, dtype=np.float64)
        if positive.shape[1] > k:
            best = np.argpartition(-positive, k - 1, axis=1)[:, :k]
            positive, taken = np.take_along_axis(positive, best, 1), ids[best]
        else:
            taken = np.broadcast_to(ids, positive.shape)
        joined = np.concatenate([self.values[rows], positive], 1)
        joined_ids = np.concatenate([self.ids[rows], np.where(positive > 0, taken, -1)], 1)
        order = np.argsort(-joined, axis=1, kind="stable")[:, :k]
        self.values[rows] = np.take_along_axis(joined, order, 1)
        self.ids[rows] = np.take_along_axis(joined_ids, order, 1)


def build_index(
    path: Path, store_id: str, keys: KeySpace, numbers: Numbers, metrics: tuple[Metric, ...], k: int
) -> None:
    """Rank every key of a store and write its index; replaces an older one."""
    arrays, _ = _plan(keys, metrics, k)
    temporary = path / f".{DATA}.writing"
    writer = BlockWriter(temporary, arrays, "total", 1, store_id, DATA)
    lists = len(metrics) * 8
    names = [array.name.removesuffix("/ids") for array in arrays if array.name.endswith("/ids")]
    shapes = {array.name: array.shape[0] for array in arrays}
    ids = {name: np.full((shapes[f"{name}/ids"], lists, k), -1, np.int32) for name in names}
    sums = {name: np.zeros((shapes[f"{name}/sums"], lists, 2)) for name in names}
    for metric, normalised in product(metrics, (False, True)):
        for positive in (False, True):
            for name, outputs, ranking in _rankings(keys, numbers, metric, normalised, positive, k):
                number = _list_number(metrics, metric, normalised, positive, outputs)
                ids[name][:, number] = ranking.ids
                sums[name][:, number, 0] = ranking.counts
                sums[name][:, number, 1] = ranking.sums if positive else -ranking.sums
    for name in names:
        writer.write(f"{name}/ids", 0, 0, ids[name].reshape(1, len(ids[name]), -1))
        writer.write(f"{name}/sums", 0, 0, sums[name].reshape(1, len(sums[name]), -1))
    writer.close()
    # Without its index.json an index is not used, so a crash between the two leaves none.
    (path / JSON).unlink(missing_ok=True)
    temporary.replace(path / DATA)
    sync_directory(path)
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "store_id": store_id, "k": k}
    write_signed_json(path / JSON, content)


def _rankings(
    keys: KeySpace, numbers: Numbers, metric: Metric, normalised: bool, positive: bool, k: int
) -> Iterator[tuple[str, bool, _Ranking]]:
    """All rankings of one metric and sign: (record name, with outputs, ranking)."""
    of_sources: dict[tuple[str, bool], _Ranking] = {}
    for point in keys.points:
        for block in point.blocks:
            for outputs in (False, True):
                of_sources.setdefault(
                    (f"targets/{block.address}/{block.kind}", outputs), _Ranking(block.count, k)
                )
    #: How many positions of each source block's scan lie before the next reader.
    position: dict[str, int] = {}
    for point in keys.points:
        for reader in keys.readers[point.name]:
            if metric == "attr_abs" and not numbers.has_abs(reader):
                continue
            targets = numbers.targets(reader, metric)
            of_targets = _Ranking(keys.sizes[reader], k)
            for rows in _bands(point):
                values = numbers.matrix(point, rows, reader, metric, normalised=normalised)
                values = values if positive else -values
                block = point.block_at(rows.start)
                name = f"targets/{block.address}/{block.kind}"
                within = slice(rows.start - block.offset, rows.stop - block.offset)
                places = np.arange(len(targets)) + position.get(name, 0)
                for outputs in (False, True):
                    if outputs or reader != OUTPUT:
                        of_sources[name, outputs].feed(within, values, places)
                _feed_targets(of_targets, values.T, targets, rows)
            for block in point.blocks:
                name = f"targets/{block.address}/{block.kind}"
                position[name] = position.get(name, 0) + len(targets)
            for outputs in (False, True):
                yield f"sources/{reader}", outputs, of_targets
    for (name, outputs), ranking in of_sources.items():
        yield name, outputs, ranking


def _feed_targets(ranking: _Ranking, values: np.ndarray, targets: np.ndarray, rows: slice) -> None:
    """Feed the lists of the targets that a scan covers; those of others stay empty."""
    ids = np.arange(rows.start, rows.stop)
    if len(targets) == len(ranking.counts):
        ranking.feed(slice(None), values, ids)
        return
    for i, target in enumerate(targets):
        ranking.feed(slice(int(target), int(target) + 1), values[i : i + 1], ids)


def _bands(point: ReadPoint) -> Iterator[slice]:
    """Bounded runs of rows, each inside one row block."""
    for block in point.blocks:
        for start in range(block.offset, block.offset + block.count, _BAND):
            yield slice(start, min(start + _BAND, block.offset + block.count))
