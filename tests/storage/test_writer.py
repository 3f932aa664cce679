"""Interrupted and resumed work ends with the same store; the merge adds exactly what was computed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from compute.address import parse_key
from compute.attribution.sums import layout
from storage.attributions import AttributionStore
from storage.errors import SettingsDifferError, StorageError, StoreDamagedError
from storage.layout import Settings
from storage.merge import merge
from storage.run_directory import RunDirectory
from storage.writer import StoreWriter, unfinished
from tests.support.tiny_run import make_tiny_run, random_sums, tiny_decomposition, tiny_settings

Sums = list[dict[str, np.ndarray]]


@pytest.fixture
def fresh(tmp_path: Path) -> RunDirectory:
    return make_tiny_run(tmp_path / "fresh", attributions=False, statistics=False)


@pytest.fixture
def settings(fresh: RunDirectory) -> Settings:
    return tiny_settings(fresh, tiny_decomposition(vocab_size=fresh.info.target["vocab_size"]))


def group_sums(run: RunDirectory, seed: int = 0) -> Sums:
    decomposition = tiny_decomposition(vocab_size=run.info.target["vocab_size"])
    rng = np.random.default_rng(seed)
    return [random_sums(layout(decomposition, "node"), decomposition, rng, tokens=50) for _ in range(16)]


def writer(run: RunDirectory, settings: Settings, *, resume: bool = False) -> StoreWriter:
    return StoreWriter(run.path, settings, {}, method="closed_form", method_reason="test", resume=resume)


def contents(store: AttributionStore) -> dict[str, np.ndarray]:
    names = [array.name for array in store.manifest.arrays]
    return {name: store._planes.groups(name) for name in names} | {  # pyright: ignore[reportPrivateUsage]
        f"total {name}": store._planes.total(name)
        for name in names  # pyright: ignore[reportPrivateUsage]
    }


def same(a: AttributionStore, b: AttributionStore) -> bool:
    first, second = contents(a), contents(b)
    return all(np.array_equal(first[name], second[name]) for name in first.keys() | second.keys())


def test_resumed_work_ends_with_the_same_store(fresh: RunDirectory, settings: Settings) -> None:
    sums = group_sums(fresh)
    straight = writer(fresh, settings)
    for group, arrays in enumerate(sums):
        straight.write_group(group, arrays)
    first = fresh.attributions(straight.finish())

    interrupted = writer(fresh, settings)
    for group in (0, 1, 2):
        interrupted.write_group(group, sums[group])
    interrupted.write_partial(3, {name: value * 0 for name, value in sums[3].items()}, 1)
    interrupted.write_partial(3, {name: value / 2 for name, value in sums[3].items()}, 12)
    interrupted.close()
    assert [work.settings for work in unfinished(fresh.path)] == [settings]
    assert fresh.attribution_subruns() == [first.subrun]  # nothing half-done is ever listed

    resumed = writer(fresh, settings, resume=True)
    assert resumed.finished_groups == {0, 1, 2}
    assert resumed.read_partial(4) is None
    found = resumed.read_partial(3)
    assert found is not None
    arrays, position = found
    assert position == 12
    assert arrays.keys() == sums[3].keys()
    for name, value in arrays.items():
        assert value.shape == sums[3][name].shape
        assert np.allclose(value * 2, sums[3][name], rtol=1e-6)
    for group in range(3, 16):
        resumed.write_group(group, sums[group])
    assert same(first, fresh.attributions(resumed.finish()))
    assert unfinished(fresh.path) == []
    assert sorted(path.name for path in (fresh.path / "attributions").iterdir()) == sorted(
        fresh.attribution_subruns()
    )


def test_other_settings_are_refused(fresh: RunDirectory, settings: Settings) -> None:
    writer(fresh, settings).close()
    for change in ({"delta": "off"}, {"options": {"batch_size": "4"}}):
        with pytest.raises(SettingsDifferError, match=r"delta|batch_size"):
            writer(fresh, settings.model_copy(update=change), resume=True)
    writer(fresh, settings.model_copy(update={"options": {"batch_size": "4"}})).close()  # starts again
    assert len(unfinished(fresh.path)) == 1


def test_one_process_at_a_time(fresh: RunDirectory, settings: Settings) -> None:
    first = writer(fresh, settings)
    for resume in (True, False):
        with pytest.raises(StorageError, match="another process"):
            writer(fresh, settings, resume=resume)
    first.close()
    writer(fresh, settings, resume=True).close()


def test_incomplete_or_ill_shaped_groups(fresh: RunDirectory, settings: Settings) -> None:
    sums = group_sums(fresh)
    work = writer(fresh, settings)
    with pytest.raises(ValueError, match="signed/output"):
        work.write_group(0, sums[0] | {"signed/output": np.zeros((3, 16))})
    work.write_group(0, sums[0])
    with pytest.raises(ValueError, match="differ"):
        work.write_group(1, {name: value for name, value in sums[1].items() if name != "logit_sum"})
    with pytest.raises(StorageError, match="not computed yet"):
        work.finish()


def test_a_damaged_shard_is_named(fresh: RunDirectory, settings: Settings) -> None:
    work = writer(fresh, settings)
    for group, arrays in enumerate(group_sums(fresh)):
        work.write_group(group, arrays)
    shard = work.work / "group-07.bin"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"group-07\.bin"):
        work.finish()
    assert fresh.attribution_subruns() == []


_ENDLESS = """
import sys
from pathlib import Path
from storage.run_directory import RunDirectory
from tests.storage.test_writer import group_sums, writer
from tests.support.tiny_run import tiny_decomposition, tiny_settings
run = RunDirectory.open(Path(sys.argv[1]))
settings = tiny_settings(run, tiny_decomposition(vocab_size=run.info.target["vocab_size"]))
sums = group_sums(run)
work = writer(run, settings, resume=True)
for group in range(16):
    if group in work.finished_groups:
        continue
    for position in range(1, 40):
        work.write_partial(group, {k: v * position for k, v in sums[group].items()}, position)
        print(group, position, flush=True)
    work.write_group(group, sums[group])
