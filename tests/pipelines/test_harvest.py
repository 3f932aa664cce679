"""``tributary harvest``: cut anywhere, killed, in groups and merged, it is one pass, bit for bit."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from backend.cli import run as tributary
from backend.pipelines import harvest as harvest_pipeline
from backend.pipelines import memory
from storage.errors import StoreDamagedError
from storage.harvest import Harvest
from storage.harvest_manifest import PER_COMPONENT
from storage.harvest_records import SECTIONS
from storage.run_directory import RunDirectory
from storage.work_lock import WorkLock
from tests.support.naive_harvest import TINY_SETTINGS as TINY
from tests.support.tiny_run import make_tiny_run

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = (
    *("--left", str(TINY.left), "--right", str(TINY.right), "--length", str(TINY.window)),
    *("--examples", str(TINY.n_random), "--strongest", str(TINY.n_strongest), "--memory", "0.1"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with two harvests, that of the slow reference and one in a single pass."""
    run = make_tiny_run(
        tmp_path_factory.mktemp("runs") / "tiny", attributions=False, statistics=False, harvest=True
    )
    assert tributary(["harvest", str(run.path), *OPTIONS]) == 0
    return run


@pytest.fixture(scope="module")
def short(made: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    """Of a few batches only, in a single pass."""
    run = copy_of(made, tmp_path_factory.mktemp("short"))
    assert tributary(["harvest", str(run.path), *OPTIONS, "--batches", "10"]) == 0
    return run.harvest()


def copy_of(run: RunDirectory, folder: Path) -> RunDirectory:
    """The run without its harvests."""
    shutil.copytree(run.path, folder / "tiny", ignore=shutil.ignore_patterns("harvest"))
    return RunDirectory.open(folder / "tiny")


def assert_equal(one: Harvest, other: Harvest) -> None:
    """All that was measured, to the last bit."""
    left, right = one.manifest, other.manifest
    for name in ("settings", "covered", "tokens", "documents", "sites", "complete"):
        assert getattr(left, name) == getattr(right, name), name
    for name in (*PER_COMPONENT, "token_count", "output_mass", "documents_seen"):
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name], name)
    for flat in range(one.n_components):
        for section in SECTIONS:
            assert one.record(section, flat) == other.record(section, flat), (section, flat)


def test_it_is_what_the_slow_reference_finds(made: RunDirectory) -> None:
    quick_name, slow_name = made.harvest_subruns()
    quick, slow = made.harvest(quick_name), made.harvest(slow_name)
    assert (quick.tokens, quick.documents) == (slow.tokens, slow.documents) == (9376, 40)
    assert quick.manifest.covered == slow.manifest.covered
    np.testing.assert_array_equal(quick.token_count, slow.token_count)
    np.testing.assert_allclose(quick.output_mass, slow.output_mass, rtol=1e-5)
    assert quick.output_mass.sum() == pytest.approx(quick.tokens, rel=1e-6)
    for address in quick.addresses:
        for name in PER_COMPONENT:
            np.testing.assert_allclose(
                quick.site(name, address), slow.site(name, address), rtol=1e-4, atol=1e-3
            )
        for index in range(len(quick.site("ci_sum", address))):
            for lists in (Harvest.input_counts, Harvest.cofiring):
                for a, b in zip(lists(quick, address, index), lists(slow, address, index), strict=True):
                    np.testing.assert_array_equal(a, b)
            mass, expected = (h.output_mass_of(address, index)[1] for h in (quick, slow))
            np.testing.assert_allclose(mass, expected, rtol=1e-4, atol=1e-4)
            random, wanted = (h.examples(address, index, "random") for h in (quick, slow))
            np.testing.assert_array_equal(random.corpus_position, wanted.corpus_position)
            np.testing.assert_array_equal(random.document, wanted.document)
            np.testing.assert_array_equal(random.tokens, wanted.tokens)
            np.testing.assert_allclose(random.ci, wanted.ci, atol=1e-5)
            np.testing.assert_allclose(random.activation, wanted.activation, rtol=1e-4, atol=1e-5)


