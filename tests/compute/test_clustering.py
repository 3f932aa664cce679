"""Merging of groups against the published formula written out, with exact counts; and what is sampled."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.clustering import (
    MembershipCollector,
    Merger,
    MergeSettings,
    Sample,
    counts,
    joint_counts,
    pack,
    regroup,
)
from tests.support.tiny_run import tiny_decomposition

LOWEST = MergeSettings()


def published_cost(table: np.ndarray, sizes: list[int], i: int, j: int, alpha: float) -> float:
    """The formula as published, in plain floats: ``table`` [k, N] bool are the groups there are."""
    k, n = table.shape
    s = table.mean(1)
    either = (table[i] | table[j]).sum() / n
    return (
        (s.sum() - s[i] - s[j]) * math.log2((k - 1) / k)
        + (either * math.log2(k - 1) if k > 2 else 0.0)
        - s[i] * math.log2(k)
        - s[j] * math.log2(k)
        + alpha * (either * (sizes[i] + sizes[j]) - s[i] * sizes[i] - s[j] * sizes[j])
    )


def length(table: np.ndarray, sizes: list[int], alpha: float) -> float:
    k = len(table)
    return float(sum(table[i].mean() * (math.log2(k) + alpha * sizes[i]) for i in range(k)))


def costs(table: np.ndarray, sizes: list[int], alpha: float) -> dict[tuple[int, int], float]:
    return {(i, j): published_cost(table, sizes, i, j, alpha) for i, j in combinations(range(len(table)), 2)}


def joined(table: np.ndarray, sizes: list[int], i: int, j: int) -> tuple[np.ndarray, list[int]]:
    table = table.copy()
    table[i] |= table[j]
    return np.delete(table, j, 0), [
        size + (sizes[j] if at == i else 0) for at, size in enumerate(sizes) if at != j
    ]


tables = st.integers(2, 9).flatmap(
    lambda k: st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=1, max_size=90).map(
        lambda columns: np.array(columns, bool).T
    )
)


# ---- counts -------------------------------------------------------------------------------------


@given(tables)
@settings(max_examples=50, deadline=None)
def test_bits_are_counted_exactly(table: np.ndarray) -> None:
    bits = pack(table)
    assert counts(bits).tolist() == table.sum(1).tolist()
    whole = table.astype(np.int64)
    assert np.array_equal(joint_counts(bits), whole @ whole.T)


def test_counts_beyond_16_bits_do_not_overflow() -> None:
    n = 70_000
    table = np.ones((3, n), bool)
    table[1, :100] = False
    assert counts(pack(table)).tolist() == [n, n - 100, n]
    assert joint_counts(pack(table))[1, 2] == n - 100
    merger = Merger(pack(table), n, LOWEST)
    first = merger.step()
    assert (first.first, first.second, first.joint, first.active) == (0, 2, n, n)


def test_more_than_32767_groups_keep_their_names() -> None:
    """Group numbers were 16-bit integers once. Only what names groups is tried: costs would take hours."""
    n = 40_000
    bits = np.zeros((n, 1), np.uint64)
    bits[-2:] = 3
    grouped, sizes, names = regroup(bits, np.array([[n - 2, n - 1]]))
    assert (names[-1], sizes[-1], len(grouped)) == (n - 2, 2, n - 1)


# ---- merging ------------------------------------------------------------------------------------


def test_a_case_by_hand() -> None:
    """Four positions; a and b always together at two of them, c at one other."""
    table = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], bool)
    merger = Merger(pack(table), 4, LOWEST)
    # Σ s_i (log₂ 3 + 1) = 5/4 · (log₂ 3 + 1)
    assert merger.description_length == pytest.approx(1.25 * (math.log2(3) + 1))
    merge = merger.step()
    # a and b: groups {ab} at 2/4 with 2 members, {c} at 1/4: 2/4·(1 + 2) + 1/4·(1 + 1) = 2
    assert (merge.first, merge.second, merge.joint, merge.active) == (0, 1, 2, 2)
    assert merger.description_length == pytest.approx(2.0)
    assert merge.cost == pytest.approx(2.0 - 1.25 * (math.log2(3) + 1))
    # One group of all: at 3/4, no bit to name it, three to name its members.
    assert merger.step().cost == pytest.approx(0.75 * 3 - 2.0)
    assert merger.description_length == pytest.approx(2.25)
    with pytest.raises(ValueError, match="one group"):
        merger.step()


@given(
    tables,
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    st.sampled_from(["lowest", "range", "mcmc"]),
    st.integers(0, 5),
)
@settings(max_examples=120, deadline=None)
def test_every_merge_is_the_published_one(table: np.ndarray, alpha: float, choice: str, seed: int) -> None:
    n = table.shape[1]
    how = MergeSettings(alpha=alpha, choice=choice, spread=0.3, temperature=0.2, seed=seed)  # type: ignore[arg-type]
    merger = Merger(pack(table), n, how)
    sizes, names = [1] * len(table), list(range(len(table)))
    before = length(table, sizes, alpha)
    while merger.k > 1:
        assert merger.description_length == pytest.approx(before, abs=1e-9)
        every = costs(table, sizes, alpha)
        lowest, highest = min(every.values()), max(every.values())
        merge = merger.step()
        i, j = names.index(merge.first), names.index(merge.second)
        assert merge.cost == pytest.approx(every[i, j], abs=1e-9)
        if choice == "lowest":
            assert every[i, j] == pytest.approx(lowest, abs=1e-9)
        elif choice == "range":
            assert every[i, j] <= lowest + 0.3 * (highest - lowest) + 1e-9
        assert merge.joint == int((table[i] & table[j]).sum())
        table, sizes = joined(table, sizes, i, j)
        names.remove(merge.second)
        assert merge.active == int(table[names.index(merge.first)].sum())
        after = length(table, sizes, alpha)
        assert after - before == pytest.approx(merge.cost, abs=1e-9)
        before = after


def _random_table(seed: int, k: int, n: int) -> np.ndarray:
    """Components that follow a few shared causes, of densities far apart."""
    rng = np.random.default_rng(seed)
    cause = rng.random((6, n)) < 0.1
    return np.stack(
        [(cause[rng.integers(6)] & (rng.random(n) < 0.8)) | (rng.random(n) < p) for p in rng.random(k) ** 3]
    )


def test_the_whole_history_equals_a_search_of_all_pairs() -> None:
    """Rows are looked at again only where they can matter, and forgotten when they are merged away."""
    table = _random_table(3, 40, 400)
    merger = Merger(pack(table), 400, LOWEST)
    sizes, names = [1] * 40, list(range(40))
    while merger.k > 1:
        every = costs(table, sizes, 1.0)
        merge = merger.step()
        i, j = names.index(merge.first), names.index(merge.second)
        assert every[i, j] == pytest.approx(min(every.values()), abs=1e-9)
        table, sizes = joined(table, sizes, i, j)
        names.remove(merge.second)


@pytest.mark.parametrize("choice", ["lowest", "range", "mcmc"])
def test_what_is_interrupted_goes_on_as_if_it_were_not(choice: str) -> None:
    bits = pack(_random_table(5, 40, 500))
    how = MergeSettings(choice=choice, temperature=0.05, seed=7)  # type: ignore[arg-type]
    whole = Merger(bits.copy(), 500, how)
    every = [whole.step() for _ in range(39)]
    started = Merger(bits.copy(), 500, how)
    done = [started.step() for _ in range(17)]
    grouped, sizes, names = regroup(bits, np.array([(m.first, m.second) for m in done]))
    resumed = Merger(grouped, 500, how, sizes=sizes, names=names)
    resumed.random_state = started.random_state
    assert done + [resumed.step() for _ in range(22)] == every


def test_the_seed_decides_what_is_drawn() -> None:
    bits = pack(_random_table(5, 40, 500))

    def history(seed: int) -> list[tuple[int, int]]:
        merger = Merger(bits.copy(), 500, MergeSettings(choice="range", spread=0.2, seed=seed))
        return [(m.first, m.second) for m in (merger.step() for _ in range(10))]

    assert history(1) == history(1)
    assert len({tuple(history(seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize("blind", [True, False], ids=["drawn blindly", "all added up"])
@pytest.mark.parametrize("choice", ["range", "mcmc"])
def test_pairs_are_drawn_with_their_chances(
    choice: str, blind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not blind:
        monkeypatch.setattr("compute.clustering._TRIES", 0)
    table = _random_table(11, 6, 200)
    every = costs(table, [1] * 6, 1.0)
    lowest, highest = min(every.values()), max(every.values())
    how = MergeSettings(choice=choice, spread=0.7, temperature=0.3)  # type: ignore[arg-type]
    if choice == "range":
        chance = {pair: float(cost <= lowest + 0.7 * (highest - lowest)) for pair, cost in every.items()}
    else:
        chance = {pair: math.exp(-cost / 0.3) for pair, cost in every.items()}
    total = sum(chance.values())
    assert 3 <= sum(value > 0.02 * total for value in chance.values()) < (15 if choice == "range" else 16)
    drawn: Counter[tuple[int, int]] = Counter()
    draws = 1500
    for seed in range(draws):
        merge = Merger(pack(table), 200, replace(how, seed=seed)).step()
        drawn[merge.first, merge.second] += 1
    for pair, value in chance.items():
        p = value / total
        assert drawn[pair] == pytest.approx(draws * p, abs=4.5 * math.sqrt(draws * p * (1 - p)) + 1e-9)


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"spread": 1.5}, {"temperature": 0.0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needed"):
        MergeSettings(**wrong)  # type: ignore[arg-type]


# ---- what is looked at --------------------------------------------------------------------------


def test_a_sample_is_seeded_whole_windows_only_and_without_repetition() -> None:
    sample = Sample.draw(10_000, 64, 500, 8, seed=3)
    positions = (sample.starts[:, None] + sample.offsets).ravel()
    assert sample.n_positions == len(positions) == 504
    assert (np.diff(positions) > 0).all()
    assert positions[-1] < 10_000 // 64 * 64
    assert (sample.starts % 64 == 0).all()
    assert np.array_equal(Sample.draw(10_000, 64, 500, 8, seed=3).offsets, sample.offsets)
    assert not np.array_equal(Sample.draw(10_000, 64, 500, 8, seed=4).starts, sample.starts)


def test_a_sample_larger_than_the_text_is_all_of_it() -> None:
    sample = Sample.draw(1_000, 64, 10_000, 8, seed=0)
    assert (sample.starts[:, None] + sample.offsets).ravel().tolist() == list(range(960))


def test_a_text_shorter_than_a_window_is_a_window() -> None:
    sample = Sample.draw(63, 64, 10, 8, seed=0)
    assert (sample.window, sample.starts.tolist(), sample.n_positions) == (63, [0], 10)
    assert Sample.draw(1, 64, 10, 8, seed=0).offsets.tolist() == [[0]]
    with pytest.raises(ValueError, match="no text"):
        Sample.draw(0, 64, 10, 8, seed=0)


def test_every_position_has_the_same_chance() -> None:
    seen = np.zeros(320, int)
    for seed in range(400):
        sample = Sample.draw(330, 32, 40, 8, seed)
        seen[(sample.starts[:, None] + sample.offsets).ravel()] += 1
    assert seen.sum() == 400 * 40
    # Binomial of 400 draws at chance 1/8; 320 positions, so that 5 deviations are far out.
    assert abs(seen - 50).max() < 5 * math.sqrt(400 / 8 * 7 / 8)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_memberships_are_the_causal_importance_above_the_threshold(batch: int) -> None:
    decomposition = tiny_decomposition()
    tokens = torch.randint(0, 270, (11 * 32 + 5,), generator=torch.Generator().manual_seed(0))
    sample = Sample.draw(len(tokens), 32, 70, 9, seed=1)
    collector = MembershipCollector(decomposition, sample, 0.3)
    windows = torch.stack([tokens[s : s + 32] for s in sample.starts.tolist()])
    for first in range(0, len(windows), batch):
        collector.add(windows[first : first + batch], first)
    with torch.no_grad():
        _, inputs = decomposition.clean_pass(windows)
        importance = decomposition.causal_importance(inputs)
    row = 0
    for address in sorted(decomposition.addresses):
        for c in range(decomposition.n_components[address]):
            wanted = [
                bool(importance[address][w, t, c] > 0.3)
                for w in range(len(windows))
                for t in sample.offsets[w].tolist()
            ]
            found = np.unpackbits(collector.bits[row].view(np.uint8), bitorder="little")[: sample.n_positions]
            assert found.astype(bool).tolist() == wanted
            row += 1
    assert row == len(collector.bits)
    assert counts(collector.bits).sum() > 0
