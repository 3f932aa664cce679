"""What a log file shows of a long computation."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from backend.pipelines import common


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(common, "console", Console(file=text, width=40))
    return text


def test_a_log_gets_a_line_now_and_then(log: io.StringIO, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(common.LogLines, "FIRST", 0.0)
    monkeypatch.setattr(common.LogLines, "EVERY", 3600.0)
    with common.progress("harvest", 4000, "token", 1000) as update:
        update(2000, "group 2 of 16, a note that is longer than the log is wide")
        update(3000)
        update(4000)
    first, last = log.getvalue().splitlines()
    assert first.startswith("harvest 2,000/4,000 0:00:00, ")
    assert first.endswith("left  group 2 of 16, a note that is longer than the log is wide")
    assert last.startswith("harvest 4,000/4,000 0:00:00, ")
    assert "token/s, 0:00:00 left" in last


def test_the_last_line_stands_however_it_ends(log: io.StringIO):
    def interrupted() -> None:
        with common.progress("label", 10, "answer") as update:
            update(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert log.getvalue().startswith("label 4/10 0:00:00, ")


def test_nothing_done_has_no_rate(log: io.StringIO):
    with common.progress("label", 10, "answer", 3):
        pass
    assert log.getvalue() == "label 3/10 0:00:00\n"
