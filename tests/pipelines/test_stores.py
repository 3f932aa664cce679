"""``tributary index`` and ``tributary compact`` on a toy run; what they write is tested in tests/storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.pipelines import compact, index
from compute.address import parse_key
from storage.run_directory import RunDirectory
from tests.support.tiny_run import make_tiny_run


def test_an_index_and_a_compact_copy_answer_like_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_tiny_run(tmp_path / "toy")
    (full,) = run.attribution_subruns()
    key = parse_key("1.glu.down:3")
    before = run.attributions().top_sources(key, 3, "positive", "attr").entries

    index.command(str(run.path), k=8)
    compact.command(str(run.path))

    words = capsys.readouterr().err
    assert "Standard errors moved" in words
    small, _ = RunDirectory.open(run.path).attribution_subruns()
    assert words.strip().endswith(small)
    for subrun, tolerance in ((full, 1e-6), (small, 1e-2)):
        entries = (
            RunDirectory.open(run.path).attributions(subrun).top_sources(key, 3, "positive", "attr").entries
        )
        assert [entry.key for entry in entries] == [entry.key for entry in before]
        assert [entry.value for entry in entries] == pytest.approx([e.value for e in before], rel=tolerance)
