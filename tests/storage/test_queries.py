"""Queries against the obvious computation: both directions, all metrics, both signs, both families."""

from __future__ import annotations

import pytest
import torch

from compute.address import OUTPUT, Key, parse_key
from compute.attribution.engine import AttributionEngine
from storage.attributions import AttributionStore
from storage.errors import NotComputedError, UnknownKeyError
from storage.layout import ReadPoint, RowBlock, RowKind
from storage.run_directory import RunDirectory
from tests.storage.oracle import Oracle
from tests.support.tiny_run import tiny_decomposition

TARGETS = ["0.attn.q:1", "0.attn.o:2", "1.attn.k:0", "output:7"]
SOURCES = ["embed:40", "0.attn.v:3", "0.attn.o:0", "0.attn.o:delta", "1.attn.o:1"]


@pytest.fixture
def store(run: RunDirectory) -> AttributionStore:
    return run.attributions()


@pytest.fixture
def oracle(run: RunDirectory) -> Oracle:
    return Oracle.of(run.info.target["family"], run.info.target["vocab_size"])


def mlp(run: RunDirectory, projection: str, index: int | str) -> str:
    kind = "glu" if run.info.target["family"] == "llama" else "mlp"
    return f"1.{kind}.{projection}:{index}"


def keys(run: RunDirectory, direction: str) -> list[str]:
    if direction == "sources":
        return [*TARGETS, mlp(run, "up", 0), mlp(run, "down", 4)]
    more = ["position:3", "0.attn.o:bias"] if run.info.target["family"] == "gpt2" else []
    return [*SOURCES, *more, mlp(run, "up", 2), mlp(run, "down", "delta")]


@pytest.mark.parametrize("direction", ["sources", "targets"])
@pytest.mark.parametrize("metric", ["attr", "attr_abs", "attr_frozen"])
@pytest.mark.parametrize("normalised", [True, False])
def test_top_entries(
    run: RunDirectory, store: AttributionStore, oracle: Oracle, direction: str, metric: str, normalised: bool
) -> None:
    for text in keys(run, direction):
        key = parse_key(text)
        ends = oracle.sources(key) if direction == "sources" else oracle.targets(key)
        if metric == "attr_abs" and not store.has_output_abs:
            ends = [end for end in ends if end[2].address != OUTPUT and key.address != OUTPUT]
        query = store.top_sources if direction == "sources" else store.top_targets
        if not ends:
            with pytest.raises(NotComputedError, match="attr_abs into output tokens"):
                query(key, 3, "positive", metric)
            continue
        expected = {}
        for point, row, other in ends:
            reader, index = (
                (key.address, key.index) if direction == "sources" else (other.address, other.index)
            )
            assert isinstance(index, int)
            expected[other] = oracle.edge(point, row, reader, index, metric, normalised)
        for sign in ("positive", "negative"):
            signed = {
                other: edge
                for other, edge in expected.items()
                if (edge[0] > 0) == (sign == "positive") and edge[0]
            }
            result = query(key, 4, sign, metric, normalised=normalised)
            ranked = sorted(signed, key=lambda other: -abs(signed[other][0]))[:4]
            assert [entry.key for entry in result.entries] == ranked, text
            assert result.total == len(signed)
            assert result.total_value == pytest.approx(sum(edge[0] for edge in signed.values()), rel=1e-5)
            assert result.tokens == (store.abs_tokens if metric == "attr_abs" else store.tokens)
            for entry in result.entries:
                value, error, support = expected[entry.key]
                assert entry.value == pytest.approx(value, rel=1e-5)
                assert entry.standard_error == (None if error is None else pytest.approx(error, rel=1e-5))
                assert entry.support == support
                source, target = (entry.key, key) if direction == "sources" else (key, entry.key)
                single = store.attribution(source, target, metric, normalised=normalised)
                assert single.connected
                assert single.value == entry.value
                assert single.standard_error == pytest.approx(entry.standard_error)
                assert (single.support, single.scale_free) == (entry.support, entry.scale_free)
                if not normalised:
                    assert single.raw == single.value


