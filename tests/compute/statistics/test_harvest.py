"""The pass over a corpus against one made the slow way, dense and sparse, cut and in one piece."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from compute.decomposition.importance_config import ImportanceConfig
from compute.decomposition.model import Decomposition
from compute.statistics.harvest import HarvestOptions, HarvestPlan, HarvestSums, plan
from storage.run_directory import RunDirectory
from tests.support.naive_harvest import GROUPS, TINY_SETTINGS, batches_of, naive_harvest, two_parts
from tests.support.tiny_run import make_tiny_run, tiny_decomposition

OPTIONS = HarvestOptions(
    left=TINY_SETTINGS.left,
    right=TINY_SETTINGS.right,
    n_random=TINY_SETTINGS.n_random,
    n_strongest=TINY_SETTINGS.n_strongest,
)
SUMS = ("ci_sum", "activation_sum", "activation_square_sum", "firing_activation_sum")
LISTS = ("input", "output", "cofiring")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_tiny_run(tmp_path_factory.mktemp("run") / "tiny", attributions=False, statistics=False)


@pytest.fixture(scope="module")
def decomposition(run: RunDirectory) -> Decomposition:
    return tiny_decomposition(vocab_size=run.info.target["vocab_size"])


def harvested(run: RunDirectory, decomposition, how: HarvestPlan, groups: Iterable[int]) -> HarvestSums:
    corpus = run.corpus()
    sums = HarvestSums(decomposition, OPTIONS, how)
    for group in groups:
        for positions, documents in batches_of(corpus, group, TINY_SETTINGS):
            tokens = torch.from_numpy(corpus.tokens[positions].astype(np.int64))
            sums.add(tokens, positions, documents)
    return sums


def one_block(sums: HarvestSums) -> dict[str, np.ndarray]:
    blocks = list(sums.blocks())
    assert len(blocks) == 1  # the toy has fewer components than a block
    return blocks[0]


@pytest.fixture(scope="module", params=["dense", "sparse"])
def block(request: pytest.FixtureRequest, run: RunDirectory, decomposition) -> dict[str, np.ndarray]:
    dense = request.param == "dense"
    how = replace(
        plan(decomposition, OPTIONS, 256, 1 << 30),
        n_hot=10**6 if dense else 9,
        input_dense=dense,
    )
    return one_block(harvested(run, decomposition, how, range(GROUPS)))


@pytest.fixture(scope="module")
def slow(run: RunDirectory, decomposition) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    _, totals, blocks = naive_harvest(run, decomposition)
    return totals, blocks


def test_counts_and_extremes(block, slow) -> None:
    for name in ("firing_count", "ci_max", "activation_min", "activation_max"):
        expected = np.concatenate([b[name] for b in slow[1]])
        np.testing.assert_allclose(block[name], expected, rtol=2e-5, atol=1e-6)
    assert block["firing_count"].dtype == np.int64
    np.testing.assert_array_equal(block["firing_count"], np.concatenate([b["firing_count"] for b in slow[1]]))


def test_sums(block, slow) -> None:
    for name in SUMS:
        expected = np.concatenate([b[name] for b in slow[1]])

        def value(parts: np.ndarray) -> np.ndarray:
            return parts[:, 0] / 2**20 + parts[:, 1] / 2**60

        assert (block[name][:, 1] >= 0).all()
        assert (block[name][:, 1] < 2**40).all()
        np.testing.assert_allclose(value(block[name]), value(expected), rtol=1e-5, atol=1e-3)


def test_histograms(block, slow) -> None:
    np.testing.assert_array_equal(block["histogram"].sum(1), block["firing_count"])
    same = 0
    for c, expected in enumerate(slow[1]):
        assert block["histogram_exponent"][c] == expected["histogram_exponent"][0]
        same += int(np.abs(block["histogram"][c] - expected["histogram"][0]).sum() <= 4)
    assert same == len(slow[1])  # rounding may move a value across an edge


@pytest.mark.parametrize("kind", ["random", "strongest"])
def test_examples(block, slow, kind: str) -> None:
    for c, expected in enumerate(slow[1]):
        here = slice(block[f"{kind}/offsets"][c], block[f"{kind}/offsets"][c + 1])
        for name in ("position", "document", "before", "after") if kind == "random" else ():
            np.testing.assert_array_equal(block[f"{kind}/{name}"][here], expected[f"{kind}/{name}"], name)
        if kind == "random":
            np.testing.assert_array_equal(block["random/key"][here], expected["random/key"])
        for name in ("ci", "activation"):
            found, wanted = block[f"{kind}/{name}"][here], expected[f"{kind}/{name}"]
            if kind == "strongest":  # rounding may exchange two that are nearly equal
                found, wanted = found[:, OPTIONS.left], wanted[:, OPTIONS.left]
                found, wanted = np.abs(found), np.abs(wanted)
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_lists(block, slow) -> None:
    for section in LISTS:
        for c, expected in enumerate(slow[1]):
            here = slice(block[f"{section}/offsets"][c], block[f"{section}/offsets"][c + 1])
            ids, values = block[f"{section}/ids"][here], block[f"{section}/values"][here]
            if section == "output":
                np.testing.assert_array_equal(ids, expected[f"{section}/ids"])
                np.testing.assert_allclose(values, expected[f"{section}/values"], rtol=1e-4, atol=2**16)
            else:
                np.testing.assert_array_equal(ids, expected[f"{section}/ids"])
                np.testing.assert_array_equal(values, expected[f"{section}/values"])


def test_sparse_tables_hold_what_dense_ones_hold(run: RunDirectory, decomposition) -> None:
    how = plan(decomposition, OPTIONS, 256, 1 << 30)
    assert how.n_hot == decomposition.total_components
    one = one_block(harvested(run, decomposition, how, range(3)))
    for n_hot in (0, 1, 40):
        sparse = replace(how, n_hot=n_hot, input_dense=False)
        for name, value in one_block(harvested(run, decomposition, sparse, range(3))).items():
            np.testing.assert_array_equal(one[name], value, name)


def test_a_floor_leaves_small_probabilities_out(run: RunDirectory, decomposition) -> None:
    options = replace(OPTIONS, output_floor=0.01)
    corpus = run.corpus()
    positions, documents = next(iter(batches_of(corpus, 0, TINY_SETTINGS)))
    tokens = torch.from_numpy(corpus.tokens[positions].astype(np.int64))
    logits, inputs = decomposition.clean_pass(tokens)
    p = torch.softmax(logits, -1).flatten(0, 1).double()
    p = torch.where(p >= 0.01, p, 0.0)
    addresses = sorted(decomposition.addresses)
    importance = decomposition.causal_importance(inputs)
    fires = torch.cat([importance[a].flatten(0, 1) > 0 for a in addresses], 1).double()
    expected = (fires.T @ p).numpy()
    for dense in (True, False):
        how = replace(plan(decomposition, options, 256, 1 << 30), output_dense=dense)
        sums = HarvestSums(decomposition, options, how)
        sums.add(tokens, positions, documents)
        block = one_block(sums)
        found = np.zeros_like(expected)
        row = np.repeat(np.arange(len(found)), np.diff(block["output/offsets"]))
        found[row, block["output/ids"]] = block["output/values"] * 2.0**-32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(sums.output_mass * 2.0**-32, p.sum(0), rtol=1e-6)


def test_little_memory_makes_sparse_tables_and_asks_for_storing(run: RunDirectory, decomposition) -> None:
    how = plan(decomposition, replace(OPTIONS, output_floor=1e-3), 256, 1 << 10)
    assert (how.n_hot, how.input_dense, how.output_dense) == (11, False, False)
    assert "among 11 of 83 components" in how.description
    assert "sparse" in how.description
    sums = HarvestSums(decomposition, replace(OPTIONS, output_floor=1e-3), replace(how, sparse_budget=1))
    sums._input._limit = 50  # the smallest that a budget gives is far above what the toy holds
    assert not sums.is_full
    corpus = run.corpus()
    for positions, documents in batches_of(corpus, 0, TINY_SETTINGS):
        sums.add(torch.from_numpy(corpus.tokens[positions].astype(np.int64)), positions, documents)
    assert sums.is_full


def test_forty_thousand_components_need_no_dense_matrix() -> None:
    # As much of a decomposition as planning looks at.
    big = SimpleNamespace(
        total_components=40_000,
        target=SimpleNamespace(config=SimpleNamespace(vocab_size=50_000)),
        topology=SimpleNamespace(sites={}),
        importance=ImportanceConfig(kind="shared_mlp"),
    )
    options = HarvestOptions(n_random=32, n_strongest=16, output_floor=1e-3)
    how = plan(cast("Decomposition", big), options, 1024, 2 << 30)
    assert [how.input_dense, how.output_dense] == [False, False]
    assert how.n_hot == 16_384
    assert how.tables <= 2 << 30
    assert how.total < 6e9


def test_where_none_is_ever_off_everything_fires_and_more_memory_is_planned(run: RunDirectory) -> None:
    vocab = run.info.target["vocab_size"]
    smooth = tiny_decomposition(vocab_size=vocab, n_components=3, sigmoid="normal")
    usual = plan(tiny_decomposition(vocab_size=vocab, n_components=3), OPTIONS, 256, 1 << 30)
    how = plan(smooth, OPTIONS, 256, 1 << 30)
    assert how.passing > usual.passing + 256 * 150 * smooth.total_components
    assert plan(smooth, replace(OPTIONS, threshold=0.1), 256, 1 << 30).passing == usual.passing
    corpus = run.corpus()
    positions, documents = next(iter(batches_of(corpus, 0, TINY_SETTINGS)))
    tokens = torch.from_numpy(corpus.tokens[positions].astype(np.int64))
    sums = HarvestSums(smooth, OPTIONS, replace(how, n_hot=9))
    sums.add(tokens, positions, documents)
    block = one_block(sums)
    n = tokens.numel()
    assert block["firing_count"].tolist() == [n] * smooth.total_components
    np.testing.assert_array_equal(block["cofiring/values"], n)
    importance = smooth.causal_importance(smooth.clean_pass(tokens)[1])
    expected = torch.cat([importance[a].sum((0, 1), dtype=torch.float64) for a in sums.addresses])
    np.testing.assert_allclose(block["ci_sum"][:, 0] / 2**20, expected.detach().numpy(), atol=1e-4)


def test_the_reference_splits_numbers_as_described() -> None:
    for value in (0.0, 1.0, -3.25, 1e-9, 123456.789, -(2.0**-60)):
        parts = two_parts(value)
        assert parts[0, 0] / 2**20 + parts[0, 1] / 2**60 == pytest.approx(value, abs=2.0**-60)
        assert 0 <= parts[0, 1] < 2**40
