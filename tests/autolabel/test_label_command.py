"""``tributary label`` from the outside: documents, exit codes, Ctrl-C, and a key that is nowhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.cli import run
from storage.graphs import GraphDatabase
from tests.autolabel.conftest import RARE
from tests.support.model_server import ModelServer, complains, label

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tributary(
    capsys: pytest.CaptureFixture[str], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Call:
    monkeypatch.setenv("TRIBUTARY_RUNS", str(runs))
    monkeypatch.setenv("TRIBUTARY_DATABASE", str(tmp_path / "labels.sqlite3"))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["label", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def asked(server: ModelServer, *more: str) -> list[str]:
    return ["toy", "--endpoint", server.url, "--model", "org/toy-1", "--keys", ",".join(RARE), *more]


def test_a_dry_run_sends_nothing_and_needs_no_cap(tributary: Call, server: ModelServer) -> None:
    code, out, _ = tributary(*asked(server, "--dry-run", "--price-in", "1", "--price-out", "4", "--json"))
    document = json.loads(out)
    assert code == 0
    assert document.keys() == {"run", "set", "components", "never_fire", "too_dense", "judge", "estimate"}
    assert document["judge"] == {"model": "org/toy-1", "endpoint": server.url}
    assert document["set"] == "evidence toy-1"
    estimate = document["estimate"]
    assert estimate["requests"] == 3 + 2 * 3
    assert estimate["cost"] == pytest.approx(
        (estimate["prompt_tokens"] + 4 * estimate["completion_tokens"]) / 1e6
    )
    judge = ("--judge-model", "better", "--judge-price-in", "1000", "--judge-price-out", "0")
    _, out, _ = tributary(
        *asked(server, "--dry-run", "--price-in", "0", "--price-out", "0", *judge, "--json")
    )
    judged = json.loads(out)
    assert judged["judge"]["model"] == "better"
    labelling = 3 * 150  # the answers
    assert judged["estimate"]["completion_tokens"] == labelling + 6 * 30
    assert 0 < judged["estimate"]["cost"] * 1000 < judged["estimate"]["prompt_tokens"]
    code, out, _ = tributary(*asked(server, "--dry-run"))
    assert code == 0
    assert out.startswith("3 components of toy, strategy evidence: at most 9 questions, about ")
    assert "Nothing was sent." in out
    assert server.requests == []


def test_the_document_of_a_labelling(tributary: Call, server: ModelServer) -> None:
    code, out, err = tributary(*asked(server, "--trials", "0", "--json"))
    document: dict[str, Any] = json.loads(out)
    assert code == 0
    assert document.keys() == {
        "run", "set", "ended", "labelled", "failed", "failed_trials", "failures", "labels", "scores",
        "spending", "seconds", "components", "never_fire", "too_dense", "judge", "estimate",
    }  # fmt: skip
    assert document["labels"] == dict.fromkeys(RARE, "a toy label")
    assert document["judge"] is None  # nothing is asked about the labels
    assert document["spending"] == {
        "requests": 3, "failed_requests": 0, "prompt_tokens": 300, "completion_tokens": 30,
        "uncounted_requests": 0, "cost": None,
    }  # fmt: skip
    assert "3 components of toy" in err
    # The same again has nothing to do; scores can come later.
    assert tributary(*asked(server, "--trials", "0"))[0] == 0
    assert len(server.requests) == 3
    code, out, _ = tributary(*asked(server))
    assert code == 0
    assert "3 of 3 components have a label in 'evidence toy-1'" in out
    assert "detection: " in out
    assert "guessing gives 50 %" in out


def test_a_failure_is_said_and_ends_with_one(tributary: Call, server: ModelServer) -> None:
    server.answer = lambda r: complains(400, "too long") if r.number == 1 else label()
    code, out, err = tributary(*asked(server, "--trials", "0", "--concurrency", "1"))
    assert code == 1
    assert "2 of 3 components have a label" in out
    assert f"failed: {RARE[1]} (evidence): refused with status 400: too long" in err
    assert "the same command asks again what failed" in err
    assert tributary(*asked(server, "--trials", "0"))[0] == 0


def test_the_cap_stops_before_it_is_exceeded(tributary: Call, server: ModelServer, tmp_path: Path) -> None:
    prices = ("--price-in", "10", "--price-out", "10", "--trials", "0", "--concurrency", "1")
    code, out, err = tributary(*asked(server, *prices, "--cap", "0.02", "--json"))
    document = json.loads(out)
    assert code == 1
    assert (document["ended"], document["labelled"]) == ("cap", 0)
    assert "the cap is 0.02" in err
    assert server.requests == []  # the first might have cost more
    code, out, _ = tributary(*asked(server, *prices, "--cap", "1", "--json"))
    assert code == 0
    assert json.loads(out)["spending"]["cost"] == pytest.approx(3 * 110 * 10 / 1e6)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--endpoint", "https://models.example/v1"], "may cost money"),
        (["--price-in", "1"], "one of two prices"),
        (["--price-in", "1", "--price-out", "1"], "no cap"),
        (["--cap", "1"], "needs the prices"),
        (["--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (["--endpoint", "ftp://x"], "not the address"),
        (["--name", "a/b"], "no name for a label set"),
        (["--keys", "embed:3"], "not a component"),
        (["--keys", "0.attn.z:3"], "no projection"),
        (["--harvest", "20200101-000000"], "no harvest called"),
        (["--model", " "], "no model is named"),
        (["--judge-price-in", "1", "--judge-price-out", "1", "--cap", "1"], "prices already"),
        (["--price-in", "1", "--price-out", "1", "--cap", "1", "--judge-model", "j"], "no prices"),
    ],
)
def test_mistakes(tributary: Call, server: ModelServer, more: list[str], said: str) -> None:
    code, out, err = tributary(*asked(server, *more))
    assert (code, out) == (2, "")
    assert err.startswith("tributary: ")
    assert said in err
    assert err.count("\n") == 1
    assert server.requests == []


def test_a_run_without_a_harvest_says_what_to_do(tributary: Call, server: ModelServer) -> None:
    code, _, err = tributary("bare", "--endpoint", server.url, "--model", "m")
    assert code == 2
    assert "tributary harvest bare" in err


def test_a_set_is_not_mixed_from_two_models(tributary: Call, server: ModelServer) -> None:
    assert tributary(*asked(server, "--trials", "0", "--name", "mine"))[0] == 0
    code, _, err = tributary(*asked(server, "--name", "mine", "--model", "other"))
    assert code == 2
    assert "made with another model ('org/toy-1', not 'other')" in err


def test_the_key_is_sent_and_is_nowhere_else(
    tributary: Call, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    server.answer = lambda r: (
        complains(400, "bad key sk-very-secret?") if r.number == 0 else label("sk-very-secret")
    )
    code, out, err = tributary(*asked(server, "--key-env", "MY_KEY", "--trials", "0", "--concurrency", "1"))
    assert code == 1
    assert {r.headers["Authorization"] for r in server.requests} == {"Bearer sk-very-secret"}
    assert "very-secret" not in out + err
    assert "[key]" in err
    for file in tmp_path.iterdir():
        assert b"very-secret" not in file.read_bytes()


def test_ctrl_c_and_going_on(tributary: Call, server: ModelServer, tmp_path: Path) -> None:
    server.answer = lambda r: label(delay=0.0 if r.number < 2 else 60.0)
    options = asked(server, "--trials", "0", "--concurrency", "1")
    options += ["--price-in", "1", "--price-out", "1", "--cap", "1"]
    command = [sys.executable, "-m", "backend.cli", "label", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(server.requests) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    database = GraphDatabase(tmp_path / "labels.sqlite3")
    sets = database.label_sets
    assert sets.get(1).ended == "interrupted"
    assert sets.progress(1).done == 2
    # What was under way may be charged for: it counts at its largest.
    spent = sets.spending(1)
    assert (spent.requests, spent.uncounted) == (3, 1)
    assert spent.cost > 2 * 110 / 1e6
    server.answer = lambda _: label()
    assert tributary(*options)[0] == 0
    assert sets.progress(1).done == 3
    assert len(server.requests) == 4
    database.close()
