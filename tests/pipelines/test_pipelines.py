"""The command line from text to store, for real, at toy size: training, decomposition, attributions,
and what remains when a process is killed in the middle of each."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, Field

from backend.pipelines.common import MOST_FAULTS, UsageError, read_config
from compute.address import parse_key
from storage.corpus import (
    CorpusError,
    Document,
    TokenCorpus,
    read_documents,
    tokenize,
    train_tokenizer,
    windows,
)
from storage.run_directory import RunDirectory
from tests.support.tiny_run import TEXT

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}

TARGET = """
text = "documents.jsonl.gz"
validation_every = 5
output = "target"
[model]
family = "llama"
n_blocks = 2
d_model = 16
d_ff = 24
n_heads = 4
n_kv_heads = 2
vocab_size = 280
context = 16
activation = "silu"
[training]
steps = 30
batch_size = 4
length = 16
learning_rate = { peak = 1e-2, warmup = 0.1 }
"""
DECOMPOSITION = """
target = "target"
output = "run"
name = "toy"
title = "Toy"
licence = "MIT"
[decomposition]
steps = 25
batch_size = 4
length = 16
components = { q = 6, k = 6, v = 6, o = 6, gate = 8, up = 8, down = 8 }
importance_kind = "shared_mlp"
importance_hidden = [8]
faithfulness = 1.0
importance_minimality = { coefficient = 1e-3 }
components_rate = { peak = 1e-3 }
importance_rate = { peak = 1e-3 }
[[decomposition.reconstruction]]
masks = "ci"
routing = "all"
sequences = 4
coefficient = 1.0
"""


def tributary(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backend.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False
    )


def succeed(*arguments: str | Path, cwd: Path) -> str:
    done = tributary(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_when(ready: Path | str, *arguments: str | Path, cwd: Path, how: signal.Signals) -> int:
    """Start a command, send ``how`` as soon as a file matching ``ready`` exists, and return its code."""
    command = [sys.executable, "-m", "backend.cli", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not list(cwd.glob(str(ready))) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "the command ended before it could be interrupted"
    process.send_signal(how)
    return process.wait(timeout=60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained target and a decomposed run, each interrupted once on the way."""
    folder = tmp_path_factory.mktemp("made")
    words = TEXT.split()
    rng = np.random.default_rng(0)
    with gzip.open(folder / "documents.jsonl.gz", "wt", encoding="utf-8") as file:
        for number in range(60):
            text = " ".join(rng.choice(words, 30 + number))
            file.write(json.dumps({"title": f"text {number}", "source": "random", "text": text}) + "\n")
    (folder / "target.toml").write_text(TARGET)
    (folder / "decomposition.toml").write_text(DECOMPOSITION)
    kill_when(
        "target/checkpoint.pt",
        "train-target",
        "target.toml",
        "--checkpoint-every",
        "1",
        cwd=folder,
        how=signal.SIGKILL,
    )
    succeed("train-target", "target.toml", cwd=folder)
    kill_when(
        "run.training/checkpoint.pt",
        "decompose",
        "decomposition.toml",
        "--checkpoint-minutes",
        "0",
        cwd=folder,
        how=signal.SIGKILL,
    )
    succeed("decompose", "decomposition.toml", cwd=folder)
    return folder


def copy_of(made: Path, to: Path) -> Path:
    """The run without its attributions, as a folder of runs."""
    import shutil

    shutil.copytree(made / "run", to / "toy", ignore=shutil.ignore_patterns("attributions"))
    return to


def same_store(first: Path, second: Path) -> None:
    """Equal blocks, byte for byte but for the identity of the store."""
    one, other = RunDirectory.open(first).attributions(), RunDirectory.open(second).attributions()
    assert one.manifest.tokens == other.manifest.tokens
    assert one.manifest.settings == other.manifest.settings
    for source, target in (("embed:5", "0.attn.q:1"), ("0.attn.v:2", "0.attn.o:3"), ("0.attn.o:1", "1.glu.up:4"),
                           ("1.glu.down:delta", "output:7"), ("1.glu.gate:3", "1.glu.down:0")):  # fmt: skip
        for metric in ("attr", "attr_abs", "attr_frozen"):
            if metric == "attr_abs" and target.startswith("output"):
                continue
            a, b = (s.attribution(parse_key(source), parse_key(target), metric) for s in (one, other))  # type: ignore[arg-type]
            assert a == b


def test_what_training_says_and_writes(made: Path) -> None:
    info = json.loads((made / "target" / "target.json").read_text())
    assert info["validation_loss"] < info["unigram_loss"] + 1
    assert not (made / "target" / "checkpoint.pt").exists()
    run = RunDirectory.open(made / "run")
    assert run.info.n_components == 2 * (4 * 6 + 3 * 8)
    evaluation = run.evaluation()
    assert evaluation is not None
    assert {m["name"] for m in evaluation["metrics"]} >= {
        "ce_ci",
        "kl_ci",
        "share_recovered_unigram",
        "alive",
    }
    assert [b["block"] for b in evaluation["blocks"]] == [0, 1]
    assert run.statistics().tokens == len(run.corpus().tokens)


