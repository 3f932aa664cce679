"""A harvest on disk: records come back as they were, and damage is never answered with a number."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.address import Address, parse_address
from storage.errors import StorageError, StoreDamagedError, UnknownKeyError
from storage.harvest import Harvest
from storage.harvest_records import (
    RecordError,
    pack,
    pack_examples,
    pack_histogram,
    pack_list,
    unpack,
    unpack_examples,
    unpack_histogram,
    unpack_list,
)
from storage.jackknife import normalise
from storage.run_directory import RunDirectory
from tests.support.tiny_run import make_tiny_run

WHOLE = st.integers(0, 2**62)


@given(st.dictionaries(st.integers(0, 2**31), WHOLE), st.booleans())
def test_exact_lists_come_back(entries: dict[int, int], rounded: bool) -> None:
    ids = np.array(sorted(entries), np.int64)
    values = np.array([entries[i] for i in ids.tolist()], np.int64)
    found = unpack_list(pack_list(ids, values, "exact", rounded=rounded), "exact", rounded=rounded)
    assert [part.tolist() for part in found] == [ids.tolist(), values.tolist()]


@given(st.dictionaries(st.integers(0, 2**31), WHOLE))
def test_compact_lists_keep_counts_and_round_masses(entries: dict[int, int]) -> None:
    ids = np.array(sorted(entries), np.int64)
    values = np.array([entries[i] for i in ids.tolist()], np.int64)
    found = unpack_list(pack_list(ids, values, "compact"), "compact")
    assert [part.tolist() for part in found] == [ids.tolist(), values.tolist()]
    where, masses = unpack_list(pack_list(ids, values, "compact", rounded=True), "compact", rounded=True)
    assert where.tolist() == ids.tolist()
    np.testing.assert_allclose(masses, values, rtol=2.5e-4, atol=0.5)


@given(st.integers(-120, 100), st.lists(WHOLE, min_size=8, max_size=8))
def test_histograms_come_back(exponent: int, counts: list[int]) -> None:
    found, values = unpack_histogram(pack_histogram(exponent, np.array(counts), "compact"), 8)
    assert (found, values.tolist()) == (exponent, counts)


@given(st.data(), st.integers(0, 5), st.sampled_from(["exact", "compact"]))
def test_examples_come_back(data: st.DataObject, n: int, encoding: str) -> None:
    length = 4
    ci = st.lists(st.floats(0, 1, width=32), min_size=n * length, max_size=n * length)
    activation = st.lists(st.floats(-1000, 1000, width=32), min_size=n * length, max_size=n * length)
    whole = st.lists(st.integers(0, 2**40), min_size=n, max_size=n)
    columns = {
        "key": np.array(data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=n, max_size=n)), np.uint64),
        "position": np.array(data.draw(whole), np.int64),
        "document": np.array(data.draw(whole), np.int64),
        "before": np.full(n, 2),
        "after": np.full(n, 1),
        "ci": np.array(data.draw(ci), np.float32).reshape(n, length),
        "activation": np.array(data.draw(activation), np.float32).reshape(n, length),
    }
    assert encoding in ("exact", "compact")
    found, crc = unpack_examples(pack_examples(columns, 77, encoding), length, encoding)
    assert crc == 77
    for name, value in columns.items():
        if encoding == "exact":
            np.testing.assert_array_equal(found[name], value)
        elif name == "ci":
            np.testing.assert_allclose(found[name], value, atol=1.001e-3)
            np.testing.assert_array_equal(found[name] > 0, value > 0)
        elif name == "activation":
            np.testing.assert_allclose(found[name], value, atol=5.1e-4 * np.abs(value).max(initial=0))
        elif name != "key":
            np.testing.assert_array_equal(found[name], value)


@given(st.binary(max_size=60))
def test_other_bytes_are_no_record(data: bytes) -> None:
    readers: list[Callable[[bytes], object]] = [
        unpack,
        lambda b: unpack_list(b, "exact"),
        lambda b: unpack_histogram(b, 8),
        lambda b: unpack_examples(b, 3, "compact"),
    ]
    columns = [np.frombuffer(data, np.uint8), np.arange(3)]
    for content in (data, pack(columns, 1)[:-2], pack(columns, 1)):
        for read in readers:
            try:
                read(content)
            except RecordError:
                continue


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("runs")
    return make_tiny_run(folder / "tiny", attributions=False, statistics=False, harvest=True)


def answers(run: RunDirectory) -> dict[str, object]:
    """What the harvest says of some components: values, or the errors raised."""
    found: dict[str, object] = {}

    def ask(name: str, question: Callable[[], object]) -> None:
        try:
            found[name] = question()
        except StorageError as error:
            found[name] = error

    def plain(*arrays: np.ndarray) -> list[object]:
        return [np.nan_to_num(array, nan=-99.0).tolist() for array in arrays]

    for text, index in (("0.attn.q", 0), ("1.glu.down", 3), ("0.glu.up", 2)):
        a = parse_address(text)
        ask(f"count {a}", lambda a=a: plain(run.harvest().site("firing_count", a)))
        ask(f"sum {a}", lambda a=a: plain(run.harvest().site("ci_sum", a)))
        ask(f"histogram {a}", lambda a=a, i=index: plain(*run.harvest().histogram(a, i)))
        ask(f"input {a}", lambda a=a, i=index: plain(*run.harvest().input_counts(a, i)))
        ask(f"output {a}", lambda a=a, i=index: plain(*run.harvest().output_mass_of(a, i)))
        ask(f"cofiring {a}", lambda a=a, i=index: plain(*run.harvest().cofiring(a, i)))
        for kind in ("random", "strongest"):

            def examples(a: Address = a, i: int = index, kind: str = kind) -> object:
                assert kind in ("random", "strongest")
                e = run.harvest().examples(a, i, kind)
                return plain(e.corpus_position, e.document, e.tokens, e.ci, e.activation)

            ask(f"{kind} {a}", examples)
    ask("tokens", lambda: plain(run.harvest().token_count, run.harvest().output_mass))
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_never_a_wrong_number(run: RunDirectory, tmp_path: Path, seed: int) -> None:
    choice = random.Random(seed)
    right = answers(run)
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run.path, copy)
    opened = RunDirectory.open(copy)
    folder = opened.harvest().path
    file = choice.choice([*sorted(folder.iterdir()), copy / "corpus" / "tokens.npy"])
    content = bytearray(file.read_bytes())
    where = choice.randrange(len(content))
    how = choice.choice(["flip", "cut", "extend", "zero", "remove", "swap"])
    if how == "flip":
        content[where] ^= 1 << choice.randrange(8)
    elif how == "cut":
        del content[where:]
    elif how == "extend":
        content += b"\0"
    elif how == "zero":
        content[where : where + 500] = bytes(len(content[where : where + 500]))
    elif how == "swap":
        half = len(content) // 2
        content = content[half:] + content[:half]
    changed = bytes(content) != file.read_bytes()
    if how == "remove":
        file.unlink()
    else:
        file.write_bytes(content)
    for name, answer in answers(opened).items():
        if isinstance(answer, StorageError):
            assert str(copy) in answer.message
        else:
            assert answer == right[name], f"{how} in {file.name} at {where} changed {name}"
    problems = [check for check in opened.verify() if check.error is not None]
    harmless = how == "extend" and file.suffix == ".npy"  # what follows the array is never read
    damaged = (changed or how == "remove") and not harmless
    assert bool(problems) == damaged, f"{how} in {file.name} at {where}"


def test_a_record_of_another_component_is_damage(run: RunDirectory, tmp_path: Path) -> None:
    """Two records of equal length that change places are as wrong as a flipped bit."""
    shutil.copytree(run.path, tmp_path / "tiny")
    harvest = RunDirectory.open(tmp_path / "tiny").harvest()
    lengths = harvest.arrays["record_length"]
    starts = np.concatenate([[0], np.cumsum(lengths.T.reshape(-1).astype(np.int64))])
    same = [
        (a, b)
        for a in range(harvest.n_components)
        for b in range(a)
        if lengths[3, a] == lengths[3, b] and harvest.record("input", a) != harvest.record("input", b)
    ]
    one, other = (flat * len(lengths) + 3 for flat in same[0])
    file = harvest.path / "records.bin"
    content = bytearray(file.read_bytes())
    first, second = slice(starts[one], starts[one + 1]), slice(starts[other], starts[other + 1])
    content[first], content[second] = content[second], content[first]
    file.write_bytes(content)
    for flat in same[0]:
        with pytest.raises(StoreDamagedError, match="input record"):
            harvest.input_counts(*harvest.component(flat))


def test_an_edited_manifest(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "tiny")
    copy = RunDirectory.open(tmp_path / "tiny")
    file = copy.harvest().path / "manifest.json"
    content = json.loads(file.read_text())
    content["tokens"] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(StoreDamagedError, match="altered"):
        copy.harvest()


def test_a_damaged_header_of_the_tokens(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "tiny")
    copy = RunDirectory.open(tmp_path / "tiny")
    file = copy.path / "corpus" / "tokens.npy"
    good = file.read_bytes()
    for bad in (b"(", b"}", b"'", b"\0"):
        file.write_bytes(good[:19] + bad + good[20:])
        with pytest.raises(StoreDamagedError, match=r"tokens\.npy"):
            copy.harvest().examples(copy.harvest().addresses[0], 0, "random")
        with pytest.raises(StorageError, match="corpus"):
            copy.corpus()


def test_what_does_not_exist_is_named(run: RunDirectory) -> None:
    harvest = run.harvest()
    with pytest.raises(UnknownKeyError, match="components 0 to"):
        harvest.histogram(harvest.addresses[0], 99)
    with pytest.raises(UnknownKeyError, match="no harvest of"):
        harvest.site("ci_sum", parse_address("7.attn.q"))
    with pytest.raises(UnknownKeyError, match="firing_count"):
        harvest.site("colour", harvest.addresses[0])


def test_flat_indices_go_both_ways(run: RunDirectory) -> None:
    harvest = run.harvest()
    for flat in range(harvest.n_components):
        assert harvest.flat(*harvest.component(flat)) == flat
    assert list(harvest.addresses) == sorted(site.parsed for site in run.info.sites)


def test_opening_reads_the_manifest_only(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Path.read_bytes

    def noted(self: Path) -> bytes:
        read.append(self.name)
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", noted)
    path = run.path / "harvest" / run.harvest_subruns()[0]
    Harvest.open(path)
    assert read == ["manifest.json"]


def test_small_copies_keep_importances_below_zero_and_above_one() -> None:
    """Some sigmoids give them; no two of these are confused with 0."""
    ci = np.array([[-0.028, 0.0, 1e-9, 1.0281]], np.float32)
    one = np.array([1])
    columns = {"position": one, "document": one, "before": one, "after": one}
    packed = pack_examples(columns | {"ci": ci, "activation": ci}, 5, "compact")
    found, checksum = unpack_examples(packed, 4, "compact")
    assert checksum == 5
    np.testing.assert_allclose(found["ci"], ci, atol=1.01e-3)
    assert [float(np.sign(value)) for value in found["ci"][0]] == [-1, 0, 1, 1]


def test_a_source_of_negative_importance_has_no_huge_value() -> None:
    raw, squares = np.array([3.0, 3.0, 0.0]), np.array([16.0, 16.0, 16.0])
    assert normalise(raw, np.array([2.0, -2.0, 0.0]), squares, 4.0).tolist() == [0.75, 0.0, 0.0]
