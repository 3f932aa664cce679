"""attr_abs of some targets only, and attributions without deltas: fewer rows, the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compute.address import OUTPUT, parse_address, parse_key
from compute.attribution.sums import layout
from storage.attributions import AttributionStore
from storage.compact import compact
from storage.errors import NotComputedError
from storage.writer import StoreWriter
from tests.support.tiny_run import make_tiny_run, random_sums, tiny_decomposition, tiny_settings

CHOSEN = {"0.attn.o": (1, 3), "output": (9, 7, 200)}


@pytest.fixture(params=["full", "indexed", "compact"])
def stores(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[AttributionStore, AttributionStore]:
    """Stores of the same sums: all targets, and the chosen ones; delta is off."""
    run = make_tiny_run(tmp_path / "run", attributions=False, statistics=False)
    decomposition = tiny_decomposition(vocab_size=run.info.target["vocab_size"])
    layouts = layout(decomposition, "off")
    rng = np.random.default_rng(0)
    sums = [random_sums(layouts, decomposition, rng, tokens=50, output_abs=True) for _ in range(16)]
    everything = tiny_settings(run, decomposition, delta="off", output_abs=True)
    names = []
    for settings in (
        everything,
        everything.model_copy(update={"abs_targets": CHOSEN, "output_abs": "top:3"}),
    ):
        writer = StoreWriter(run.path, settings, {}, method="closed_form", method_reason="test")
        for group, arrays in enumerate(sums):
            changed = {
                f"abs/{reader}": arrays[f"abs/{reader}"][list(rows)]
                for reader, rows in settings.abs_targets.items()
            }
            nothing = {
                f"frozen_delta/{p.name}": np.zeros((0, p.d_in)) for p in layouts if p.operation == "norm"
            }
            writer.write_group(group, arrays | changed | nothing)
        names.append(writer.finish())
    every, some = run.attributions(names[0]), run.attributions(names[1])
    if request.param == "indexed":
        some.build_index(k=8)
    if request.param == "compact":
        some = run.attributions(compact(run, names[1]))
    assert some.verify() > 0
    return every, some


def test_chosen_targets_have_the_same_sources(stores: tuple[AttributionStore, AttributionStore]) -> None:
    every, some = stores
    for text in ("output:200", "0.attn.o:3"):
        a = every.top_sources(parse_key(text), 4, "positive", "attr_abs")
        b = some.top_sources(parse_key(text), 4, "positive", "attr_abs")
        assert [e.key for e in a.entries] == [e.key for e in b.entries]
        assert [e.value for e in a.entries] == pytest.approx([e.value for e in b.entries], rel=1e-3)
        assert a.total == b.total


def test_targets_that_were_not_chosen(stores: tuple[AttributionStore, AttributionStore]) -> None:
    every, some = stores
    for text in ("output:8", "0.attn.o:0"):
        with pytest.raises(NotComputedError, match="targets were chosen"):
            some.top_sources(parse_key(text), 4, "positive", "attr_abs")
        with pytest.raises(NotComputedError):
            some.attribution(parse_key("0.attn.v:0"), parse_key(text), "attr_abs")
    found = some.top_targets(parse_key("0.attn.v:1"), 8, "positive", "attr_abs")
    expected = every.top_targets(parse_key("0.attn.v:1"), 8, "positive", "attr_abs")
    kept = [e for e in expected.entries if e.key.index in CHOSEN["0.attn.o"]]
    assert [e.key for e in found.entries] == [e.key for e in kept]
    last = parse_key("1.glu.down:0")
    found = some.top_targets(last, 8, "negative", "attr_abs")
    assert {e.key.index for e in found.entries} <= set(CHOSEN["output"])
    for entry in found.entries:
        whole = every.attribution(last, entry.key, "attr_abs")
        assert entry.value == pytest.approx(whole.value, rel=1e-3)
    assert some.top_sources(parse_key("0.attn.o:0"), 3, "positive").entries  # attr has every target


def test_without_deltas(stores: tuple[AttributionStore, AttributionStore]) -> None:
    some = stores[1]
    with pytest.raises(NotComputedError, match="delta off"):
        some.top_targets(parse_key("0.attn.o:delta"), 3, "positive")
    for metric in some.metrics:
        assert some.top_sources(parse_key("1.attn.q:0"), 3, "positive", metric).entries
    assert OUTPUT in {parse_address(name) for name in some.manifest.settings.abs_targets}
