"""Groups computed on copies of a run and merged are the attributions of one pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backend.pipelines import attribute, merge
from backend.pipelines.common import UsageError
from compute.address import parse_key
from storage.run_directory import RunDirectory
from tests.support.tiny_run import make_tiny_run


def _attribute(run: Path, groups: str = "all") -> None:
    attribute.command(str(run), batch_size=4, groups=groups, output_abs="all", device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "whole"
    make_tiny_run(path)
    shutil.rmtree(path / "attributions", ignore_errors=True)
    return path


@pytest.fixture(scope="module")
def parts(whole: Path) -> list[Path]:
    copies: list[Path] = []
    for groups in ("0-4", "5", "6-15"):
        copy = whole.with_name(f"part-{groups}")
        shutil.copytree(whole, copy)
        _attribute(copy, groups)
        copies.append(copy)
    _attribute(whole)
    return copies


@pytest.mark.parametrize("metric", ["attr", "attr_abs", "attr_frozen"])
def test_merged_groups_are_one_pass(whole: Path, parts: list[Path], metric: str, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    shutil.copytree(parts[0], merged, ignore=shutil.ignore_patterns("attributions"))
    merge.command(str(merged), parts)

    one, sum_of_parts = (RunDirectory.open(path).attributions() for path in (whole, merged))
    assert sum_of_parts.tokens == one.tokens
    for key in ("0.attn.q:1", "1.glu.down:2", "output:5"):
        expected = one.top_sources(parse_key(key), 8, "positive", metric).entries
        entries = sum_of_parts.top_sources(parse_key(key), 8, "positive", metric).entries
        assert [entry.key for entry in entries] == [entry.key for entry in expected]
        for name in ("value", "standard_error"):
            ours, theirs = (
                {e.key: v for e in found if (v := getattr(e, name)) is not None}
                for found in (entries, expected)
            )
            assert ours == pytest.approx(theirs, rel=1e-6)
        assert entries


def test_a_group_is_counted_once_only(parts: list[Path], tmp_path: Path) -> None:
    twice = tmp_path / "twice"
    shutil.copytree(parts[1], twice, ignore=shutil.ignore_patterns("attributions"))
    _attribute(twice, "4-5")
    with pytest.raises(UsageError, match="both hold group 4"):
        merge.command(str(parts[0]), [parts[0], twice])


def test_a_part_without_attributions_is_named(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(whole, empty, ignore=shutil.ignore_patterns("attributions"))
    with pytest.raises(UsageError, match="no complete attributions"):
        merge.command(str(whole), [parts[0], empty])
