"""Statistics of components against sums over positions, one after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compute.decomposition.importance_config import ImportanceKind, SigmoidKind
from compute.statistics import components
from compute.statistics.components import ComponentStatistics
from tests.support.tiny_run import tiny_decomposition


@pytest.mark.parametrize(
    ("kind", "sigmoid"),
    [("shared_mlp", "leaky_hard"), ("global_shared_transformer", "normal"), ("vector_mlp", "swish_hard")],
)
@pytest.mark.parametrize("entries", [1, 40, 1 << 24])
def test_sums_over_positions(
    kind: ImportanceKind, sigmoid: SigmoidKind, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is looked at together, and however many importances are not zero."""
    monkeypatch.setattr(components, "ENTRIES", entries)
    decomposition = tiny_decomposition(n_blocks=1, n_components=3, importance=kind, sigmoid=sigmoid)
    batches = torch.randint(30, (2, 2, 7), generator=torch.Generator().manual_seed(0))
    statistics = ComponentStatistics(decomposition)
    mass = {a: np.zeros((n, 270)) for a, n in decomposition.n_components.items()}
    alive = {a: np.zeros(n, np.int64) for a, n in decomposition.n_components.items()}
    for tokens in batches:
        statistics.add(tokens)
        with torch.no_grad():
            importance = decomposition.causal_importance(decomposition.clean_pass(tokens)[1])
        for address, g in importance.items():
            for b in range(2):
                for t in range(7):
                    mass[address][:, tokens[b, t]] += g[b, t].numpy()
                    alive[address] += g[b, t].numpy() > 0
    found = statistics.arrays()
    for address in decomposition.addresses:
        np.testing.assert_allclose(found[f"ci_sum/{address}"], mass[address].sum(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[f"alive_count/{address}"], alive[address])
        largest = -np.sort(-mass[address], axis=1)[:, :10]
        np.testing.assert_allclose(found[f"top_token_ci/{address}"], largest, rtol=1e-5, atol=1e-6)
        if sigmoid == "normal":
            assert (alive[address] == 28).all()
