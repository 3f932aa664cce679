"""What components do on a text, reduced while it is computed, against all of it at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.activity import _rank, activity, firings  # pyright: ignore[reportPrivateUsage]
from compute.progress import Cancelled, silent
from tests.support.tiny_run import tiny_decomposition

MODEL = tiny_decomposition()
TOTAL = MODEL.total_components


def whole(tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """CI and scaled activation [T, all components], by the definitions."""
    with torch.no_grad():
        _, inputs = MODEL.clean_pass(tokens[None])
        importance = MODEL.causal_importance(inputs)
        ci = [importance[a][0].numpy() for a in sorted(MODEL.addresses)]
        act = [
            ((inputs[a][0] @ MODEL.V(a)) * MODEL.U(a).square().sum(1).sqrt()).numpy()
            for a in sorted(MODEL.addresses)
        ]
    return np.concatenate(ci, 1), np.concatenate(act, 1)


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 269), min_size=1, max_size=12),
    k=st.integers(0, 100),
    per_token=st.integers(0, 30),
    asked=st.lists(st.integers(0, TOTAL - 1), max_size=5, unique=True),
    threshold=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_reducing_site_by_site_is_reducing_all(
    tokens: list[int], k: int, per_token: int, asked: list[int], threshold: float
) -> None:
    ids = torch.tensor(tokens)
    ci, activation = whole(ids)
    found = firings(MODEL, ids, silent, asked=asked, k=k, per_token=per_token, threshold=threshold)
    np.testing.assert_allclose(found.asked.ci, ci[:, asked], rtol=1e-6)
    np.testing.assert_allclose(found.asked.activation, activation[:, asked], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found.per_token, (ci > threshold).sum(1))
    assert found.firing == int((ci > threshold).any(0).sum())
    sums = ci.sum(0, dtype=np.float64)
    expected = np.sort(sums[sums > 0])[::-1][:k]
    np.testing.assert_allclose(found.strongest.ci.sum(0, dtype=np.float64), expected, rtol=1e-6)
    np.testing.assert_allclose(found.strongest.ci, ci[:, found.strongest.flat], rtol=1e-6)
    rows = np.arange(len(tokens))[:, None]
    order = np.lexsort((-np.abs(activation), -ci))[:, :per_token]
    best, fires = ci[rows, order], found.top >= 0
    np.testing.assert_array_equal(fires, best > threshold)
    np.testing.assert_allclose(found.top_ci[fires], best[fires], atol=1e-6)
    # Where importance is saturated the activation alone decides.
    full = fires & (best == 1)
    np.testing.assert_allclose(
        np.abs(found.top_activation[full]), np.abs(activation[rows, order][full]), rtol=1e-5, atol=1e-7
    )
    columns = np.broadcast_to(rows, fires.shape)[fires]
    np.testing.assert_allclose(found.top_ci[fires], ci[columns, found.top[fires]], rtol=1e-6)
    np.testing.assert_allclose(
        found.top_activation[fires], activation[columns, found.top[fires]], rtol=1e-5, atol=1e-7
    )


def test_what_is_usual_is_no_news() -> None:
    """With the usual given, the strongest are those furthest above it, and the always-on are not among them."""
    ids = torch.tensor([3, 1, 4, 1, 5, 9])
    ci, _ = whole(ids)
    usual = np.random.default_rng(0).random(TOTAL) * 0.5
    usual[ci.mean(0).argmax()] = 1.0
    found = firings(MODEL, ids, silent, k=6, per_token=3, usual=usual)
    above = ci.sum(0, dtype=np.float64) - len(ids) * usual
    expected = [flat for flat in np.argsort(-above)[:6] if above[flat] > 0]
    assert found.strongest.flat.tolist() == expected
    assert ci.mean(0).argmax() not in expected
    for position in range(len(ids)):
        excess = np.where(ci[position] > 0, np.maximum(ci[position] - usual, 0), -1)
        shown = excess[found.top[position]]
        np.testing.assert_allclose(shown, np.sort(excess)[::-1][:3], atol=1e-6)
    # Counts are of all that fire, whatever is usual.
    np.testing.assert_array_equal(found.per_token, (ci > 0).sum(1))


def test_one_site_alone_is_the_same() -> None:
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    every = {address: (ci, act) for address, ci, act in activity(MODEL, ids)}
    assert list(every) == sorted(MODEL.addresses)
    address = sorted(MODEL.addresses)[3]
    ((only, ci, act),) = activity(MODEL, ids, [address])
    assert only == address
    assert torch.equal(ci, every[address][0])
    assert torch.equal(act, every[address][1])


def test_rank_sorts_by_importance_then_by_size() -> None:
    ci = np.array([1.0, 0.5, 1.0, 0.5, 0.0], np.float32)
    activation = np.array([-0.1, -9.0, 0.2, 3.0, 100.0], np.float32)
    assert np.argsort(-_rank(ci, activation).astype(np.float64)).tolist() == [2, 0, 1, 3, 4]


def test_it_is_stopped_by_its_report() -> None:
    def stop(phase: str, done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        firings(MODEL, torch.tensor([1, 2]), stop)