def test_examples_are_what_they_say(made: RunDirectory) -> None:
    harvest, corpus = made.harvest(), made.corpus()
    for address in harvest.addresses:
        for index, fired in enumerate(harvest.site("firing_count", address)):
            for kind, k in (("random", TINY.n_random), ("strongest", TINY.n_strongest)):
                e = harvest.examples(address, index, kind)
                assert len(e.tokens) == min(k, fired)
                assert len(set(e.corpus_position.tolist())) == len(e.tokens)
                np.testing.assert_array_equal(e.tokens[:, e.left], corpus.tokens[e.corpus_position])
                assert (e.ci[:, e.left] > 0).all()
                np.testing.assert_array_equal(np.isnan(e.activation), e.tokens < 0)
                assert (e.ci[e.tokens < 0] == 0).all()
                document = np.searchsorted(corpus.offsets, e.corpus_position, side="right") - 1
                np.testing.assert_array_equal(document, e.document)
                strength = [
                    (-c, -a) for c, a in zip(e.ci[:, e.left], abs(e.activation[:, e.left]), strict=True)
                ]
                assert kind == "random" or strength == sorted(strength)
            edges, counts = harvest.histogram(address, index)
            assert counts.sum() == fired
            assert len(edges) == len(counts) + 1
    # A window at the start of its document shows nothing of the one before.
    starts = set(corpus.offsets.tolist())
    cut = 0
    for address in harvest.addresses:
        e = harvest.examples(address, 0, "random")
        for position, tokens in zip(e.corpus_position.tolist(), e.tokens, strict=True):
            for back in range(1, e.left + 1):
                if position - back + 1 in starts:
                    assert (tokens[: e.left - back + 1] == -1).all()
                    cut += 1
    assert cut > 0


def test_cut_anywhere_it_is_the_same(made: RunDirectory, short: Harvest, tmp_path: Path) -> None:
    run = copy_of(made, tmp_path)
    options = ["--batches", "10", "--checkpoint-seconds", "0"]
    assert tributary(["harvest", str(run.path), *OPTIONS, *options]) == 0
    assert_equal(run.harvest(), short)
    assert not list((run.path / "harvest").glob(".*"))


