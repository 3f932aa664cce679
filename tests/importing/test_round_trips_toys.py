"""Toy runs of the ``param_decomp`` code, whose configuration hardly says what they are of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.importing.test_toys import compare, imported


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("task", ["tms", "resid_mlp"])
def test_toys_in_layout_b(task: str, named: bool, tmp_path: Path) -> None:
    public, result, run = imported(tmp_path, task=task, layout="B", importance="vector_mlp", named=named)
    compare(public, run)
    assert run.info.provenance["source_layout"] == "param_decomp"
    assert "experiment_kind" not in result.ignored_settings
