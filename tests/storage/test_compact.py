"""Compact stores: every query answers, close to the full store, and the loss is what the manifest says."""

from __future__ import annotations

import numpy as np
import pytest

from compute.address import parse_key
from storage.attributions import AttributionStore
from storage.compact import compact
from storage.compact_codes import (
    pack_deviations,
    pack_relative_errors,
    unpack_deviations,
    unpack_relative_error,
)
from storage.errors import NotComputedError, StorageError, StoreDamagedError
from storage.merge import merge
from storage.run_directory import RunDirectory

Pair = tuple[AttributionStore, AttributionStore]


@pytest.fixture
def pair(run_copy: RunDirectory) -> Pair:
    full = run_copy.attributions()
    return full, run_copy.attributions(compact(run_copy))


def test_strongest_entries_stay(pair: Pair) -> None:
    full, small = pair
    assert small.encoding == "compact"
    assert small.manifest.encoding_note is not None
    for metric in full.metrics:
        for text in ("0.attn.q:1", "1.attn.o:2", "output:9"):
            key = parse_key(text)
            if metric == "attr_abs" and text.startswith("output") and not full.has_output_abs:
                with pytest.raises(NotComputedError):
                    small.top_sources(key, 3, "positive", metric)
                continue
            for sign in ("positive", "negative"):
                expected = full.top_sources(key, 5, sign, metric)
                found = small.top_sources(key, 5, sign, metric)
                assert abs(expected.total - found.total) <= 1  # a value next to zero may round to it
                assert found.total_value == pytest.approx(expected.total_value, rel=2e-3)
                for a, b in zip(expected.entries, found.entries, strict=True):
                    assert b.value == pytest.approx(a.value, rel=2e-3)
                    single = small.attribution(a.key, key, metric)
                    assert single.value == pytest.approx(a.value, rel=2e-3)
                    assert single.support == a.support
                    assert (single.standard_error is None) == (a.standard_error is None)
                    if a.standard_error is not None:
                        assert single.standard_error == pytest.approx(a.standard_error, rel=0.25)
        for text in ("embed:30", "0.attn.o:0", "0.attn.o:delta"):
            expected = full.top_targets(parse_key(text), 5, "positive", metric)
            found = small.top_targets(parse_key(text), 5, "positive", metric)
            assert [e.value for e in found.entries] == pytest.approx(
                [e.value for e in expected.entries], rel=2e-3
            )


def test_the_stated_loss_holds(pair: Pair) -> None:
    full, small = pair
    loss = small.manifest.encoding_loss
    assert 0 < loss["rounding_of_row_maximum"] <= 1e-3
    assert loss["standard_errors_median_relative_error"] < 0.1
    planes = full._planes, small._planes  # pyright: ignore[reportPrivateUsage]
    for array in full.manifest.arrays:
        if array.name.startswith(("signed/", "frozen_delta/")):
            a, b = (p.total(array.name).astype(float) for p in planes)
            assert np.abs(a - b).max() <= loss["rounding_of_row_maximum"] * np.abs(a).max() * 1.001
            a, b = (p.groups(array.name) for p in planes)
            assert np.median(np.abs(a - b)) < 0.12 * np.median(np.abs(a))
        elif array.dtype == "<f8":
            a, b = (p.total(array.name) for p in planes)
            assert np.array_equal(a, b)


def test_it_is_small(pair: Pair) -> None:
    """Rows of a toy are a dozen numbers, so their scales weigh; the bundled run's ratio is 0.06."""
    full, small = pair
    assert sum(small.manifest.sizes.values()) < 0.25 * sum(full.manifest.sizes.values())


def test_raw_standard_errors_of_attr_abs_are_not_kept(pair: Pair) -> None:
    full, small = pair
    entry = small.top_sources(parse_key("0.attn.o:1"), 1, "positive", "attr_abs", normalised=False).entries[0]
    assert entry.standard_error is None
    raw = full.attribution(entry.key, parse_key("0.attn.o:1"), "attr_abs").raw
    assert entry.value == pytest.approx(raw, rel=2e-3)


def test_compact_stores_are_not_merged_or_compacted_again(run_copy: RunDirectory, pair: Pair) -> None:
    full, small = pair
    with pytest.raises(StorageError, match="compact"):
        merge([full.path, small.path], run_copy.path)
    with pytest.raises(StorageError, match="compact already"):
        compact(run_copy, small.subrun)


def test_damage_is_found(run_copy: RunDirectory, pair: Pair) -> None:
    small = pair[1]
    assert small.verify() > 0
    file = small.path / "compact.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 16
    file.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"compact\.bin"):
        run_copy.attributions(small.subrun).verify()


def test_codes() -> None:
    rng = np.random.default_rng(0)
    for width in (1, 7, 64):
        deviations = rng.normal(size=(5, 16, width))
        deviations[0, 0] = 0
        decoded = unpack_deviations(*pack_deviations(deviations), width)
        largest = np.abs(deviations).max(-1, keepdims=True)
        assert np.all(np.abs(decoded - deviations) <= 0.11 * largest + 1e-12)
        assert not decoded[0, 0].any()
    values, errors = rng.normal(size=1000), rng.gamma(1.0, 1.0, 1000)
    decoded = np.array([unpack_relative_error(int(c)) for c in pack_relative_errors(errors, values)])
    inside = np.abs(errors / values) < 1000
    assert np.all(np.abs(decoded / np.abs(errors / values) - 1)[inside] < 0.03)
    odd = pack_relative_errors(np.array([np.nan, 1.0, 0.0]), np.array([1.0, 0.0, 2.0]))
    assert np.isnan(unpack_relative_error(int(odd[0])))
    assert np.isnan(unpack_relative_error(int(odd[1])))
    assert unpack_relative_error(int(odd[2])) == 0.0
