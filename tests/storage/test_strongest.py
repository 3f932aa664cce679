"""The strongest ends of all components, against asking for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compute.address import Key
from storage import strongest
from storage.attributions import AttributionStore
from storage.results import TopEntries
from tests.support.tiny_run import make_tiny_run


def first(positive: TopEntries, negative: TopEntries) -> tuple[float, Key] | None:
    entries = [*positive.entries, *negative.entries]
    best = max(entries, key=lambda entry: abs(entry.value), default=None)
    return None if best is None else (best.value, best.key)


@pytest.mark.parametrize("bands", [False, True])
@pytest.mark.parametrize(
    "made", [{}, {"family": "gpt2", "delta": "off", "seed": 2}, {"n_components": 9, "seed": 3}]
)
def test_strongest_ends_are_those_of_single_queries(
    tmp_path: Path, made: dict[str, Any], bands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bands:
        monkeypatch.setattr(strongest, "_CELLS", 700)  # a few rows at a time
    run = make_tiny_run(tmp_path / "run", statistics=False, **made)
    store: AttributionStore = run.attributions()
    reports: list[tuple[int, int]] = []
    found = store.strongest_ends(lambda _, done, total: reports.append((done, total)))
    assert reports == sorted(reports)
    compared = 0
    for site in run.info.sites:
        for index in range(site.n_components):
            key = Key(site.parsed, index)
            sources = first(store.top_sources(key, 1, "positive"), store.top_sources(key, 1, "negative"))
            targets = first(store.top_targets(key, 1, "positive"), store.top_targets(key, 1, "negative"))
            for expected, ends in (
                (sources, found.sources[site.parsed]),
                (targets, found.targets[site.parsed]),
            ):
                if expected is None:
                    assert np.isnan(ends.value[index])
                    assert ends.key(index) is None
                else:
                    assert ends.value[index] == pytest.approx(expected[0], rel=1e-4, abs=1e-9)
                    assert ends.key(index) == expected[1]
                    compared += 1
    assert compared > run.info.n_components
