"""What a pass over part of the text looks at."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.pipelines.common import UsageError
from backend.pipelines.groups import parse_groups, spread
from storage.layout import GROUPS


def test_groups_by_name():
    assert parse_groups("all") == list(range(GROUPS))
    assert parse_groups("3") == [3]
    assert parse_groups("2-4") == [2, 3, 4]


@pytest.mark.parametrize("text", ["", "4-2", "0-16", "-1", "1,2", "x"])
def test_what_is_no_range_of_groups_is_refused(text: str):
    with pytest.raises(UsageError, match="not a range of groups"):
        parse_groups(text)


def test_a_part_lies_evenly_over_the_whole_group():
    assert list(spread(0, 100, 4 * GROUPS)) == [12, 37, 62, 87]
    assert list(spread(0, 5, 5 * GROUPS)) == [0, 1, 2, 3, 4]
    assert list(spread(0, 5, 99 * GROUPS)) == [0, 1, 2, 3, 4]
    assert list(spread(0, 3, None)) == [0, 1, 2]
    assert [len(spread(group, 100, GROUPS + 2)) for group in range(GROUPS)] == [2, 2, *[1] * (GROUPS - 2)]


@given(st.integers(0, GROUPS - 1), st.integers(0, 400), st.integers(1, 5000))
def test_no_batch_comes_twice_and_no_stretch_is_left_out(group: int, count: int, limit: int):
    chosen = list(spread(group, count, limit))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, limit // GROUPS + (group < limit % GROUPS))
    edges = [-1, *chosen, count]
    if chosen:
        assert max(b - a for a, b in pairwise(edges)) <= count // len(chosen) + 1
        assert chosen[0] >= 0
        assert chosen[-1] < count
