"""Sums of the engine in a store: what the norm makes cancel cancels, and completeness holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compute.address import parse_key
from storage.compact import compact
from tests.support.tiny_run import make_tiny_run


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_engine_to_query(tmp_path: Path, family: str) -> None:
    run = make_tiny_run(tmp_path / "run", family, sums="engine", output_abs=True)  # type: ignore[arg-type]
    store = run.attributions()
    assert store.tokens == len(run.corpus().tokens)
    assert store.verify() > 0
    key = parse_key("0.attn.q:1")
    signed, frozen = (
        sum(
            store.top_sources(key, 3, sign, metric, normalised=False).total_value
            for sign in ("positive", "negative")
        )
        for metric in ("attr", "attr_frozen")
    )
    size = store.top_sources(key, 3, "positive", "attr_frozen", normalised=False).total_value
    assert abs(signed) < 1e-2 * size  # a norm is scale-free: attributions into it cancel in total
    assert np.isfinite(frozen)
    small = run.attributions(compact(run))
    for metric in store.metrics:
        for text in ("1.attn.o:1", "output:40"):
            a = store.top_sources(parse_key(text), 3, "positive", metric).entries
            b = small.top_sources(parse_key(text), 3, "positive", metric).entries
            assert [e.value for e in a] == pytest.approx([e.value for e in b], rel=3e-3)