def test_groups_computed_apart_and_merged_are_one_pass(
    made: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = []
    for name, groups in (("a", "0-4"), ("b", "5"), ("c", "6-15")):
        parts.append(copy_of(made, tmp_path / name))
        assert tributary(["harvest", str(parts[-1].path), *OPTIONS, "--groups", groups]) == 0
    whole = copy_of(made, tmp_path / "whole")
    paths = [str(part.path) for part in parts]
    assert tributary(["harvest-merge", str(whole.path), *paths]) == 0
    assert_equal(whole.harvest(), made.harvest())
    assert "0-4" in " ".join(whole.harvest().provenance.values())
    capsys.readouterr()
    assert tributary(["harvest-merge", str(whole.path), paths[0], str(whole.path)]) == 2
    assert "counted once only" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_loses_nothing(
    made: RunDirectory, short: Harvest, tmp_path: Path, how: signal.Signals
) -> None:
    run = copy_of(made, tmp_path)
    command = ["harvest", str(run.path), *OPTIONS, "--batches", "10"]
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.cli", *command, "--checkpoint-seconds", "0"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 100
    while len(list((run.path / "harvest").glob(".partial-*/shard-*"))) < 2:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    assert run.harvest_subruns() == []
    assert tributary(command) == 2  # it must be said that the work goes on
    assert tributary([*command, "--examples", "7", "--resume"]) == 2  # and with the same settings
    assert tributary([*command, "--resume"]) == 0
    # Another process may add up in another order: everything that is counted is the same.
    found, expected = run.harvest(), short
    assert found.manifest.covered == expected.manifest.covered
    assert (found.tokens, found.documents) == (expected.tokens, expected.documents)
    for name in ("firing_count", "token_count"):
        np.testing.assert_array_equal(found.arrays[name], expected.arrays[name])
    for flat in range(found.n_components):
        for section in ("input", "cofiring"):
            assert found.record(section, flat) == expected.record(section, flat)
        np.testing.assert_array_equal(
            found.raw_examples(flat, "random")[0]["position"],
            expected.raw_examples(flat, "random")[0]["position"],
        )
    assert not list((run.path / "harvest").glob(".*"))


def stop(*_: object) -> str:
    raise KeyboardInterrupt


@pytest.fixture
def interrupted(made: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A copy of the run with ten shards of one batch each, stopped before they were merged."""
    run = copy_of(made, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(harvest_pipeline, "finish", stop)
        command = ["harvest", str(run.path), *OPTIONS, "--batches", "10", "--checkpoint-seconds", "0"]
        assert tributary(command) == 130
    return run


def shard_of(run: RunDirectory, number: int) -> Path:
    return next((run.path / "harvest").glob(f".partial-*/shard-{number:05d}"))


def test_what_a_damaged_shard_counted_is_counted_again(
    interrupted: RunDirectory, short: Harvest, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["harvest", str(interrupted.path), *OPTIONS, "--batches", "10", "--resume"]
    for number, name in ((0, "manifest.json"), (4, "records.bin")):
        shard = shard_of(interrupted, number)
        content = bytearray((shard / name).read_bytes())
        content[len(content) // 2] ^= 1
        (shard / name).write_bytes(content)
        capsys.readouterr()
        assert tributary(command) == 1
        words = " ".join(capsys.readouterr().err.split())
        assert f"remove {shard}; with --resume its part of the text" in words
        shutil.rmtree(shard)
    assert tributary(command) == 0
    assert_equal(interrupted.harvest(), short)


def test_a_shard_may_count_what_lies_on_both_sides_of_another(made: RunDirectory, tmp_path: Path) -> None:
    # Of one group alone: batches 0, 1, 2, of which the first and the last are lost.
    run = copy_of(made, tmp_path / "one")
    command = ["harvest", str(run.path), *OPTIONS, "--batch-size", "1", "--batches", "48", "--groups", "3"]
    assert tributary([*command, "--checkpoint-seconds", "0"]) == 0
    whole = run.harvest()
    assert whole.manifest.covered == {"3": [(0, 3)]}
    (again := tmp_path / "two").mkdir()
    run = copy_of(made, again)
    command[1] = str(run.path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(harvest_pipeline, "finish", stop)
        assert tributary([*command, "--checkpoint-seconds", "0"]) == 130
    for number in (0, 2):
        shutil.rmtree(shard_of(run, number))
    assert tributary([*command, "--resume"]) == 0
    assert_equal(run.harvest(), whole)


def test_work_that_somebody_is_at_is_not_to_be_removed(
    interrupted: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["harvest", str(interrupted.path), *OPTIONS, "--batches", "10"]
    assert tributary(command) == 2
    assert "add --resume to go on with it, or remove" in " ".join(capsys.readouterr().err.split())
    lock = WorkLock(shard_of(interrupted, 0).parent, "testing")
    for more in ([], ["--resume"]):
        assert tributary([*command, *more]) == 2
        words = " ".join(capsys.readouterr().err.split())
        assert "another process is at work in" in words
        assert "remove" not in words
    lock.close()
    assert tributary([*command, "--resume"]) == 0


def test_what_is_resumed_keeps_its_floor_whatever_memory_there_is_now(
    made: RunDirectory, tmp_path: Path
) -> None:
    run = copy_of(made, tmp_path)
    little, much = ["--memory", "0.01"], ["--memory", "1"]
    rest = [part for part in OPTIONS if part not in ("--memory", "0.1")]
    command = ["harvest", str(run.path), *rest, "--batches", "3"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(harvest_pipeline, "finish", stop)
        patched.setattr(harvest_pipeline, "_floor", lambda _, budget: 0.01 if budget < 1 << 29 else 0.0)
        assert tributary([*command, *little]) == 130
    assert tributary([*command, *much, "--resume"]) == 0
    assert run.harvest().settings.output_floor == 0.01
    assert not run.harvest().complete["output"]


def test_work_that_was_published_is_not_published_twice(made: RunDirectory, tmp_path: Path) -> None:
    run = copy_of(made, tmp_path)
    command = ["harvest", str(run.path), *OPTIONS, "--batches", "3"]
    assert tributary([*command, "--checkpoint-seconds", "0"]) == 0
    (name,) = run.harvest_subruns()
    # As if it had been stopped between publishing and tidying up.
    partial = run.path / "harvest" / f".partial-{run.harvest().manifest.store_id}"
    partial.mkdir()
    manifest = run.harvest().manifest
    shared = {"settings", "model_sha256", "corpus_sha256", "n_groups", "vocab_size", "sites"}
    (partial / "work.json").write_text(manifest.model_dump_json(include=shared))
    shutil.copytree(run.path / "harvest" / name, partial / "shard-00000")
    assert tributary([*command, "--resume"]) == 0
    assert run.harvest_subruns() == [name]
    assert not partial.exists()


def test_a_small_copy_keeps_the_strongest_both_ways(made: RunDirectory, tmp_path: Path) -> None:
    run = copy_of(made, tmp_path)
    options = ["--keep", "3", "--examples", "4", "--strongest", "2"]
    assert tributary(["harvest-merge", str(run.path), str(made.path), *options]) == 0
    small, full = run.harvest(), made.harvest()
    assert small.settings.compact is not None
    assert re.search("3 strongest positive", small.settings.compact)
    assert set(small.complete.values()) == {False}
    assert set(full.complete.values()) == {True}
    size = {h: (h.path / "records.bin").stat().st_size for h in (small, full)}
    assert size[small] < size[full] / 3
    for name in PER_COMPONENT:
        np.testing.assert_array_equal(small.arrays[name], full.arrays[name])
    negative = 0
    for address in full.addresses:
        for index in range(len(full.site("ci_sum", address))):
            for lists in (Harvest.input_counts, Harvest.cofiring, Harvest.output_mass_of):
                ids, values = lists(small, address, index)
                everything = dict(zip(*(v.tolist() for v in lists(full, address, index)), strict=True))
                assert len(ids) <= 6
                expected = [everything.get(i, 0) for i in ids.tolist()]
                if lists is Harvest.output_mass_of:
                    np.testing.assert_allclose(values, expected, rtol=5e-4, atol=1e-9)
                else:
                    assert values.tolist() == expected
                    negative += values.tolist().count(0)
            for kind, k in (("random", 4), ("strongest", 2)):
                a, b = small.examples(address, index, kind), full.examples(address, index, kind)
                n = min(k, len(b.tokens))
                np.testing.assert_array_equal(a.corpus_position, b.corpus_position[:n])
                np.testing.assert_array_equal(a.tokens, b.tokens[:n])
                np.testing.assert_allclose(a.ci, b.ci[:n], atol=1.001e-3)
                largest = np.nanmax(abs(b.activation[:n]), initial=0)
                np.testing.assert_allclose(a.activation, b.activation[:n], atol=6e-4 * largest)
            for part, whole in zip(
                small.histogram(address, index), full.histogram(address, index), strict=True
            ):
                np.testing.assert_array_equal(part, whole)
    assert negative > 0  # pairs that never meet are kept as zeros
    # What was left out cannot be added up.
    assert tributary(["harvest-merge", str(run.path), str(run.path), str(made.path)]) == 2


def test_a_merge_clears_away_what_a_killed_one_left(made: RunDirectory, tmp_path: Path) -> None:
    run = copy_of(made, tmp_path)
    folder = run.path / "harvest"
    abandoned, at_work = folder / ".writing-0000000a", folder / ".writing-0000000b"
    for work in (abandoned, at_work):
        work.mkdir(parents=True)
        (work / "records.bin").write_bytes(b"half of it")
    WorkLock(abandoned, "testing").close()
    held = WorkLock(at_work, "testing")
    assert tributary(["harvest-merge", str(run.path), str(made.path), "--keep", "2"]) == 0
    held.close()
    assert not abandoned.exists()
    assert at_work.exists()
    assert not (run.harvest().path / "lock").exists()


def test_too_little_memory_is_said_first(
    made: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(made, tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 20)
    assert tributary(["harvest", str(run.path), *OPTIONS]) == 2
    words = " ".join(capsys.readouterr().err.split())
    assert re.search(r"needs about \d\.\d\d GiB of memory on cpu, but 0\.00 GiB are free", words)
    assert not (run.path / "harvest").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--groups", "3-99"), "is not a range of groups"),
        (("--threshold", "2"), "threshold"),
        (("--device", "abacus"), "is not a device"),
        (("--groups", "15", "--batches", "1"), "no text to look at"),
    ],
)
def test_mistakes_are_named(
    made: RunDirectory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    run = copy_of(made, tmp_path)
    assert tributary(["harvest", str(run.path), *OPTIONS, *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_run_without_one_says_how_to_make_it(made: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"no harvest yet; run: tributary harvest tiny"):
        copy_of(made, tmp_path).harvest()


def test_a_harvest_of_another_model_or_text(made: RunDirectory, tmp_path: Path) -> None:
    other = make_tiny_run(tmp_path / "other", seed=1, attributions=False, statistics=False)
    shutil.copytree(made.path / "harvest", other.path / "harvest")
    with pytest.raises(StoreDamagedError, match="another model"):
        other.harvest()
    run = copy_of(made, tmp_path)
    shutil.copytree(made.path / "harvest", run.path / "harvest")
    shutil.rmtree(run.path / "corpus")
    shutil.copytree(other.path / "corpus", run.path / "corpus")
    harvest = run.harvest()
    address = harvest.addresses[0]
    assert harvest.site("firing_count", address).sum() > 0
    with pytest.raises(StoreDamagedError, match="not the text"):
        harvest.examples(address, 0, "random")


def test_verify_reads_it_all(made: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy_of(made, tmp_path)
    shutil.copytree(made.path / "harvest", run.path / "harvest")
    assert tributary(["verify", str(run.path)]) == 0
    file = run.harvest().path / "records.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    capsys.readouterr()
    assert tributary(["verify", str(run.path)]) == 1
    assert re.search(r"record of \d\.\w+\.\w+:\d is damaged", " ".join(capsys.readouterr().out.split()))
