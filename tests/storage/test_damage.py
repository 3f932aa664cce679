"""Random damage to a run: every answer is the right one or an error that names what is wrong."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compute.address import parse_key
from storage.errors import StorageError, StoreDamagedError
from storage.run_directory import RunDirectory
from tests.support.tiny_run import tiny_decomposition, write_random_attributions

SOURCES = ["0.attn.q:1", "0.attn.o:2", "output:7", "1.attn.v:0"]
TARGETS = ["embed:40", "0.attn.o:0", "0.attn.v:3", "0.attn.o:delta"]


def answers(run: RunDirectory) -> dict[str, object]:
    """What a run answers to fixed questions: values, or the errors raised."""
    found: dict[str, object] = {}

    def ask(name: str, question: Callable[[], object]) -> None:
        try:
            found[name] = question()
        except StorageError as error:
            found[name] = error

    store = cache(run.attributions)
    for metric in ("attr", "attr_abs", "attr_frozen"):
        for text in SOURCES:
            ask(
                f"{metric} {text}",
                lambda t=text, m=metric: store().top_sources(parse_key(t), 3, "positive", m),
            )
        for text in TARGETS:
            ask(
                f"{metric} {text}",
                lambda t=text, m=metric: store().top_targets(parse_key(t), 3, "negative", m),
            )
    ask("statistics", lambda: {name: value.tolist() for name, value in run.statistics().arrays.items()})
    ask("tokenizer", lambda: run.tokenizer().to_str())
    errors = [answer for answer in found.values() if isinstance(answer, StorageError)]
    assert all(str(run.path) in error.message or "not computed" in error.message for error in errors)
    return found


right_answers = cache(answers)


def damage(run: Path, other: Path, choice: random.Random) -> str:
    """Damage one file of the run; says how."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    file = choice.choice(files)
    content = bytearray(file.read_bytes())
    kind = choice.choice(["flip", "cut", "extend", "remove", "zero", "swap", "foreign", "edit", "empty"])
    where = choice.randrange(max(len(content), 1))
    if kind == "flip":
        content[where] ^= 1 << choice.randrange(8)
    elif kind == "cut":
        del content[where:]
    elif kind == "extend":
        content += bytes(choice.randrange(1, 99))
    elif kind == "zero":
        content[where : where + 4096] = bytes(len(content[where : where + 4096]))
    elif kind == "swap":
        half = len(content) // 2
        size = choice.randrange(1, 5000)
        first, second = (
            content[:half][where % max(half, 1) :][:size],
            content[half:][where % max(half, 1) :][:size],
        )
        at = where % max(half, 1)
        content[at : at + len(second)], content[half + at : half + at + len(first)] = second, first
    elif kind == "edit" and file.suffix == ".json":
        numbers = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
        content[choice.choice(numbers)] = ord(choice.choice("0123456789"))
    elif kind == "empty":
        content.clear()
    if kind == "remove":
        file.unlink()
    elif kind == "foreign":
        shutil.copy(other / file.relative_to(run), file)
    else:
        file.write_bytes(content)
    return f"{kind} {file.relative_to(run)} at {where}"


@pytest.fixture(scope="module")
def pair(
    llama_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDirectory, RunDirectory]:
    """Two copies of one run with one attribution subrun of the same name, of other documents."""
    folder = tmp_path_factory.mktemp("pair")
    paths = []
    for seed, name in enumerate(("one", "other")):
        path = folder / name / "run"
        shutil.copytree(llama_run.path, path)
        shutil.rmtree(path / "attributions")
        shutil.rmtree(path / "corpus")
        run = RunDirectory.open(path)
        decomposition = tiny_decomposition(vocab_size=run.info.target["vocab_size"])
        shutil.copytree(llama_run.path / "corpus", path / "corpus")
        made = write_random_attributions(run, decomposition, seed=seed)
        (path / "attributions" / made).rename(path / "attributions" / "20260101-000000")
        paths.append(RunDirectory.open(path))
    return paths[0], paths[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_never_a_wrong_number(pair: tuple[RunDirectory, RunDirectory], seed: int) -> None:
    one, other = pair
    right = right_answers(one)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(one.path, copy)
        what = damage(copy, other.path, random.Random(seed))
        untouched = all(
            (copy / path.relative_to(one.path)).is_file()
            and (copy / path.relative_to(one.path)).read_bytes() == path.read_bytes()
            for path in one.path.rglob("*")
            if path.is_file()
        )
        try:
            run = RunDirectory.open(copy)
        except StorageError as error:
            refused = error.message
        else:
            refused = ""
        if refused:
            assert str(copy) in refused
            return
        found = answers(run)
        problems = [check.error for check in run.verify() if check.error is not None]
        for name, answer in found.items():
            if not isinstance(answer, StorageError):
                assert answer == right[name], f"{what} changed {name}"
        listed = run.attribution_subruns() == one.attribution_subruns()
        listed = listed and run.statistics_subruns() == one.statistics_subruns()
        # run.json says in words what the run is; its words have no checksum.
        if not untouched and "run.json" not in what and "evaluation" not in what and listed:
            assert problems or not (copy / "corpus").is_dir() or "corpus" in what, what


def test_a_foreign_file_is_named(run_copy: RunDirectory) -> None:
    store = run_copy.attributions()
    stranger = store.path / "notes.txt"
    stranger.write_text("hello")
    with pytest.raises(StoreDamagedError, match=r"notes\.txt"):
        store.verify()


def test_an_attribution_store_of_another_model(
    pair: tuple[RunDirectory, RunDirectory], gpt2_run: RunDirectory, tmp_path: Path
) -> None:
    shutil.copytree(gpt2_run.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "attributions")
    shutil.copytree(pair[0].path / "attributions", tmp_path / "run" / "attributions")
    with pytest.raises(StoreDamagedError, match="another model"):
        RunDirectory.open(tmp_path / "run").attributions()


def test_an_edited_manifest(run_copy: RunDirectory) -> None:
    file = run_copy.attributions().path / "manifest.json"
    content = json.loads(file.read_text())
    content["tokens"] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(StoreDamagedError, match="altered"):
        run_copy.attributions()


def test_a_changed_matrix_of_the_model(run_copy: RunDirectory) -> None:
    """Signed attributions are products with the model: its bytes count as much as the store's."""
    tensors = run_copy.model_tensors()
    view = tensors["components.0.attn.o.V"]
    file = run_copy.path / "model.safetensors"
    content = bytearray(file.read_bytes())
    offset = content.find(view.tobytes())
    content[offset] ^= 1
    file.write_bytes(content)
    run = RunDirectory.open(run_copy.path)
    with pytest.raises(StoreDamagedError, match=r"model\.safetensors"):
        run.attributions().top_sources(parse_key("0.attn.o:0"), 3, "positive")