def test_evaluating_again_gives_the_same_numbers(made: Path, tmp_path: Path) -> None:
    copy_of(made, tmp_path)
    before = json.loads((tmp_path / "toy" / "evaluation.json").read_text())
    printed = json.loads(succeed("evaluate", "toy", "--runs", ".", "--json", "--no-statistics", cwd=tmp_path))
    assert json.loads((tmp_path / "toy" / "evaluation.json").read_text()) == printed
    for old, new in zip(before["metrics"], printed["metrics"], strict=True):
        assert new["value"] == pytest.approx(old["value"], rel=1e-4, abs=1e-7), new["name"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_attributions_survive_a_kill(made: Path, tmp_path: Path, how: signal.Signals) -> None:
    options = ("--runs", ".", "--batch-size", "1", "--abs-every", "2")
    whole, broken = copy_of(made, tmp_path / "whole"), copy_of(made, tmp_path / "broken")
    succeed("attribute", "toy", *options, cwd=whole)
    partial = "toy/attributions/.partial-*/group-0[2-9]*.at-*.bin"
    code = kill_when(partial, "attribute", "toy", *options, "--checkpoint-seconds", "0", cwd=broken, how=how)
    assert code == (-9 if how == signal.SIGKILL else 130)
    assert RunDirectory.open(broken / "toy").attribution_subruns() == []
    refused = tributary("attribute", "toy", *options, cwd=broken)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = tributary("attribute", "toy", *options, "--delta", "off", "--resume", cwd=broken)
    assert other.returncode == 2
    assert "delta" in other.stderr
    succeed("attribute", "toy", *options, "--resume", cwd=broken)
    same_store(whole / "toy", broken / "toy")
    assert not list((broken / "toy" / "attributions").glob(".partial-*"))


def test_groups_computed_apart_and_merged_are_one_pass(made: Path, tmp_path: Path) -> None:
    parts = [copy_of(made, tmp_path / name) for name in ("a", "b", "all")]
    for part, groups in zip(parts, ("0-6", "7-15", "all"), strict=True):
        succeed("attribute", "toy", "--runs", ".", "--groups", groups, cwd=part)
    succeed("merge", "a/toy", "a/toy", "b/toy", cwd=tmp_path)
    same_store(tmp_path / "a" / "toy", tmp_path / "all" / "toy")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("attribute", "toy", "--delta", "maybe"), "node or off"),
        (("attribute", "toy", "--groups", "3-99"), "0 to 15"),
        (("attribute", "toy", "--metrics", "all"), "attr,attr_abs"),
        (("attribute", "toy", "--output-abs", "some"), "top:N"),
        (("attribute", "nobody"), "no run called"),
        (("attribute", "toy", "--device", "abacus"), "auto, cpu or cuda"),
        (("attribute", "toy", "--batch-size", "100000000"), "GiB"),
        (("decompose", "absent.toml"), "no configuration"),
        (("train-target", "broken.toml"), "not a TOML file"),
        (("train-target", "wrong.toml"), "model.n_heads"),
    ],
)
def test_mistakes_are_named(made: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    copy_of(made, tmp_path)
    (tmp_path / "broken.toml").write_text("= 3")
    (tmp_path / "wrong.toml").write_text(TARGET.replace("n_heads = 4", "n_heads = -4"))
    options = ("--runs", ".") if arguments[0] == "attribute" else ()
    done = tributary(*arguments, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_all_faults_of_a_configuration_are_named_at_once(tmp_path: Path) -> None:
    class Wanted(BaseModel):
        name: str
        steps: int = Field(gt=0)
        others: list[int]

    path = tmp_path / "wanted.toml"
    path.write_text("steps = 0\nothers = " + str(["x"] * MOST_FAULTS))
    with pytest.raises(UsageError) as refused:
        read_config(path, Wanted)
    message = str(refused.value)
    assert "name: Field required; steps: Input should be greater than 0; others.0: " in message
    assert f"others.{MOST_FAULTS - 3}: " in message
    assert f"others.{MOST_FAULTS - 2}: " not in message
    assert "; and 2 more" in message


def test_output_tokens_get_attr_abs_when_asked(made: Path, tmp_path: Path) -> None:
    copy_of(made, tmp_path)
    succeed("attribute", "toy", "--runs", ".", "--output-abs", "top:3", "--batches", "20", cwd=tmp_path)
    store = RunDirectory.open(tmp_path / "toy").attributions()
    counts = np.bincount(RunDirectory.open(tmp_path / "toy").corpus().tokens)
    most = int(counts.argmax())
    assert store.top_sources(parse_key(f"output:{most}"), 5, "positive", "attr_abs").entries


def test_documents_and_tokens(tmp_path: Path) -> None:
    documents = [
        Document(f"t{i}", "s", text) for i, text in enumerate(["a b", "ünïcode \u2028 ☃\n", "", "d" * 50])
    ]
    tokenizer = train_tokenizer(documents, 270)
    corpus = tokenize(documents, tokenizer, validation_every=2)
    assert [tokenizer.decode(corpus.document(i).tolist()) for i in range(4)] == [d.text for d in documents]
    assert len(corpus.split(validation=True)) + len(corpus.split(validation=False)) == len(corpus.tokens)
    assert sum(len(corpus.group(g, 3)) for g in range(3)) == len(corpus.tokens)
    assert sum(w.numel() for w in windows(corpus.group(0, 1), 7, 2)) == len(corpus.tokens)
    corpus.save(tmp_path)
    assert TokenCorpus.load(tmp_path).sha256 == corpus.sha256
    tokens = np.load(tmp_path / "tokens.npy")
    tokens[0] += 1
    np.save(tmp_path / "tokens.npy", tokens)
    with pytest.raises(CorpusError, match="checksum"):
        TokenCorpus.load(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"title": "no text"}\n')
    with pytest.raises(CorpusError, match="line 1"):
        read_documents(tmp_path / "bad.jsonl")
