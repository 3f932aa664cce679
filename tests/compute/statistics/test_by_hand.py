"""A corpus of twelve words and a model whose numbers are written down: every statistic is worked out by hand.

position   0   1   2   3 | 4   5   6   7 | 8   9  10  11     windows of four
token      0   1   2   1   0   3   1   1   2   0   0   2
document   0   0   0   0   0   0   0   1   1   1   1   1     the second begins inside a window
CI of a    ·   1   ·   ½   ·   ·   ¼   ¼   1   ·   ·   ·
CI of b    ·   ½   ½   ·   ·   ·   ·   ·   ½   ·   ·   ½     c never fires
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from compute.address import Address, parse_address
from compute.decomposition.model import Decomposition
from compute.statistics.association import Associations, associations
from compute.statistics.harvest import HarvestOptions, HarvestPlan, HarvestSums
from storage.harvest import Harvest
from storage.harvest_manifest import HarvestManifest, HarvestSettings
from storage.harvest_merge import merge_harvests
from storage.harvest_writer import write_harvest

SITE = parse_address("0.attn.q")
A, B, C = range(3)
TOKENS = np.array([0, 1, 2, 1, 0, 3, 1, 1, 2, 0, 0, 2])
DOCUMENTS = np.array([0] * 7 + [1] * 5)
N = len(TOKENS)
CI = np.zeros((N, 3), np.float32)
CI[[1, 3, 6, 7, 8], A] = [1, 0.5, 0.25, 0.25, 1]
CI[[1, 2, 8, 11], B] = 0.5
#: x · V; a's is largest where it does not fire. ‖U‖ is 2, 1 and 5.
READ = np.zeros((N, 3), np.float32)
READ[[1, 3, 6, 7, 8, 0, 10], A] = [1.5, -0.5, 0.25, -2, 1, -3, 2.5]
READ[:, C] = 1
NORMS = (2.0, 1.0, 5.0)
#: Next-token probabilities: even but for two positions.
P = np.full((N, 4), 0.25)
P[1] = [0.5, 0.25, 0.25, 0]
P[8] = [0, 0, 0, 1]
#: Windows of the two batches.
BATCHES = (np.arange(8).reshape(2, 4), np.arange(8, 12).reshape(1, 4))
SETTINGS = HarvestSettings(left=2, right=1, n_random=9, n_strongest=3, window=4, batch_size=2, bins=8)


class WrittenDown:
    """As much of a decomposition as a harvest asks for; ``at`` are the positions that are read next."""

    addresses = (SITE,)
    n_components = {SITE: 3}  # noqa: RUF012
    total_components = 3
    target = SimpleNamespace(
        config=SimpleNamespace(vocab_size=4), token_embedding=SimpleNamespace(weight=torch.zeros(1))
    )
    at = BATCHES[0]

    def U(self, address: Address) -> Tensor:  # noqa: N802
        return torch.tensor(NORMS)[:, None] * torch.tensor([[0.6, -0.8]])

    def V(self, address: Address) -> Tensor:  # noqa: N802
        return torch.eye(3)

    def clean_pass(self, tokens: Tensor) -> tuple[Tensor, dict[Address, Tensor]]:
        assert tokens.tolist() == TOKENS[self.at].tolist()
        return torch.from_numpy(P[self.at]).float().log(), {SITE: torch.from_numpy(READ[self.at])}

    def causal_importance(self, inputs: object, activations: object) -> dict[Address, Tensor]:
        return {SITE: torch.from_numpy(CI[self.at])}


def harvested(folder: Path, batches: tuple[int, ...], *, n_hot: int, dense: bool) -> Harvest:
    """Some of the two batches, stored."""
    model = WrittenDown()
    options = HarvestOptions(
        left=SETTINGS.left,
        right=SETTINGS.right,
        n_random=SETTINGS.n_random,
        n_strongest=SETTINGS.n_strongest,
        bins=SETTINGS.bins,
    )
    how = HarvestPlan(n_hot, 3, dense, dense, 1 << 20, 0, 0, 0)
    sums = HarvestSums(cast("Decomposition", model), options, how)
    seen = np.zeros(2, np.uint8)
    for batch in batches:
        model.at = BATCHES[batch]
        sums.add(torch.from_numpy(TOKENS[model.at]), model.at, DOCUMENTS[model.at])
        seen[DOCUMENTS[model.at].reshape(-1)] = 1
    manifest = HarvestManifest(
        store_id=f"{batches}",
        settings=SETTINGS,
        encoding="exact",
        model_sha256="",
        corpus_sha256="",
        n_groups=1,
        covered={"0": [(batches[0], batches[-1] + 1)]},
        tokens=sums.tokens,
        documents=int(seen.sum()),
        vocab_size=4,
        sites=[(str(SITE), 3)],
        complete={"input": True, "output": True, "cofiring": True},
        sizes={},
        arrays_sha256="",
        provenance={},
    )
    folder.mkdir()
    totals = sums.totals() | {"documents_seen": np.packbits(seen)}
    write_harvest(folder, manifest, totals, sums.blocks(), TOKENS)
    return Harvest.open(folder, folder.parent)


@pytest.fixture(scope="module", params=["one pass", "one pass, sparse", "two shards"])
def harvest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    folder = tmp_path_factory.mktemp("corpus")
    np.save(folder / "tokens.npy", TOKENS)
    if request.param == "one pass":
        return harvested(folder / "whole", (0, 1), n_hot=3, dense=True)
    if request.param == "one pass, sparse":
        return harvested(folder / "whole", (0, 1), n_hot=1, dense=False)
    parts = [harvested(folder / f"part-{i}", (i,), n_hot=3 - i, dense=i == 0) for i in (0, 1)]
    (folder / "sum").mkdir()
    merge_harvests(folder / "sum", parts, store_id="sum", provenance={})
    return Harvest.open(folder / "sum", folder)


def with_others(harvest: Harvest, section: str, index: int) -> Associations:
    """Component ``index`` with every token, or every component."""
    read, totals = {
        "input": (harvest.input_counts, harvest.token_count),
        "output": (harvest.output_mass_of, harvest.output_mass),
        "cofiring": (harvest.cofiring, harvest.values("firing_count")),
    }[section]
    ids, values = read(SITE, index)
    joint = np.zeros(len(totals))
    joint[ids] = values
    return associations(joint, harvest.values("firing_count")[index], totals, harvest.tokens)


def test_how_often_and_how_strongly(harvest: Harvest) -> None:
    assert (harvest.tokens, harvest.documents) == (12, 2)
    assert harvest.site("firing_count", SITE).tolist() == [5, 4, 0]  # densities 5/12, 4/12, 0
    assert harvest.site("ci_sum", SITE).tolist() == [3.0, 2.0, 0.0]  # means 1/4, 1/6, 0
    assert harvest.site("ci_max", SITE).tolist() == [1.0, 0.5, 0.0]
    # a where it fires, times 2: 3, −1, ½, −4, 2; where it does not: −6 and 5. c: 5 everywhere.
    assert harvest.site("firing_activation_sum", SITE).tolist() == [0.5, 0.0, 0.0]
    assert harvest.site("activation_sum", SITE).tolist() == [-0.5, 0.0, 60.0]
    assert harvest.site("activation_square_sum", SITE).tolist() == [91.25, 0.0, 300.0]
    assert harvest.site("activation_min", SITE).tolist() == [-6.0, 0.0, 5.0]
    assert harvest.site("activation_max", SITE).tolist() == [5.0, 0.0, 5.0]


def test_histogram(harvest: Harvest) -> None:
    # The largest is 4, so that the 8 bins are from −8 to 8; −4 begins a bin, and so does 2.
    edges, counts = harvest.histogram(SITE, A)
    assert edges.tolist() == [-4, -2, 0, 2, 4]
    assert counts.tolist() == [1, 1, 1, 2]
    assert harvest.histogram(SITE, B)[1].tolist() == [4]
    assert harvest.histogram(SITE, C)[1].tolist() == []


def test_input_tokens(harvest: Harvest) -> None:
    assert harvest.token_count.tolist() == [4, 4, 3, 1]
    found = with_others(harvest, "input", A)  # at tokens 1, 1, 1, 1, 2
    assert found.joint.tolist() == [0, 4, 1, 0]
    assert found.recall == pytest.approx([0, 4 / 5, 1 / 5, 0])
    assert found.precision == pytest.approx([0, 1, 1 / 3, 0])
    # By chance 5 · 4/12 = 5/3 of tokens 0 and 1, 5 · 3/12 = 5/4 of token 2, 5/12 of token 3.
    assert found.lift == pytest.approx([3 / 13, 27 / 13, 6 / 7, 6 / 11])
    assert found.pmi == pytest.approx([math.log(x) for x in (3 / 13, 27 / 13, 6 / 7, 6 / 11)])
    assert with_others(harvest, "input", B).joint.tolist() == [0, 1, 3, 0]


def test_output_tokens(harvest: Harvest) -> None:
    assert harvest.output_mass == pytest.approx([3, 2.75, 2.75, 3.5])
    found = with_others(harvest, "output", A)  # rows 1 and 8, and three even ones
    assert found.joint == pytest.approx([1.25, 1, 1, 1.75])
    assert found.recall == pytest.approx([0.25, 0.2, 0.2, 0.35])
    assert found.precision == pytest.approx([1.25 / 3, 1 / 2.75, 1 / 2.75, 0.5])
    # Token 3 by chance: 5 · 3.5/12.
    assert found.lift[3] == pytest.approx(54 / 47)
    assert found.pmi[3] == pytest.approx(math.log(54 / 47))
    assert with_others(harvest, "output", B).joint == pytest.approx([1, 0.75, 0.75, 1.5])


def test_cofiring(harvest: Harvest) -> None:
    found = with_others(harvest, "cofiring", A)
    assert found.joint.tolist() == [0, 2, 0]  # positions 1 and 8; itself is no other
    assert found.recall[B] == pytest.approx(2 / 5)
    assert found.precision[B] == pytest.approx(2 / 4)
    assert found.jaccard[B] == pytest.approx(2 / 7)
    assert found.pmi[B] == pytest.approx(math.log(15 / 13))  # by chance 5 · 4/12
    assert with_others(harvest, "cofiring", B).joint.tolist() == [2, 0, 0]
    assert harvest.cofiring(SITE, C)[0].tolist() == []


def test_examples(harvest: Harvest) -> None:
    found = harvest.examples(SITE, A, "random")
    rows = dict(zip(found.corpus_position.tolist(), range(9), strict=False))
    assert sorted(rows) == [1, 3, 6, 7, 8]
    order = [rows[position] for position in (1, 3, 6, 7, 8)]
    assert found.document[order].tolist() == [0, 0, 0, 1, 1]
    # Two before and one after, as far as the window and the document go.
    assert found.tokens[order].tolist() == [
        [-1, 0, 1, 2],
        [1, 2, 1, -1],  # the window ends
        [0, 3, 1, -1],  # the document ends
        [-1, -1, 1, -1],  # the document begins, the window ends
        [-1, -1, 2, 0],  # the window begins
    ]
    assert found.ci[order].tolist() == [
        [0, 0, 1, 0],
        [1, 0, 0.5, 0],
        [0, 0, 0.25, 0],
        [0, 0, 0.25, 0],
        [0, 0, 1, 0],
    ]
    nan = math.nan
    np.testing.assert_array_equal(
        found.activation[order],
        [[nan, -6, 3, 0], [3, 0, -1, nan], [0, 0, 0.5, nan], [nan, nan, -4, nan], [nan, nan, 2, 0]],
    )
    assert len(harvest.examples(SITE, C, "random").tokens) == 0


def test_strongest_examples(harvest: Harvest) -> None:
    # By causal importance, then by the size of the activation: (1, 3), (1, 2), (½, 1).
    assert harvest.examples(SITE, A, "strongest").corpus_position.tolist() == [1, 8, 3]
    # All of b are alike: the earliest.
    assert harvest.examples(SITE, B, "strongest").corpus_position.tolist() == [1, 2, 8]
