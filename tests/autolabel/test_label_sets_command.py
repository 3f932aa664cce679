"""``tributary label-sets``: what there is, what it cost, as files, and how it is deleted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.cli import run
from storage.graphs import GraphDatabase
from tests.autolabel.conftest import RARE
from tests.support.model_server import ModelServer

Call = Callable[..., tuple[int, str, str]]
NAME = "evidence toy-1"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "labels.sqlite3"


@pytest.fixture
def tributary(
    capsys: pytest.CaptureFixture[str],
    runs: Path,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: ModelServer,
) -> Call:
    """The command line, after one labelling."""
    monkeypatch.setenv("TRIBUTARY_RUNS", str(runs))
    monkeypatch.setenv("TRIBUTARY_DATABASE", str(database))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    asked = ["label", "toy", "--endpoint", server.url, "--model", "org/toy-1", "--keys", ",".join(RARE)]
    assert call(*asked, "--trials", "0", "--price-in", "1", "--price-out", "2", "--cap", "1")[0] == 0
    return call


def test_the_list(tributary: Call) -> None:
    code, out, _ = tributary("label-sets", "list", "toy")
    assert code == 0
    name, done, strategy, spent = out.splitlines()
    assert name == NAME
    assert done.startswith("  3 of 3 labels, finished, ")
    assert strategy.startswith("  strategy evidence by org/toy-1 at http://127.0.0.1:")
    assert spent == "  3 requests, 300 + 30 tokens, 0.00036 spent"
    document = json.loads(tributary("label-sets", "list", "toy", "--json")[1])
    assert [found["name"] for found in document["sets"]] == [NAME]
    assert document["sets"][0]["judge"] is None
    code, out, err = tributary("label-sets", "list", "bare")
    assert (code, out) == (0, "")
    assert "no label sets" in err


def test_files(tributary: Call, tmp_path: Path) -> None:
    code, out, _ = tributary("label-sets", "export", "toy", NAME)
    assert code == 0
    assert {entry["key"]: entry["label"] for entry in json.loads(out)["labels"]} == dict.fromkeys(
        RARE, "a toy label"
    )
    path = tmp_path / "labels.CSV"
    code, out, err = tributary("label-sets", "export", "toy", NAME, "--output", str(path))
    assert (code, out, err) == (0, "", f"3 labels written to {path}\n")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    assert {row["key"] for row in rows} == set(RARE)
    code, _, err = tributary("label-sets", "export", "toy", "none")
    assert code == 2
    assert f"has no label set 'none'; there are '{NAME}'" in err


def test_deleting_says_what_is_lost_and_asks(
    tributary: Call, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = ("label-sets", "delete", "toy", NAME)
    code, _, err = tributary(*delete)
    assert code == 2  # nobody is there to ask
    assert "--yes" in err

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    code, _, err = tributary(*delete)
    assert code == 1
    assert "0.00036 spent" in err
    assert f"Delete '{NAME}' with all answers for good?" in err
    assert "nothing was deleted" in err
    other = GraphDatabase(database)
    (found,) = other.label_sets.sets("toy", other.label_sets.get(1).run_digest)
    with other.label_sets.working(found.id):
        code, _, err = tributary(*delete, "--yes")
        assert code == 2
        assert "worked on" in err
    code, _, err = tributary(*delete, "--yes")
    assert code == 0
    assert err.endswith(f"'{NAME}' is deleted\n")
    assert other.label_sets.sets("toy", found.run_digest) == []
    other.close()
