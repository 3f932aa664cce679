"""Where the sums of one read point go, and whose magnitude its ``attr_abs`` is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compute.address import OUTPUT, Address
from compute.attribution.capture import Capture
from compute.attribution.sums import AttributionSums, ReadPointLayout, RowKind
from compute.decomposition.model import Decomposition


@dataclass(frozen=True)
class AbsTargets:
    """The targets of ``attr_abs`` at one read point, those of all readers side by side.

    ``V`` [d_in, n] are their read directions (for output tokens the unembedding, centred over the
    vocabulary); ``columns`` says which of the n columns belong to which reader, and which of the
    reader's components they are (None: all, in order).
    """

    V: Tensor
    columns: tuple[tuple[Address, slice, Tensor | None], ...]

    def activations(self, capture: Capture) -> Tensor:
        """y [P, n] of the targets (for output tokens: the centred logit)."""
        parts = []
        for address, _, indices in self.columns:
            if address == OUTPUT:
                y = capture.logits - capture.logits.mean(-1, keepdim=True)
            else:
                y = capture.activations[address]
            parts.append(y if indices is None else y.index_select(1, indices))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def abs_targets_of(
    decomposition: Decomposition, layout: ReadPointLayout, chosen: Mapping[Address, Sequence[int] | None]
) -> AbsTargets | None:
    """The targets among ``layout``'s readers that are ``chosen`` (None: all of a reader's)."""
    directions, columns, start = [], [], 0
    for reader in layout.readers:
        if reader not in chosen:
            continue
        if reader == OUTPUT:
            V = decomposition.target.unembedding.weight.detach().T
            V = V - V.mean(1, keepdim=True)
        else:
            V = decomposition.V(reader).detach()
        indices = chosen[reader]
        index = None if indices is None else torch.tensor(list(indices), dtype=torch.long, device=V.device)
        V = V if index is None else V.index_select(1, index)
        directions.append(V)
        columns.append((reader, slice(start, start + V.shape[1]), index))
        start += V.shape[1]
    if not start:
        return None
    return AbsTargets(torch.cat(directions, 1).contiguous(), tuple(columns))


@dataclass(frozen=True)
class ReadPointSums:
    """The arrays of one read point inside an :class:`AttributionSums`, addressed by source.

    ``abs_targets`` is None while only ``attr`` is being accumulated.
    """

    sums: AttributionSums
    layout: ReadPointLayout
    abs_targets: AbsTargets | None

    def rows(self, address: Address, kind: RowKind) -> slice | None:
        """Rows of a source block, or None where there is no such block."""
        block = self.layout.block_of(address, kind)
        return None if block is None else slice(block.offset, block.offset + block.count)

    def add_signed(self, rows: slice | Tensor, Z: Tensor) -> None:
        """Add Z [n, d_in] to ``rows`` (a slice, or distinct row numbers)."""
        self._array("signed")[rows] += Z

    @property
    def has_frozen(self) -> bool:
        """Whether there are frozen-norm sums; where not, adding to them does nothing."""
        return f"frozen_weight/{self.layout.name}" in self.sums.arrays

    def add_frozen_weight(self, rows: slice | Tensor, weights: Tensor) -> None:
        if self.has_frozen:
            self._array("frozen_weight")[rows] += weights

    def add_frozen_delta(self, index: int, Z: Tensor) -> None:
        """Add the frozen-norm Z [d_in] of the ``index``-th delta row."""
        if self.has_frozen:
            self._array("frozen_delta")[index] += Z

    def add_abs(self, rows: slice | Tensor, block: Tensor) -> None:
        """Add attr_abs [n, n_targets] of the sources ``rows`` to all abs targets of the read point."""
        assert self.abs_targets is not None
        for address, columns, _ in self.abs_targets.columns:
            self.sums.arrays[f"abs/{address}"].T[rows] += block[:, columns]

    def _array(self, name: str) -> Tensor:
        return self.sums.arrays[f"{name}/{self.layout.name}"]
