"""Sparse sources, and the two products everything else is made of.

Causal importance is exactly zero almost everywhere, so a source's weighted activation ã_s(p) is
kept as compressed rows: for each component, the positions where it is not zero and its value there.
Two kernels use them:

* :func:`spmm`: out[s] = Σ_p value(s, p) · X[p], rows of a dense matrix summed for each component;
* :func:`sddmm`: value(s, p) = L[s] · R[p], a dense product evaluated only where it is needed.

Above :data:`DENSE_ABOVE` both switch to plain matrix products, which then are faster; the results
are the same up to rounding.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

#: Share of non-zero entries above which dense matrix products win (measured on CPU, 30 % ± 10 %).
DENSE_ABOVE: Final = 0.3

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


@dataclass(frozen=True)
class Rows:
    """Compressed rows: ``positions`` and ``values`` [nnz], row r between ``offsets[r]`` and ``offsets[r+1]``.

    Rows are components (or token ids), columns the ``n_positions`` positions of a batch.
    """

    positions: Tensor
    values: Tensor
    offsets: Tensor
    n_positions: int

    @property
    def n_rows(self) -> int:
        return self.offsets.numel() - 1

    @property
    def nnz(self) -> int:
        return self.positions.numel()

    @property
    def is_dense(self) -> bool:
        return self.nnz > DENSE_ABOVE * self.n_rows * self.n_positions

    @cached_property
    def row_of(self) -> Tensor:
        """The row of each entry [nnz]."""
        counts = self.offsets.diff()
        rows = torch.arange(self.n_rows, device=counts.device)
        return torch.repeat_interleave(rows, counts, output_size=self.nnz)

    def prefix(self, n_rows: int, nnz: int) -> Rows:
        """The first ``n_rows`` rows, which hold ``nnz`` entries."""
        return Rows(self.positions[:nnz], self.values[:nnz], self.offsets[: n_rows + 1], self.n_positions)


def component_rows(weighted: Tensor) -> Rows:
    """Rows of the non-zero entries of ã [P, C], component by component."""
    n_positions, n_components = weighted.shape
    transposed = weighted.T.contiguous().view(-1)
    entries = (transposed != 0).nonzero()[:, 0]
    row_of = entries.div(n_positions, rounding_mode="floor")
    rows = Rows(
        entries - row_of * n_positions,
        transposed.index_select(0, entries),
        offsets_of(row_of, n_components),
        n_positions,
    )
    rows.__dict__["row_of"] = row_of
    return rows


def rows_by_id(ids: Tensor) -> tuple[Tensor, Rows]:
    """The distinct ``ids`` [P] in order, and for each the positions where it stands (value 1)."""
    seen, inverse = torch.unique(ids, return_inverse=True)
    order = torch.argsort(inverse, stable=True)
    ones = torch.ones(len(ids), device=ids.device)
    return seen, Rows(order, ones, offsets_of(inverse, len(seen)), len(ids))


def offsets_of(row_of: Tensor, n_rows: int) -> Tensor:
    """Row boundaries [n_rows + 1] of entries whose rows are ``row_of``."""
    offsets = torch.zeros(n_rows + 1, dtype=torch.long, device=row_of.device)
    offsets[1:] = torch.bincount(row_of, minlength=n_rows).cumsum(0)
    return offsets


def row_sums(rows: Rows, values: Tensor) -> Tensor:
    """Σ of the entries' ``values`` [nnz] over each row: [n_rows]."""
    return values.new_zeros(rows.n_rows).index_add_(0, rows.row_of, values)


def spmm(rows: Rows, values: Tensor, X: Tensor) -> Tensor:
    """out[r] = Σ_i values_i · X[positions_i] over the entries i of row r: [n_rows, n] from X [P, n]."""
    if rows.nnz == 0:
        return X.new_zeros(rows.n_rows, X.shape[1])
    if rows.is_dense:
        dense = values.new_zeros(rows.n_rows, rows.n_positions)
        dense[rows.row_of, rows.positions] = values
        return dense @ X
    return sum_rows(rows.positions, rows.offsets, values, X)


def sum_rows(index: Tensor, offsets: Tensor, values: Tensor, X: Tensor) -> Tensor:
    """out[r] = Σ_i values_i · X[index_i] for i between offsets[r] and offsets[r+1]: [n_rows, n]."""
    if index.numel() == 0:
        return X.new_zeros(offsets.numel() - 1, X.shape[1])
    return F.embedding_bag(index, X, offsets, mode="sum", per_sample_weights=values, include_last_offset=True)


def sddmm(rows: Rows, L: Tensor, R: Tensor) -> Tensor:
    """L[row] · R[position] for each entry: [nnz] from L [n_rows, n] and R [P, n]."""
    if rows.nnz == 0:
        return L.new_zeros(0)
    if not rows.is_dense and _sampled_product_works(L.device, L.dtype):
        empty = L.new_zeros(rows.nnz)
        pattern = torch.sparse_csr_tensor(
            rows.offsets, rows.positions, empty, (rows.n_rows, rows.n_positions), check_invariants=False
        )
        return torch.sparse.sampled_addmm(pattern, L, R.T, beta=0.0).values()
    return (L @ R.T).view(-1).take(rows.row_of * rows.n_positions + rows.positions)


_sampled_support: dict[tuple[str, torch.dtype], bool] = {}


def _sampled_product_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch has the sampled product: on CPU it needs MKL."""
    kind = (device.type, dtype)
    if kind not in _sampled_support:
        one = torch.ones(1, 1, device=device, dtype=dtype)
        try:
            torch.sparse.sampled_addmm(one.to_sparse_csr(), one, one, beta=0.0)
            _sampled_support[kind] = True
        except (RuntimeError, NotImplementedError):
            _sampled_support[kind] = False
    return _sampled_support[kind]
