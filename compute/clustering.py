"""Groups of components that are needed together: an agglomerative merge that shortens a description.

Who is needed where is a table of bits, one row a component, one column a sampled position of the
corpus: 1 where the causal importance exceeds a threshold. A grouping into k groups describes a position
by naming the active groups, log₂ k bits each, and for each of them its r members, α bits each:

    L = Σ_i (c_i / N) · (log₂ k + α r_i)        c_i = positions (of N) at which a member of i is active

Two groups i, j that become one change L by exactly

    cost(i, j) = [ Σ_i c_i · log₂((k−1)/k) − log₂(k−1) · S_ij + α B_ij ] / N
    B_ij = (c_i − S_ij) r_j + (c_j − S_ij) r_i

with S_ij the positions at which both are active. This is the published merge cost, rearranged: what
depends on the pair is two integers, and the only float is one logarithm a step. B is what the members of
one group cost where only the other is active, S what is saved by naming one group in place of two.

A step merges the cheapest pair. Looking at all pairs would take k² operations a step; instead every row
keeps a lower bound of its costs. Since log₂(k−1) only falls, a cost that was right once is a lower bound
for ever (S ≥ 0), and only rows whose bound is below the best cost are looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from compute.address import Address
from compute.decomposition.model import Decomposition

#: ``lowest``: the cheapest pair; ``range``: any pair near it, with equal chance; ``mcmc``: by its cost.
Choice = Literal["lowest", "range", "mcmc"]
#: Products of bits are counted in float32, which is exact below this.
MAX_POSITIONS = 2**24 - 1
_WORD = 64
_ROWS = 256  # rows of a table that are worked on at once, so that they stay in the processor's cache
_TRIES = 4096  # pairs drawn blindly before all are looked at


@dataclass(frozen=True)
class Sample:
    """Which positions of the corpus are looked at: some windows, and some positions in each.

    Every position of every whole window has the same chance. Few windows are run rather than all of
    them, for a window costs the same whether one or all of its positions are kept.
    """

    window: int
    #: First token of each window, [n], rising.
    starts: np.ndarray
    #: Positions within each window, [n, m], rising.
    offsets: np.ndarray

    @property
    def n_positions(self) -> int:
        return int(self.offsets.size)

    @classmethod
    def draw(cls, n_tokens: int, window: int, wanted: int, per_window: int, seed: int) -> Sample:
        """``wanted`` positions or a few more, ``per_window`` of a window where there are windows enough.

        A text shorter than ``window`` is one window.
        """
        if n_tokens == 0:
            raise ValueError("there is no text")
        window = min(window, n_tokens)
        whole = n_tokens // window
        n = min(whole, -(-wanted // min(per_window, window)))
        each = min(window, -(-wanted // n))
        random = np.random.default_rng(seed)
        starts = np.sort(random.choice(whole, n, replace=False, shuffle=False)) * window
        offsets = np.sort(random.random((n, window)).argsort(axis=1)[:, :each], axis=1)
        return cls(window, starts, offsets)


class MembershipCollector:
    """Fills the table of bits while windows pass by; all components of all sites, in address order.

    ``bits`` [C, ceil(N / 64)] uint64: bit p mod 64 of word p div 64 is the p-th sampled position.
    """

    def __init__(self, decomposition: Decomposition, sample: Sample, threshold: float) -> None:
        self.decomposition = decomposition
        self.sample = sample
        self.threshold = threshold
        self.addresses: tuple[Address, ...] = tuple(sorted(decomposition.addresses))
        self.bits = np.zeros((decomposition.total_components, -(-sample.n_positions // _WORD)), np.uint64)

    @torch.no_grad()
    def add(self, tokens: torch.Tensor, first: int) -> None:
        """Add windows [B, T], the ``first``-th of the sample and those after it."""
        offsets = torch.from_numpy(self.sample.offsets[first : first + len(tokens)]).to(tokens.device)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        _, inputs = self.decomposition.clean_pass(tokens)
        importance = self.decomposition.causal_importance(inputs)
        active = torch.cat(
            [(importance[a][rows, offsets] > self.threshold).flatten(0, 1) for a in self.addresses], dim=1
        )
        begin = first * self.sample.offsets.shape[1]
        end = begin + len(active)
        # Whole words are written; what stands beside the new columns in them is zero and adds nothing.
        words = slice(begin // _WORD, -(-end // _WORD))
        padded = np.zeros((len(self.bits), (words.stop - words.start) * _WORD), bool)
        padded[:, begin - words.start * _WORD : end - words.start * _WORD] = active.T.cpu().numpy()
        self.bits[:, words] |= pack(padded)

    @staticmethod
    def memory_estimate(n_components: int, n_positions: int, batch_tokens: int) -> int:
        """Bytes: the table (and a copy while it is saved), and a batch's importances on their way."""
        return n_components * n_positions // 4 + batch_tokens * n_components * 12


