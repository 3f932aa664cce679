"""Values that the public storage of dataset attributions gives for hand-made sums."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from compute.address import parse_key
from storage.attributions import AttributionStore
from storage.errors import NotComputedError
from storage.layout import ReadPoint, RowBlock, Settings
from storage.merge import merge
from storage.model_tensors import ModelTensors
from storage.writer import StoreWriter

D, VOCAB, C = 3, 3, 2
GROUPS = 16
SITE = "0.mlp.down"


def make_store(folder: Path, **changes: np.ndarray) -> AttributionStore:
    """One site that reads embeddings, an identity unembedding; the sums are spread over 16 groups."""
    folder.mkdir(exist_ok=True)
    tensors = {
        f"components.{SITE}.V": np.eye(D, C, dtype=np.float32),
        f"components.{SITE}.U": np.ones((C, D), np.float32),
        "target.token_embedding.weight": np.eye(VOCAB, D, dtype=np.float32),
        "target.unembedding.weight": np.eye(VOCAB, D, dtype=np.float32),
        "target.final_norm.weight": np.ones(D, np.float32),
    }
    model = folder / "model.safetensors"
    model.write_bytes(save(tensors))
    embed = RowBlock(address="embed", kind="embed", offset=0, count=VOCAB)
    site = RowBlock(address=SITE, kind="component", offset=VOCAB, count=C)
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    settings = Settings(
        delta="off",
        ci_weighted=True,
        metrics=("attr", "attr_abs"),
        layouts=(
            ReadPoint(name="0.mlp.hidden", operation="mlp", d_in=D, readers=(SITE,), blocks=(embed,)),
            ReadPoint(name="output", operation="mlp", d_in=D, readers=("output",), blocks=(embed, site)),
        ),
        centred_norm=False,
        model_sha256=sha256,
        corpus_sha256="text",
    )
    arrays = {
        "signed/0.mlp.hidden": np.zeros((VOCAB, D)),
        "signed/output": np.zeros((VOCAB + C, D)),
        f"abs/{SITE}": np.zeros((C, VOCAB)),
        f"ci_sum/{SITE}": np.full(C, 50.0),
        f"activation_square_sum/{SITE}": np.full(C, 400.0),
        "token_count": np.full(VOCAB, 200.0),
        "logit_square_sum": np.full(VOCAB, 900.0),
        "tokens": np.array([100.0]),
    }
    arrays["signed/0.mlp.hidden"][1, 0] = 6
    arrays[f"abs/{SITE}"][0, 1] = 12
    arrays["signed/output"][VOCAB + 1, 2] = 3
    arrays["signed/output"][1, 2] = 1
    arrays |= changes
    writer = StoreWriter(folder, settings, {}, method="closed_form", method_reason="by hand")
    for group in range(GROUPS):
        writer.write_group(group, {name: value / GROUPS for name, value in arrays.items()})
    name = writer.finish()
    return AttributionStore.open(folder / "attributions" / name, ModelTensors(model), sha256)


@pytest.fixture
def store(tmp_path: Path) -> AttributionStore:
    return make_store(tmp_path / "run")


@pytest.mark.parametrize(
    ("source", "target", "metric", "value"),
    [
        ("embed:1", f"{SITE}:0", "attr", 0.015),
        ("embed:1", f"{SITE}:0", "attr_abs", 0.03),
        (f"{SITE}:1", "output:2", "attr", 0.02),
        ("embed:1", "output:2", "attr", 1 / 200 / 3),
    ],
)
def test_single_edges(store: AttributionStore, source: str, target: str, metric: str, value: float) -> None:
    found = store.attribution(parse_key(source), parse_key(target), metric)
    assert found.value == pytest.approx(value, rel=1e-6)
    assert found.standard_error == pytest.approx(0, abs=1e-9)
    assert found.support == GROUPS


def test_both_directions(store: AttributionStore) -> None:
    sources = store.top_sources(parse_key("output:2"), 10, "positive")
    assert [(str(e.key), round(e.value, 9)) for e in sources.entries] == [
        (f"{SITE}:1", 0.02),
        ("embed:1", round(1 / 600, 9)),
    ]
    assert sources.total == 2
    assert sources.total_value == pytest.approx(0.02 + 1 / 600)
    targets = store.top_targets(parse_key("embed:1"), 10, "positive")
    assert [str(e.key) for e in targets.entries] == [f"{SITE}:0", "output:2"]
    without = store.top_targets(parse_key("embed:1"), 10, "positive", include_outputs=False)
    assert [str(e.key) for e in without.entries] == [f"{SITE}:0"]
    raw = store.top_targets(parse_key("embed:1"), 10, "positive", normalised=False)
    assert [entry.value for entry in raw.entries] == [6.0, 1.0]


def test_entries_of_the_other_sign_are_left_out(store: AttributionStore) -> None:
    nothing = store.top_sources(parse_key("output:2"), 10, "negative")
    assert (nothing.entries, nothing.total, nothing.total_value) == ((), 0, 0.0)


def test_attr_abs_into_output_tokens_is_absent(store: AttributionStore) -> None:
    with pytest.raises(NotComputedError, match="output tokens"):
        store.top_sources(parse_key("output:2"), 10, "positive", "attr_abs")
    with pytest.raises(NotComputedError):
        store.attribution(parse_key("embed:1"), parse_key("output:2"), "attr_abs")


def test_merge(tmp_path: Path) -> None:
    def part(name: str, raw: float, squares: float, count: float, tokens: float) -> AttributionStore:
        signed = np.zeros((VOCAB, D))
        signed[1, 0] = raw
        return make_store(
            tmp_path / name,
            **{
                "signed/0.mlp.hidden": signed,
                f"activation_square_sum/{SITE}": np.full(C, squares),
                "token_count": np.full(VOCAB, count),
                "tokens": np.array([tokens]),
            },
        )

    first = part("first", 4, 200, 80, 40)
    second = part("second", 8, 400, 120, 60)
    run = tmp_path / "first"
    name = merge([first.path, second.path], run)
    tensors = ModelTensors(run / "model.safetensors")
    merged = AttributionStore.open(run / "attributions" / name, tensors, first.manifest.settings.model_sha256)
    value = merged.attribution(parse_key("embed:1"), parse_key(f"{SITE}:0")).value
    assert value == pytest.approx(12 / 200 / math.sqrt(6), rel=1e-6)
    assert merged.tokens == 100
