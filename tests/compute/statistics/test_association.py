"""Association statistics: tables worked out by hand, and what must hold for any table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.statistics.association import associations, strongest, wilson


def test_a_table_by_hand() -> None:
    # 100 positions; a at 10, b at 20, both at 8: only a 2, only b 12, neither 78.
    found = associations(np.array([8.0]), 10, np.array([20.0]), 100)
    assert found.precision == 8 / 20
    assert found.recall == 8 / 10
    assert found.jaccard == 8 / 22
    assert found.expected == 2.0
    assert found.lift[0] == pytest.approx(8.5 / 2.5)
    assert found.pmi[0] == pytest.approx(math.log(8.5 / 2.5))
    # chi-squared with 17 degrees of freedom: 7.564 and 30.191; a gamma of shape 8.5 is half of it
    assert found.pmi_low[0] == pytest.approx(math.log(7.564 / 2 / 2.5), abs=4e-3)
    assert found.pmi_high[0] == pytest.approx(math.log(30.191 / 2 / 2.5), abs=4e-3)


def test_intervals_of_few_counts_against_tables() -> None:
    # Chi-squared quantiles for 1, 3, 4, 5, 7, 8 and 21 degrees of freedom, halved: counts 0, 1, 1½ (a mass)
    # and so on, up to 10.
    counts = np.array([0.0, 1, 1.5, 2, 3, 3.5, 10])
    found = associations(counts, 1000, np.full(7, 1000.0), 1_000_000)
    low, high = np.exp(found.pmi_low) * 1.5, np.exp(found.pmi_high) * 1.5
    expected = np.array([0.000982, 0.2158, 0.4844, 0.8312, 1.6899, 2.1797, 10.283]) / 2
    assert low == pytest.approx(expected, rel=0.02)
    assert low[:5] == pytest.approx(expected[:5], rel=5e-4)
    assert high == pytest.approx(
        np.array([5.024, 9.348, 11.143, 12.833, 16.013, 17.535, 35.479]) / 2, rel=0.02
    )


def test_wilson_intervals_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29, by the score method.
    share, low, high = wilson(np.array([81.0, 15, 0, 1]), np.array([263.0, 148, 20, 29]))
    assert share == pytest.approx([81 / 263, 15 / 148, 0, 1 / 29])
    assert low == pytest.approx([0.2553, 0.0624, 0.0, 0.0061], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=5e-5)


def test_nothing_is_not_a_share() -> None:
    found = associations(np.array([0.0]), 0, np.array([0.0]), 50)
    assert np.isnan(found.precision[0])
    assert np.isnan(found.recall[0])
    assert (found.precision_low[0], found.precision_high[0]) == (0, 1)
    assert np.isfinite([found.pmi[0], found.pmi_low[0], found.pmi_high[0]]).all()
    assert found.pmi_low[0] < 0 < found.pmi_high[0]


def test_what_never_meets_is_the_strongest_negative_if_chance_expected_it() -> None:
    n = 10_000
    joint = np.array([0, 0, 30, 400, 100])
    others = np.array([3_000, 10, 1_000, 500, 1_000])  # expected 300, 1, 100, 50, 100
    found = associations(joint, 1_000, others, n)
    assert strongest(found, 5, "negative").tolist() == [0, 2]
    assert strongest(found, 5, "positive").tolist() == [3]


def test_rare_things_do_not_dominate() -> None:
    # Both always fire where the other is; one was seen 2 times, one 2000 times, out of a million.
    found = associations(np.array([2, 2000]), 4000, np.array([2, 2000]), 1_000_000)
    assert found.precision.tolist() == [1, 1]
    assert strongest(found, 2, "positive").tolist() == [1]  # twice proves nothing


def test_impossible_counts_are_refused() -> None:
    for joint, a, b, total in ((3, 2, 5, 10), (1, 6, 6, 10), (-1, 2, 2, 10), (2, 12, 3, 10)):
        with pytest.raises(ValueError, match=r"more often|exceed"):
            associations(np.array([joint]), a, np.array([b]), total)


def test_rounded_masses_are_accepted() -> None:
    # A small harvest rounds masses: of a component that always fires they may come out above the total.
    exact = associations(np.array([50_000.0]), 2_000_000, np.array([50_000.0]), 2_000_000)
    for mass in (50_012.0, 49_988.0):
        rounded = associations(np.array([mass]), 2_000_000, np.array([50_000.0]), 2_000_000)
        assert rounded.precision[0] == pytest.approx(1, abs=3e-4)
        assert rounded.precision[0] <= 1
        assert rounded.pmi[0] == pytest.approx(exact.pmi[0], abs=3e-4)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int, int]:
    both, only_a, only_b, neither = (draw(st.integers(0, 10**9)) for _ in range(4))
    return both, both + only_a, both + only_b, both + only_a + only_b + neither


@given(tables())
def test_shares_lie_in_their_intervals_and_everything_is_finite(table: tuple[int, int, int, int]) -> None:
    both, a, b, n = table
    found = associations(np.array([both]), a, np.array([b]), n)
    for name in ("precision", "recall"):
        share = getattr(found, name)[0]
        low, high = getattr(found, f"{name}_low")[0], getattr(found, f"{name}_high")[0]
        assert 0 <= low <= high <= 1
        assert np.isnan(share) or low - 1e-12 <= share <= high + 1e-12
    assert np.isfinite(found.pmi_low[0])
    assert found.pmi_low[0] <= found.pmi[0] <= found.pmi_high[0]


@given(tables())
def test_the_two_sides_are_alike(table: tuple[int, int, int, int]) -> None:
    both, a, b, n = table
    one = associations(np.array([both]), a, np.array([b]), n)
    other = associations(np.array([both]), b, np.array([a]), n)
    assert one.lift[0] > 0
    assert one.pmi == pytest.approx(other.pmi)
    assert one.pmi_low == pytest.approx(other.pmi_low)
    np.testing.assert_array_equal(one.precision, other.recall)
    np.testing.assert_array_equal(one.jaccard, other.jaccard)


def test_intervals_cover_as_often_as_they_say() -> None:
    # Tables drawn with a true lift of 2: about 95 % of the intervals must hold it.
    rng = np.random.default_rng(0)
    n, p_a, p_b, lift = 20_000, 0.05, 0.02, 2.0
    p_ab = lift * p_a * p_b
    drawn = rng.multinomial(n, [p_ab, p_a - p_ab, p_b - p_ab, 1 - p_a - p_b + p_ab], 4000)
    both, a, b = drawn[:, 0], drawn[:, 0] + drawn[:, 1], drawn[:, 0] + drawn[:, 2]
    found = associations(both, a, b, n)
    covered = np.mean((found.pmi_low <= math.log(lift)) & (math.log(lift) <= found.pmi_high))
    assert 0.93 < covered < 0.98
