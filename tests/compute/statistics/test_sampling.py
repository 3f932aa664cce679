"""Examples are a uniform sample, however the firings were divided among shards."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.statistics.examples import Pool
from compute.statistics.sampling import priorities, smallest, strengths


def columns_of(key: np.ndarray, position: np.ndarray) -> dict[str, np.ndarray]:
    zero = np.zeros(len(key), np.int64)
    lines = np.zeros((len(key), 1), np.float32)
    return {
        "key": key,
        "position": position,
        "document": zero,
        "before": zero,
        "after": zero,
        "ci": lines,
        "activation": lines,
    }


def sampled(component: np.ndarray, position: np.ndarray, n: int, k: int, batches: int, seed: int) -> Pool:
    pool = Pool(n, k, 1)
    for part in np.array_split(np.arange(len(component)), batches):
        key = priorities(seed, component[part], position[part])
        wanted = pool.wanted(component[part], key, position[part])
        pool.add(component[part][wanted], columns_of(key[wanted], position[part][wanted]))
    return pool


def chi_squared_limit(degrees: int) -> float:
    """Above this by chance once in a hundred thousand times (Wilson and Hilferty)."""
    return degrees * (1 - 2 / (9 * degrees) + 4.265 * math.sqrt(2 / (9 * degrees))) ** 3


def test_every_firing_has_the_same_chance() -> None:
    # 6000 components fire at the same 40 positions; 10 of 40 are kept of each.
    n, m, k = 6000, 40, 10
    position = np.tile(np.arange(m) * 977, n)
    component = np.repeat(np.arange(n), m)
    kept = sampled(component, position, n, k, 7, seed=3).columns(0, n)
    assert np.diff(kept["offsets"]).tolist() == [k] * n
    counts = np.bincount(kept["position"] // 977, minlength=m)
    # Without replacement: each count has variance n p (1 − p), and they sum to n k.
    p = k / m
    statistic = ((counts - n * p) ** 2).sum() / (n * p * (1 - p)) * (m - 1) / m
    assert statistic < chi_squared_limit(m - 1)
    # Pairs of positions are kept together as often as without replacement: k (k − 1) / m (m − 1).
    member = np.zeros((n, m), np.int64)
    member[np.repeat(np.arange(n), k), kept["position"] // 977] = 1
    pairs = (member.T @ member)[np.triu_indices(m, 1)]
    expected = n * k * (k - 1) / (m * (m - 1))
    spread = math.sqrt(expected * (1 - expected / n))
    assert abs(pairs.mean() - expected) < 1e-6 * expected
    assert np.abs(pairs - expected).max() < 5.5 * spread
    assert abs(pairs.std() / spread - 1) < 0.15
    # The order is random too: the first place goes to each position equally often.
    first = np.bincount(kept["position"].reshape(n, k)[:, 0] // 977, minlength=m)
    assert ((first - n / m) ** 2).sum() / (n / m) < chi_squared_limit(m - 1)


def test_shards_of_different_size_are_merged_uniformly() -> None:
    # 4000 components with 5 firings in one shard and 100 in another, 10 kept: how many of the
    # 5 is hypergeometric, 10 · 5 / 105 on average.
    n, k, few, many = 4000, 10, 5, 100
    shards = []
    for first, m in ((0, few), (few, many)):
        component, position = np.repeat(np.arange(n), m), np.tile(np.arange(first, first + m), n)
        shards.append(sampled(component, position, n, k, 1, seed=1).columns(0, n))
    component = np.concatenate([np.repeat(np.arange(n), np.diff(s["offsets"])) for s in shards])
    key = np.concatenate([s["key"] for s in shards])
    position = np.concatenate([s["position"] for s in shards])
    kept = smallest(component, key, position, k)
    of_few = np.bincount(component[kept][position[kept] < few], minlength=n)
    chances = np.array(
        [math.comb(few, i) * math.comb(many, k - i) / math.comb(few + many, k) for i in range(few + 1)]
    )
    expected = n * chances[:3]
    found = np.bincount(of_few, minlength=6)[:3]
    assert ((found - expected) ** 2 / expected).sum() < chi_squared_limit(3)
    assert of_few.mean() == pytest.approx(k * few / (few + many), rel=0.07)


def test_a_seed_chooses_another_sample() -> None:
    component, position = np.zeros(1000, np.int64), np.arange(1000)
    first, second = (
        sampled(component, position, 1, 20, 1, seed).columns(0, 1)["position"].tolist() for seed in (0, 1)
    )
    assert len(set(first) & set(second)) < 10


def test_priorities_are_as_good_as_random_numbers() -> None:
    # Neighbouring components and positions, which a weak hash would give related values.
    component, position = (grid.reshape(-1) for grid in np.meshgrid(np.arange(300), np.arange(300)))
    u = priorities(0, component, position) / 2.0**64
    assert len(np.unique(u)) == len(u)
    counts = np.histogram(u, 256, (0, 1))[0]
    assert ((counts - len(u) / 256) ** 2 / (len(u) / 256)).sum() < chi_squared_limit(255)
    table = u.reshape(300, 300)
    for a, b in ((table[1:], table[:-1]), (table[:, 1:], table[:, :-1]), (table, table.T)):
        off = ~np.eye(len(a), dtype=bool) if a.shape == b.shape == (300, 300) else np.ones(a.shape, bool)
        assert abs(np.corrcoef(a[off], b[off])[0, 1]) < 0.02


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**12)), unique=True, max_size=60),
    st.integers(1, 5),
    st.integers(1, 9),
    st.randoms(),
)
def test_the_division_makes_no_difference(
    firings: list[tuple[int, int]], k: int, batches: int, random
) -> None:
    def result(order: list[tuple[int, int]], parts: int) -> list[list[int]]:
        component = np.array([c for c, _ in order], np.int64)
        position = np.array([p for _, p in order], np.int64)
        found = sampled(component, position, 4, k, parts, 5).columns(0, 4)
        return [found[name].tolist() for name in ("offsets", "position", "key")]

    shuffled = list(firings)
    random.shuffle(shuffled)
    assert result(firings, 1) == result(shuffled, batches)


@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=32), st.floats(-(2.0**90), 2.0**90, allow_nan=False, width=32)),
        min_size=2,
    )
)
def test_strength_is_importance_and_then_size(firings: list[tuple[float, float]]) -> None:
    ci = np.array([c for c, _ in firings], np.float32)
    activation = np.array([a for _, a in firings], np.float32)
    order = np.argsort(strengths(ci, activation), kind="stable")
    pairs = [(-c, -abs(a)) for c, a in zip(ci[order].tolist(), activation[order].tolist(), strict=True)]
    assert pairs == sorted(pairs)


def test_the_smallest_of_each() -> None:
    component = np.array([2, 0, 2, 2, 0, 1])
    key = np.array([5, 7, 3, 5, 1, 9], np.uint64)
    position = np.array([8, 1, 2, 4, 6, 0])
    chosen = smallest(component, key, position, 2)
    assert chosen.tolist() == [4, 1, 5, 2, 3]  # of the two with key 5 the earlier position
