"""The strongest source and the strongest target of every component of a store, from one scan of it.

What a table sorts by. Either sign counts, and values are normalised ``attr``, as a card lists them
first. Sources are everything that flows in directly, tokens, deltas and biases too; targets are
components and output tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from compute.address import OUTPUT, Address, Key
from storage.keys import KeySpace
from storage.layout import ReadPoint
from storage.numbers import Numbers

#: (phase, done, total); may raise whatever stops the scan.
Report = Callable[[str, int, int], None]
#: Values held at a time; a float64 each.
_CELLS = 1 << 22


@dataclass(frozen=True)
class Ends:
    """For each of C components: the value of its strongest edge (NaN where it has none) and its other end.

    ``place`` [C] counts the entries of ``parts``: rows of ends that stand one after another.
    """

    value: np.ndarray
    place: np.ndarray
    parts: tuple[tuple[Address, str, int], ...]

    @classmethod
    def none(cls, count: int, parts: tuple[tuple[Address, str, int], ...]) -> Ends:
        return cls(np.full(count, np.nan), np.full(count, -1), parts)

    def key(self, index: int) -> Key | None:
        """The other end of a component's strongest edge."""
        place = int(self.place[index])
        if place < 0:
            return None
        for address, kind, count in self.parts:
            if place < count:
                return Key(address, kind if kind in ("delta", "bias") else place)
            place -= count
        raise AssertionError("an end lies beyond all parts")

    def offer(self, where: slice, values: np.ndarray, places: np.ndarray) -> None:
        """Take ``values`` [n] with their other ends where they are stronger than what is there."""
        # A value of exactly zero is no edge.
        stronger = np.abs(values) > np.nan_to_num(np.abs(self.value[where]))
        self.value[where] = np.where(stronger, values, self.value[where])
        self.place[where] = np.where(stronger, places, self.place[where])


@dataclass(frozen=True)
class StrongestEnds:
    """By site."""

    sources: dict[Address, Ends]
    targets: dict[Address, Ends]


def strongest_ends(keys: KeySpace, numbers: Numbers, report: Report | None = None) -> StrongestEnds:
    """Scan all edges from or into components; raises :class:`StoreDamagedError`."""
    counts = {address: count for address, count in keys.sizes.items() if address != OUTPUT}
    sources: dict[Address, Ends] = {}
    targets: dict[Address, Ends] = {}
    readers: dict[Address, list[tuple[Address, str, int]]] = {address: [] for address in counts}
    for point in keys.points:
        for reader in keys.readers[point.name]:
            for block in point.blocks:
                if block.kind == "component":
                    readers[block.parsed].append((reader, "component", keys.sizes[reader]))
    for address, parts in readers.items():
        targets[address] = Ends.none(counts[address], tuple(parts))
        sources[address] = Ends.none(counts[address], ())
    for point in keys.points:
        rows = tuple((block.parsed, block.kind, block.count) for block in point.blocks)
        for reader in keys.readers[point.name]:
            if reader != OUTPUT:
                sources[reader] = Ends.none(counts[reader], rows)
    total = sum(point.n_rows * keys.sizes[r] for point in keys.points for r in keys.readers[point.name])
    done = 0
    seen = dict.fromkeys(counts, 0)
    for point in keys.points:
        for reader in keys.readers[point.name]:
            for band in _bands(point, keys.sizes[reader]):
                block = point.block_at(band.start)
                done += (band.stop - band.start) * keys.sizes[reader]
                if reader == OUTPUT and block.kind != "component":
                    continue
                values = numbers.matrix(point, band, reader, "attr", normalised=True)
                if report is not None:
                    report("edges", done, total)
                size = np.abs(values)
                if reader != OUTPUT:
                    best = size.argmax(0)
                    sources[reader].offer(
                        slice(None), values[best, np.arange(values.shape[1])], best + band.start
                    )
                if block.kind == "component":
                    best = size.argmax(1)
                    within = slice(band.start - block.offset, band.stop - block.offset)
                    targets[block.parsed].offer(
                        within, values[np.arange(len(values)), best], best + seen[block.parsed]
                    )
            for block in point.blocks:
                if block.kind == "component":
                    seen[block.parsed] += keys.sizes[reader]
    return StrongestEnds(sources, targets)


def _bands(point: ReadPoint, targets: int) -> Iterator[slice]:
    """Runs of rows, each inside one row block, of a bounded number of values."""
    step = max(1, _CELLS // targets)
    for block in point.blocks:
        end = block.offset + block.count
        for start in range(block.offset, end, step):
            yield slice(start, min(start + step, end))