def pack(table: np.ndarray) -> np.ndarray:
    """Bits [C, n] bool as words [C, ceil(n / 64)] uint64."""
    padded = np.zeros((len(table), -(-table.shape[1] // _WORD) * _WORD), bool)
    padded[:, : table.shape[1]] = table
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def counts(bits: np.ndarray) -> np.ndarray:
    """Ones in each row, [C] int64."""
    return np.concatenate(
        [np.bitwise_count(rows).sum(1, dtype=np.int64) for rows in _chunks(bits)] or [np.zeros(0, np.int64)]
    )


def joint_counts(bits: np.ndarray) -> np.ndarray:
    """Positions at which both of two rows are active, [k, k] int32, exact."""
    k = len(bits)
    total = torch.zeros(k, k)
    words = max(1, 4096 // _WORD)
    for start in range(0, bits.shape[1], words):
        block = np.ascontiguousarray(bits[:, start : start + words]).view(np.uint8)
        active = torch.from_numpy(np.unpackbits(block, axis=1)).float()
        total.addmm_(active, active.T)
    return total.to(torch.int32).numpy()


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


@dataclass(frozen=True)
class Merge:
    """One step: the group of ``second`` joined that of ``first``, its name from then on (first < second)."""

    first: int
    second: int
    #: Positions at which both groups were active, and at which their union is.
    joint: int
    active: int
    #: Bits a position by which the description length changed.
    cost: float


@dataclass(frozen=True)
class MergeSettings:
    """How pairs are weighed and chosen.

    ``spread`` is for ``range``: any pair whose cost is at most the lowest plus this share of the way to
    the highest has the same chance. ``temperature``, in bits a position, is for ``mcmc``: a pair's chance
    is proportional to exp(−cost / temperature).
    """

    alpha: float = 1.0
    choice: Choice = "lowest"
    spread: float = 0.05
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.alpha < 0 or not 0 <= self.spread <= 1 or self.temperature <= 0:
            raise ValueError("alpha ≥ 0, 0 ≤ spread ≤ 1 and temperature > 0 are needed")


class Merger:
    """Merges the rows of a table of bits, pair by pair. A group is named by its smallest row.

    ``bits`` [C, W] uint64 is taken over and changed. ``sizes`` and ``names`` are for going on from a
    grouping that was reached before (see :func:`regroup`); by default every row is a group of its own.
    """

    def __init__(
        self,
        bits: np.ndarray,
        n_positions: int,
        settings: MergeSettings,
        *,
        sizes: np.ndarray | None = None,
        names: np.ndarray | None = None,
    ) -> None:
        if not 0 < n_positions <= MAX_POSITIONS:
            raise ValueError(f"between 1 and {MAX_POSITIONS:,} positions can be counted, not {n_positions:,}")
        self.n_positions = n_positions
        self.settings = settings
        self.random = np.random.default_rng(settings.seed)
        k = len(bits)
        self.k = k
        self._bits = bits
        self._joint = joint_counts(bits)
        # Integers far below 2⁵³, held as floats so that a row of costs needs no conversion.
        self._active = np.diagonal(self._joint).astype(np.float64)
        self._size = np.ones(k) if sizes is None else sizes.astype(np.float64)
        self._name = np.arange(k) if names is None else names.copy()
        self._alive = np.ones(k, bool)
        self._low = np.full(k, -np.inf)
        self._high = np.full(k, np.inf)
        #: log₂(k−1) when the row's upper bound was right.
        self._high_log = np.zeros(k)

    @staticmethod
    def memory_estimate(k: int, n_positions: int) -> int:
        """Bytes: the table, the joint counts (in float32 and int32 at first), and what counts them."""
        return k * n_positions // 8 + 8 * k * k + 5 * k * 4096

    @property
    def description_length(self) -> float:
        """Bits a position."""
        each = (
            math.log2(self.k) * self._active.sum() + self.settings.alpha * (self._active * self._size).sum()
        )
        return float(each) / self.n_positions

    @property
    def random_state(self) -> dict[str, Any]:
        return dict(self.random.bit_generator.state)

    @random_state.setter
    def random_state(self, state: dict[str, Any]) -> None:
        self.random.bit_generator.state = state

    def step(self) -> Merge:
        """Choose a pair and merge it; raises :class:`ValueError` where there is one group left."""
        if self.k < 2:
            raise ValueError("one group is left: there is nothing to merge")
        if 2 * self.k < len(self._alive):
            self._compact()
        i, j = self._choose()
        joint = int(self._joint[i, j])
        log = math.log2((self.k - 1) / self.k)
        pair = float(self._pairs(np.array([i]), np.array([j]))[0])
        cost = (float(self._active.sum()) * log + pair) / self.n_positions
        self._merge(i, j)
        return Merge(int(self._name[i]), int(self._name[j]), joint, int(self._active[i]), cost)

    # ---- costs: what depends on the pair, α B − log₂(k−1) S ---------------------------------------

    @property
    def _log(self) -> float:
        return math.log2(self.k - 1) if self.k > 2 else 0.0

    def _row(self, i: int) -> np.ndarray:
        """Against every other group; ∞ against itself and against what is no group any more."""
        joint = self._joint[i].astype(np.float64)
        spent = (self._active[i] - joint) * self._size + (self._active - joint) * self._size[i]
        cost = self.settings.alpha * spent - self._log * joint
        cost[~self._alive] = np.inf
        cost[i] = np.inf
        return cost

    def _pairs(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        joint = self._joint[i, j].astype(np.float64)
        spent = (self._active[i] - joint) * self._size[j] + (self._active[j] - joint) * self._size[i]
        return self.settings.alpha * spent - self._log * joint

    # ---- choosing -------------------------------------------------------------------------------

    def _choose(self) -> tuple[int, int]:
        lowest, i, j = self._lowest()
        if self.settings.choice == "lowest":
            return i, j
        if self.settings.choice == "range":
            limit = lowest + self.settings.spread * (self._highest() - lowest)
            return self._draw(
                lambda cost: (cost <= limit).astype(np.float64), np.flatnonzero(self._low <= limit)
            )
        scale = self.settings.temperature * self.n_positions
        # All that is dearer than this has together less chance than a float between 0 and 1 resolves.
        rows = np.flatnonzero(self._low <= lowest + 80 * scale)
        return self._draw(lambda cost: np.exp(-(cost - lowest) / scale), rows)

    def _lowest(self) -> tuple[float, int, int]:
        """The lowest cost and its first pair, rows before columns."""
        seen = np.zeros(len(self._low), bool)
        while True:
            i = int(self._low.argmin())
            row = self._row(i)
            j = int(row.argmin())
            if seen[i]:
                return float(row[j]), i, j
            self._low[i] = row[j]
            seen[i] = True

    def _highest(self) -> float:
        """The highest cost. A cost rises by at most c_i for every unit by which log₂(k−1) falls."""
        seen = np.zeros(len(self._high), bool)
        while True:
            bound = self._high + (self._high_log - self._log) * self._active
            bound[~seen] *= 1 + 1e-9 * np.sign(bound[~seen])  # more than rounding can take away
            bound[~self._alive] = -np.inf
            i = int(bound.argmax())
            if seen[i]:
                return float(self._high[i])
            row = self._row(i)
            self._high[i] = row[np.isfinite(row)].max()
            self._high_log[i] = self._log
            seen[i] = True

    def _draw(self, weight: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> tuple[int, int]:
        """A pair i < j with a chance proportional to its weight (0 to 1); ``rows`` hold all that have any.

        Pairs are drawn blindly and kept with the chance of their weight; where that does not soon
        succeed, all weights are added up. Either way the chances are exactly those asked for.
        """
        groups = np.flatnonzero(self._alive)
        for _ in range(_TRIES // _ROWS):
            i = self.random.integers(self.k, size=_ROWS)
            j = self.random.integers(self.k - 1, size=_ROWS)
            j += j >= i
            i, j = groups[np.minimum(i, j)], groups[np.maximum(i, j)]
            kept = np.flatnonzero(self.random.random(_ROWS) < weight(self._pairs(i, j)))
            if len(kept):
                return int(i[kept[0]]), int(j[kept[0]])
        sums = np.array([weight(self._row(int(i))[i + 1 :]).sum() for i in rows])
        at = np.searchsorted(np.cumsum(sums), self.random.random() * sums.sum(), side="right")
        i = int(rows[min(int(at), int(np.flatnonzero(sums)[-1]))])
        along = weight(self._row(i)[i + 1 :])
        at = np.searchsorted(np.cumsum(along), self.random.random() * along.sum(), side="right")
        return i, i + 1 + min(int(at), int(np.flatnonzero(along)[-1]))

    # ---- merging --------------------------------------------------------------------------------

    def _merge(self, i: int, j: int) -> None:
        both = self._bits[i] & self._bits[j]
        shared = np.flatnonzero(both)
        # |(i ∪ j) ∩ l| = |i ∩ l| + |j ∩ l| − |i ∩ j ∩ l|; the last is counted where i and j meet only.
        triple = np.zeros(len(self._bits), np.int32)
        if len(shared) * 2 < len(both):
            both = both[shared]
            for at, rows in enumerate(_chunks(self._bits)):
                triple[at * _ROWS : at * _ROWS + len(rows)] = np.bitwise_count(rows[:, shared] & both).sum(1)
        elif len(shared):
            for at, rows in enumerate(_chunks(self._bits)):
                triple[at * _ROWS : at * _ROWS + len(rows)] = np.bitwise_count(rows & both).sum(1)
        joint = self._joint[i] + self._joint[j] - triple
        active = self._active[i] + self._active[j] - self._joint[i, j]
        joint[i] = active
        self._joint[i] = joint
        self._joint[:, i] = joint
        self._bits[i] |= self._bits[j]
        self._active[i], self._size[i] = active, self._size[i] + self._size[j]
        self._active[j] = self._size[j] = 0
        self._alive[j] = False
        self.k -= 1
        row = self._row(i)
        self._low = np.minimum(self._low, row)
        self._low[i], self._low[j] = row.min(), np.inf
        if self.settings.choice == "range" and self.k > 1:
            self._high += (self._high_log - self._log) * self._active
            self._high_log[:] = self._log
            self._high = np.maximum(self._high, np.where(np.isfinite(row), row, -np.inf))
            self._high[i] = row[np.isfinite(row)].max()

    def _compact(self) -> None:
        """Forget the rows that are no groups any more; happens about log₂ C times in all."""
        kept = np.flatnonzero(self._alive)
        self._bits = self._bits[kept]
        self._joint = self._joint[np.ix_(kept, kept)]
        for name in ("_active", "_size", "_name", "_low", "_high", "_high_log", "_alive"):
            setattr(self, name, getattr(self, name)[kept])


def regroup(bits: np.ndarray, merges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The table of groups that the ``merges`` [t, 2] lead to: bits, sizes and names for a :class:`Merger`."""
    bits, sizes = bits.copy(), np.ones(len(bits), np.int64)
    for first, second in merges:
        bits[first] |= bits[second]
        sizes[first] += sizes[second]
        sizes[second] = 0
    names = np.flatnonzero(sizes)
    return bits[names], sizes[names], names
