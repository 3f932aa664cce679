"""Sums, histograms and tables: the same whatever the order and the cuts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.statistics.exact import ExactSums
from compute.statistics.histogram import LOWEST, Histograms, coarsened
from compute.statistics.tables import DenseTable, SparseTable

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-30)


@given(st.lists(NUMBERS, min_size=1, max_size=20), st.randoms())
def test_sums_in_any_order_are_the_same_and_right(numbers: list[float], random) -> None:
    def total(order: list[float]) -> np.ndarray:
        sums = ExactSums(1)
        for number in order:
            sums.add(np.array([number]))
        return sums.parts

    shuffled = list(numbers)
    random.shuffle(shuffled)
    parts = total(numbers)
    np.testing.assert_array_equal(parts, total(shuffled))
    value = Fraction(int(parts[0, 0]), 2**20) + Fraction(int(parts[0, 1]), 2**60)
    assert abs(value - sum(map(Fraction, numbers))) <= len(numbers) * Fraction(1, 2**60)
    assert 0 <= parts[0, 1] < 2**40


VALUES = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@given(st.lists(st.tuples(st.integers(0, 2), VALUES), max_size=40), st.integers(1, 4))
def test_histograms_are_those_of_binning_everything_at_once(
    firings: list[tuple[int, float]], cuts: int
) -> None:
    grown = Histograms(3, 8)
    for part in np.array_split(np.arange(len(firings)), cuts):
        some = sorted((firings[i] for i in part), key=lambda f: f[0])
        grown.add(np.array([c for c, _ in some], np.int64), np.array([v for _, v in some], np.float32))
    for c in range(3):
        values = [v for component, v in firings if component == c]
        largest = max(map(abs, values), default=0.0)
        width = Fraction(2) ** int(grown.exponent[c])
        assert largest < 4 * width
        if largest and grown.exponent[c] > LOWEST:
            assert largest >= 2 * width  # as fine as it can be
        expected = [0] * 8
        for value in values:
            expected[(Fraction(value) // width) + 4] += 1
        assert grown.counts[c].tolist() == expected


def test_a_histogram_by_hand() -> None:
    histograms = Histograms(1, 4)
    histograms.add(np.zeros(3, int), np.array([0.5, -0.5, 0.9], np.float32))  # width ½: −1 … 1
    assert histograms.exponent.tolist() == [-1]
    assert histograms.counts.tolist() == [[0, 1, 0, 2]]
    histograms.add(np.zeros(1, int), np.array([3.0], np.float32))  # width 2: −4 … 4
    assert histograms.exponent.tolist() == [1]
    assert histograms.counts.tolist() == [[0, 1, 2, 1]]
    assert coarsened(np.array([[1, 2, 3, 4]]), np.array([5])).tolist() == [[0, 3, 7, 0]]


@given(
    st.lists(
        st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 6)), st.integers(1, 1000), max_size=12),
        max_size=6,
    ),
    st.integers(1, 20),
)
def test_sparse_and_dense_tables_agree(parts: list[dict[tuple[int, int], int]], limit: int) -> None:
    dense, sparse = DenseTable(5, 7, np.int64), SparseTable(5, 7, 0)
    sparse._limit = limit
    for part in parts:
        rows = np.array([r for r, _ in part], np.int64)
        ids = np.array([i for _, i in part], np.int64)
        values = np.array(list(part.values()), np.int64)
        for table in (dense, sparse):
            table.add(rows, ids, values)
    block = np.arange(6).reshape(2, 3).astype(np.float32)
    dense.add_block(np.array([3, 1]), np.array([0, 2, 6]), block)
    sparse.add(np.repeat([3, 1], 3), np.tile([0, 2, 6], 2), block.reshape(-1))
    for first, last in ((0, 5), (1, 3), (4, 4)):
        for one, other in zip(dense.lists(first, last), sparse.lists(first, last), strict=True):
            np.testing.assert_array_equal(one, other)