def test_standard_errors_are_hidden_below_five_groups(store: AttributionStore) -> None:
    entries = [
        e for i in range(5) for e in store.top_sources(parse_key(f"0.attn.q:{i}"), 200, "positive").entries
    ]
    assert {entry.standard_error is None for entry in entries if entry.support < 5} <= {True}
    assert {entry.standard_error is None for entry in entries if entry.support >= 5} == {False}


def test_scale_free_edges_are_flagged(run: RunDirectory, store: AttributionStore) -> None:
    alone = run.info.target["family"] == "llama"  # learned positions are a second source that does not cancel
    entry = store.top_sources(parse_key("0.attn.q:1"), 1, "positive").entries[0]
    assert entry.scale_free is alone
    assert not store.top_sources(parse_key("0.attn.q:1"), 1, "positive", "attr_frozen").entries[0].scale_free
    assert not store.top_sources(parse_key("1.attn.q:1"), 1, "positive").entries[0].scale_free
    assert store.attribution(parse_key("embed:3"), parse_key("0.attn.k:0")).scale_free is alone


def test_unconnected_keys_have_an_exact_zero(store: AttributionStore) -> None:
    result = store.attribution(parse_key("1.attn.v:0"), parse_key("0.attn.o:0"))
    assert (result.value, result.raw, result.standard_error, result.connected) == (0.0, 0.0, None, False)


@pytest.mark.parametrize(
    "text", ["9.attn.q:0", "0.attn.q:5000", "embed:100000", "output:100000", "0.attn_fused.qkv:0"]
)
def test_unknown_keys(store: AttributionStore, text: str) -> None:
    key = parse_key(text)
    for query in (store.top_sources, store.top_targets):
        with pytest.raises(UnknownKeyError):
            query(key, 3, "positive")
    with pytest.raises(UnknownKeyError):
        store.attribution(key, parse_key("1.attn.q:0"))


def test_roles_that_do_not_exist(store: AttributionStore) -> None:
    for text in ("embed:1", "0.attn.o:delta"):
        with pytest.raises(NotComputedError, match="source only"):
            store.top_sources(parse_key(text), 3, "positive")
    with pytest.raises(NotComputedError, match="target only"):
        store.top_targets(parse_key("output:1"), 3, "positive")
    last = [block for block in store.manifest.settings.layouts[-1].blocks if block.kind == "component"][-1]
    with pytest.raises(NotComputedError, match="output tokens only"):
        store.top_targets(parse_key(f"{last.address}:0"), 3, "positive", include_outputs=False)


def test_components_alone(store: AttributionStore) -> None:
    result = store.top_targets(parse_key("0.attn.o:0"), 500, "positive", include_outputs=False)
    assert OUTPUT not in {entry.key.address for entry in result.entries}
    assert isinstance(result.entries[0].key, Key)


def test_embeddings_that_pass_the_first_norm_only_are_scale_free_behind_matrices_left_whole() -> None:
    def point(name: str, kinds: tuple[RowKind, ...]) -> ReadPoint:
        addresses = {"embed": "embed", "position": "position", "component": "0.attn.v"}
        blocks = tuple(
            RowBlock(address=addresses[kind], kind=kind, offset=2 * i, count=2)
            for i, kind in enumerate(kinds)
        )
        return ReadPoint(
            name=name,
            operation="attention",
            d_in=4,
            readers=("0.attn.o",),
            blocks=blocks,
            through=("0.attn.q",),
        )

    mixed = point("0.attn.mixed", ("embed", "component"))
    assert [mixed.scale_free_row(row) for row in range(4)] == [True, True, False, False]
    # With learned positions the norm sees more than the embedding; later blocks see more, too.
    assert not point("0.attn.mixed", ("embed", "position")).scale_free_row(0)
    assert not point("1.attn.mixed", ("embed", "component")).scale_free_row(0)


def test_what_is_called_scale_free_cancels_up_to_eps() -> None:
    decomposition = tiny_decomposition("llama", sites=("0.attn.o", "0.glu.up"))
    engine = AttributionEngine(decomposition.double(), "node", ("attr",))
    sums = engine.new_sums()
    engine.accumulate(sums, torch.arange(12).view(2, 6))
    largest = {
        point.name: sums.arrays[f"signed/{point.name}"][: sums.layouts[0].blocks[0].count].abs().max().item()
        for point in sums.layouts
    }
    assert largest["0.attn.mixed"] < 1e-3 * largest["0.mlp.input"]
