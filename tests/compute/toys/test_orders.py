"""Orders and errors of importance matrices, against every permutation and by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compute.toys.orders import assign, dense_errors, dense_order, identity_errors, identity_order


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_assignment_is_the_best_of_all(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 4))
    columns = data.draw(st.integers(rows, 5))
    gains = data.draw(arrays(np.float64, (rows, columns), elements=st.integers(-3, 3).map(float)))
    found = assign(gains)
    best = max(sum(gains[i, p[i]] for i in range(rows)) for p in permutations(range(columns), rows))
    assert len(set(found.tolist())) == rows
    assert gains[np.arange(rows), found].sum() == best


def test_more_rows_than_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows"):
        assign(np.zeros((3, 2)))


def test_the_best_assignment_is_not_the_greedy_one() -> None:
    # Feature 0 likes component 1 best, but feature 1 has nothing else.
    importance = np.array([[0.8, 0.9, 0.0], [0.0, 0.7, 0.1]])
    assert identity_order(importance).tolist() == [0, 1, 2]


def test_components_that_belong_to_no_feature_follow_in_order() -> None:
    importance = np.zeros((2, 4))
    importance[0, 3] = importance[1, 1] = 1
    assert identity_order(importance).tolist() == [3, 1, 0, 2]
    assert sorted(identity_order(np.eye(4)[:, :3]).tolist()) == [0, 1, 2]


def test_identity_errors_count_what_is_missing_and_what_is_too_much() -> None:
    shuffled = np.eye(4)[:, [2, 0, 3, 1]]
    assert identity_errors(shuffled, 0.1) == 0
    missing = np.diag([1.0, 1.0, 0.85])
    assert identity_errors(missing, 0.1) == 1
    assert identity_errors(missing, 0.2) == 0
    extra = np.hstack([np.eye(2), np.full((2, 2), 0.15)])
    assert identity_errors(extra, 0.1) == 4
    assert identity_errors(extra, 0.2) == 0


def test_dense_errors_count_dead_columns_and_columns_too_many() -> None:
    importance = np.array([[0.5, 1.0, 0.0], [0.3, 0.2, 0.0]])
    assert dense_order(importance).tolist() == [1, 0, 2]
    assert dense_errors(importance, 1, 0.1) == 2  # both entries of column 0
    assert dense_errors(importance, 2, 0.1) == 1  # column 0 never comes near 1
    assert dense_errors(importance, 3, 0.1) == 2  # and column 2 neither
    assert dense_errors(np.ones((3, 2)), 2, 0.1) == 0
