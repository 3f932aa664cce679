"""Schedules at their ends, and random numbers that depend on seed and step only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compute.schedule import Schedule, generator_at, sample_windows


@pytest.mark.parametrize("decay", ["cosine", "linear"])
@pytest.mark.parametrize("final", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_end_points(decay: str, final: float) -> None:
    schedule = Schedule(peak=3.0, decay=decay, final_fraction=final)  # type: ignore[arg-type]
    assert schedule.at(0, 100) == 3.0
    assert schedule.at(99, 100) == pytest.approx(3.0 * final)


def test_midpoint_warm_up_and_single_step() -> None:
    assert Schedule(peak=2.0, decay="cosine").at(50, 101) == pytest.approx(1.0)
    warmed = Schedule(peak=1.0, warmup=0.1, decay="cosine")
    assert warmed.at(0, 100) == 0.0
    assert warmed.at(5, 100) == pytest.approx(0.5)
    assert warmed.at(10, 100) == 1.0
    assert Schedule(peak=1.0, warmup=1.0).at(99, 100) == pytest.approx(0.99)
    assert Schedule(peak=1.5).at(0, 1) == 1.5
    assert Schedule(peak=1.5, decay="constant").at(7, 9) == 1.5


@given(st.integers(0, 2**20), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 15))
def test_generators_repeat_and_differ(seed: int, step: int, other: int, stream: int) -> None:
    first = torch.rand(4, generator=generator_at(seed, step, stream))
    assert torch.equal(first, torch.rand(4, generator=generator_at(seed, step, stream)))
    if other != step:
        assert not torch.equal(first, torch.rand(4, generator=generator_at(seed, other, stream)))


def test_windows_are_consecutive_and_reach_both_ends() -> None:
    tokens = torch.arange(12, dtype=torch.int32)
    windows = sample_windows(tokens, 500, 4, generator_at(0, 0))
    assert windows.shape == (500, 5)
    assert torch.equal(windows[:, 1:] - windows[:, :-1], torch.ones(500, 4, dtype=torch.int64))
    assert windows.min() == 0
    assert windows.max() == 11
    with pytest.raises(ValueError, match="fewer than one window"):
        sample_windows(tokens, 1, 12, generator_at(0, 0))
