"""The two sparse kernels against dense products, on both sides of the switch to dense."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.attribution import sparse
from compute.attribution.sparse import component_rows, row_sums, rows_by_id, sddmm, spmm


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.integers(1, 20),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(0, 99),
    st.booleans(),
)
def test_kernels(n_positions: int, n_components: int, density: float, seed: int, sampled: bool):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weighted = random(n_positions, n_components)
    weighted *= torch.rand(weighted.shape, generator=generator) < density
    X, L, R = random(n_positions, 6), random(n_components, 4), random(n_positions, 4)
    rows = component_rows(weighted)
    torch.testing.assert_close(spmm(rows, rows.values, X), weighted.T @ X)
    torch.testing.assert_close(row_sums(rows, rows.values), weighted.sum(0))
    sparse._sampled_support[("cpu", torch.float64)] = sampled
    try:
        found = sddmm(rows, L, R)
    finally:
        del sparse._sampled_support[("cpu", torch.float64)]
    torch.testing.assert_close(found, (L @ R.T)[rows.row_of, rows.positions])


def test_rows_by_id():
    seen, rows = rows_by_id(torch.tensor([7, 2, 7, 7]))
    assert seen.tolist() == [2, 7]
    assert rows.positions.tolist() == [1, 0, 2, 3]
    assert rows.offsets.tolist() == [0, 1, 4]
    assert rows.row_of.tolist() == [0, 1, 1, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("options", [{}, {"fused": True}, {"whole": 0.4}])
def test_the_gpu_gives_what_the_cpu_gives(family: str, options: dict[str, Any]):
    from tests.compute.attribution.models import Case, engine_sums

    decomposition, tokens = Case(family=family, n_kv_heads=2, **options).build()
    expected = engine_sums(decomposition, tokens, output_abs="all")
    found = engine_sums(decomposition.cuda(), tokens.cuda(), output_abs="all")
    for name, array in found.arrays.items():
        torch.testing.assert_close(array.cpu(), expected.arrays[name], rtol=1e-9, atol=1e-9)