"""


def test_killed_at_any_moment(fresh: RunDirectory, settings: Settings) -> None:
    """What a killed process left can be read, whatever it was doing."""
    sums = group_sums(fresh)
    rng = np.random.default_rng(0)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(fresh.path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.5)))
            os.kill(process.pid, signal.SIGKILL)
        work = writer(fresh, settings, resume=True)
        for group in range(16):
            partial = work.read_partial(group)
            if partial is not None:
                arrays, position = partial
                for name, value in arrays.items():
                    assert np.array_equal(value, (sums[group][name] * position).astype(value.dtype))
        work.close()
    work = writer(fresh, settings, resume=True)
    for group in set(range(16)) - work.finished_groups:
        work.write_group(group, sums[group])
    resumed = fresh.attributions(work.finish())
    straight = writer(fresh, settings)
    for group, arrays in enumerate(sums):
        straight.write_group(group, arrays)
    assert same(fresh.attributions(straight.finish()), resumed)


def test_merge_of_disjoint_groups_is_the_whole(fresh: RunDirectory, settings: Settings) -> None:
    sums = group_sums(fresh)
    nothing = {name: np.zeros_like(value) for name, value in sums[0].items()}

    def store(groups: range) -> AttributionStore:
        work = writer(fresh, settings.model_copy(update={"options": {"groups": str(groups)}}))
        for group in range(16):
            work.write_group(group, sums[group] if group in groups else nothing)
        return fresh.attributions(work.finish())

    whole, first, second = store(range(16)), store(range(7)), store(range(7, 16))
    merged = fresh.attributions(merge([first.path, second.path], fresh.path))
    assert same(whole, merged)
    assert (
        merged.manifest.provenance["merged_from"] == f"{first.manifest.store_id}, {second.manifest.store_id}"
    )
    key = parse_key("0.attn.o:2")
    assert whole.top_sources(key, 5, "positive") == merged.top_sources(key, 5, "positive")
    twice = fresh.attributions(merge([whole.path, merged.path], fresh.path))
    assert twice.tokens == 2 * whole.tokens
    assert len(fresh.attribution_subruns()) == 5
    with pytest.raises(StorageError, match="twice"):
        merge([whole.path, whole.path], fresh.path)


def test_stores_that_do_not_add(fresh: RunDirectory, settings: Settings) -> None:
    def store(changed: Settings, keep: str = "") -> Path:
        work = writer(fresh, changed)
        for group, arrays in enumerate(group_sums(fresh)):
            work.write_group(group, {n: v for n, v in arrays.items() if not keep or not n.startswith(keep)})
        return fresh.path / "attributions" / work.finish()

    first = store(settings)
    for change in ({"ci_weighted": False}, {"model_sha256": "0" * 64}):
        with pytest.raises(SettingsDifferError, match=next(iter(change))):
            merge([first, store(settings.model_copy(update=change))], fresh.path)
    with pytest.raises(SettingsDifferError, match="metrics"):
        merge([first, store(settings.model_copy(update={"metrics": ("attr",)}), "abs/")], fresh.path)
    with pytest.raises(SettingsDifferError, match="arrays"):
        merge([first, store(settings, "logit_sum")], fresh.path)
