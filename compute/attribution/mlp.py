"""Gate and up → non-linearity → down, in closed form.

The read point is the hidden vector h = act(gate) ∘ up (gated) or act(up) (plain); a source of the
gate or up site moves it along φ(p) ∘ U_s, where φ is act'(gate) ∘ up, act(gate) or act'(up):

    Z_s = U_s ∘ Σ_p φ(p) ã_s(p),      attr_abs[t, s] = Σ_p S_t(p) ã_s(p) · (φ(p) ∘ U_s) · V_t
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from compute.address import Address
from compute.attribution.capture import Capture
from compute.attribution.read_point import ReadPointSums
from compute.attribution.sparse import Rows, spmm, sum_rows
from compute.decomposition.model import Decomposition
from compute.targets.model import MlpTrace

#: Elements of φ ∘ U handled at a time: this much stays in a CPU's second-level cache.
_CHUNK_ELEMENTS: Final = {"cpu": 2**17, "cuda": 2**24}
#: Elements of the [entries, targets] buffer.
_BUFFER_ELEMENTS: Final = {"cpu": 2**23, "cuda": 2**26}


def value_and_slope(activation: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """act(x) and act'(x), the latter by autograd of the elementwise function: right for any of them."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = activation(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


class MlpOperation:
    """The closed forms into the hidden read point of one MLP."""

    def __init__(self, decomposition: Decomposition, block: int, sources: tuple[Address, ...]) -> None:
        self.decomposition = decomposition
        self.block = block
        self.sources = sources

    def add(self, out: ReadPointSums, capture: Capture, rows: dict[Address, Rows]) -> None:
        """Add one batch: components of gate and up, their biases and deltas."""
        signs = None if out.abs_targets is None else out.abs_targets.activations(capture).sign()
        slopes = self._slopes(capture.trace.mlp[self.block])
        for address, slope in zip(self.sources, slopes, strict=True):
            U = self.decomposition.U(address).detach()
            entries = rows[address]
            here = out.rows(address, "component")
            assert here is not None
            out.add_signed(here, spmm(entries, entries.values, slope).mul_(U))
            if signs is not None and out.abs_targets is not None:
                out.add_abs(here, _component_abs(entries, slope, U, out.abs_targets.V, signs))
            self._add_vectors(out, capture, address, slope, signs)

    def _slopes(self, trace: MlpTrace) -> tuple[Tensor, ...]:
        """φ [P, d_ff] of each source, in the order of ``sources``."""
        activation = self.decomposition.target.activation
        up = trace.up.flatten(0, 1)
        if trace.gate is None:
            return (value_and_slope(activation, up)[1],)
        value, slope = value_and_slope(activation, trace.gate.flatten(0, 1))
        return slope * up, value

    def _add_vectors(
        self, out: ReadPointSums, capture: Capture, address: Address, slope: Tensor, signs: Tensor | None
    ) -> None:
        """The bias and the delta of a site: one vector at each position."""
        vectors = {"bias": self.decomposition.bias(address), "delta": capture.delta_outputs.get(address)}
        for kind, vector in vectors.items():
            here = out.rows(address, "bias" if kind == "bias" else "delta")
            if here is None or vector is None:
                continue
            moved = slope * vector
            out.add_signed(here, moved.sum(0, keepdim=True))
            if signs is not None and out.abs_targets is not None:
                out.add_abs(here, (moved @ out.abs_targets.V).mul_(signs).sum(0, keepdim=True))


def _component_abs(rows: Rows, slope: Tensor, U: Tensor, V: Tensor, signs: Tensor) -> Tensor:
    """attr_abs [C, n_targets]: one row φ(p) ∘ U_s through V for each entry (p, s)."""
    n_targets, device = V.shape[1], slope.device.type
    chunk = max(1, _CHUNK_ELEMENTS.get(device, 2**17) // slope.shape[1])
    buffer = max(chunk, _BUFFER_ELEMENTS.get(device, 2**23) // n_targets // chunk * chunk)
    block = slope.new_zeros(rows.n_rows, n_targets)
    for start in range(0, rows.nnz, buffer):
        stop = min(start + buffer, rows.nnz)
        effects = slope.new_empty(stop - start, n_targets)
        for low in range(start, stop, chunk):
            part = slice(low, min(low + chunk, stop))
            moved = slope.index_select(0, rows.positions[part]).mul_(U.index_select(0, rows.row_of[part]))
            effect = effects[low - start : part.stop - start]
            torch.mm(moved, V, out=effect)
            effect.mul_(signs.index_select(0, rows.positions[part]))
        index = torch.arange(stop - start, device=slope.device)
        block += sum_rows(index, rows.offsets.clamp(start, stop) - start, rows.values[start:stop], effects)
    return block
