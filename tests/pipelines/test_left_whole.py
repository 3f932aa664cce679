"""Every computation on runs of which only a part is decomposed, from text to verified stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from backend.pipelines import attribute, compact, evaluate, harvest, index, merge
from backend.pipelines.load import load_decomposition
from backend.service.run import Run
from backend.service.verification import verify
from compute.address import Key, parse_address, parse_key
from storage.errors import NotComputedError
from storage.run_directory import RunDirectory
from tests.support.tiny_run import make_tiny_run

FUSED = ("0.attn_fused.qkv", "0.attn_fused.o", "1.mlp.down")
SPARSE = ("0.attn.k", "0.glu.up", "1.attn.v")


def _attribute(run: Path, groups: str = "all") -> None:
    attribute.command(str(run), batch_size=8, batches=32, groups=groups, output_abs="top:20", device="cpu")


@pytest.fixture(scope="module", params=["fused", "sparse"])
def computed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A partial run with everything computed, attributions in two parts that were merged."""
    folder = tmp_path_factory.mktemp("runs")
    path = folder / request.param
    if request.param == "fused":
        make_tiny_run(path, "gpt2", sites=FUSED, fused=True, attributions=False, statistics=False)
    else:
        make_tiny_run(path, "llama", sites=SPARSE, attributions=False, statistics=False)
    evaluate.command(str(path), tokens=256, device="cpu")
    harvest.command(str(path), batches=8, examples=5, strongest_examples=5, device="cpu")
    parts = [folder / "first", folder / "second"]
    for part, groups in zip(parts, ("0-7", "8-15"), strict=True):
        shutil.copytree(path, part)
        _attribute(part, groups)
    merge.command(str(path), parts)
    return path


def test_everything_that_was_computed_is_verified(computed: Path):
    index.command(str(computed), k=4)
    checks = list(verify(Run("run", RunDirectory.open(computed))))
    assert not [check for check in checks if check.status != "ok"]
    names = {check.name for check in checks}
    assert "identity: definition, attr" in names
    assert "identity: frozen norm completeness" not in names


def test_the_merged_parts_are_one_pass(computed: Path, tmp_path: Path):
    whole = tmp_path / "whole"
    shutil.copytree(computed, whole, ignore=shutil.ignore_patterns("attributions"))
    _attribute(whole)
    one, merged = (RunDirectory.open(path).attributions() for path in (whole, computed))
    assert one.tokens == merged.tokens
    for key in _targets(one.manifest.settings.layouts):
        expected = one.top_sources(key, 5, "positive").entries
        found = merged.top_sources(key, 5, "positive").entries
        assert expected
        assert [e.value for e in found] == pytest.approx([e.value for e in expected], rel=1e-5)


def test_a_compact_copy_answers_the_same(computed: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(computed, copy)
    full = RunDirectory.open(copy).attributions()
    compact.command(str(copy))
    small = next(
        store
        for name in RunDirectory.open(copy).attribution_subruns()
        if (store := RunDirectory.open(copy).attributions(name)).encoding == "compact"
    )
    assert small.metrics == full.metrics == ("attr", "attr_abs")
    for key in _targets(full.manifest.settings.layouts):
        entry = full.top_sources(key, 1, "positive").entries[0]
        assert small.attribution(entry.key, key).value == pytest.approx(entry.value, rel=5e-3)


def test_attr_frozen_is_refused_with_its_reason(computed: Path):
    store = RunDirectory.open(computed).attributions()
    assert store.metrics == ("attr", "attr_abs")
    (site, *_) = (a for a in store.manifest.settings.layouts[-1].blocks if a.kind == "component")
    source = Key(parse_address(site.address), 0)
    for ask in (
        lambda: store.top_sources(parse_key("output:3"), 3, "positive", "attr_frozen"),
        lambda: store.top_targets(source, 3, "positive", "attr_frozen"),
        lambda: store.attribution(source, parse_key("output:3"), "attr_frozen"),
    ):
        with pytest.raises(NotComputedError, match="left whole"):
            ask()


def test_sources_are_those_of_the_topology(computed: Path):
    run = RunDirectory.open(computed)
    points = load_decomposition(run).topology.read_points
    layouts = run.attributions().manifest.settings.layouts
    assert [p.name for p in layouts] == [p.name for p in points]
    for layout, point in zip(layouts, points, strict=True):
        assert layout.through == tuple(map(str, point.through))
        assert {b.address for b in layout.blocks} == {str(a) for a in point.pseudo_sources + point.sources}
    assert any(layout.through for layout in layouts)
    assert not any(layout.scale_free for layout in layouts if layout.through)


def _targets(layouts) -> list[Key]:
    keys = [Key(parse_address(reader), 1) for point in layouts for reader in point.readers]
    return list(np.random.default_rng(0).permutation(keys)[:6])
