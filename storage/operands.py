"""The model's side of a query: what stored rows are multiplied with.

Signed sums are kept in the space of a read point, so an attribution is the product of a stored row
and the target's read direction: V_t of a component, W_U[v] of an output token. A frozen-norm row is
Γ Ũ_s · w_s, with Ũ_s the source's write direction (mean removed under LayerNorm), Γ the norm's scale
and w_s a stored number; only w_s depends on the text.
"""

from __future__ import annotations

import numpy as np

from compute.address import OUTPUT, Address
from storage.errors import StoreDamagedError
from storage.layout import ReadPoint, RowBlock, Settings, TensorCheck, site_sizes
from storage.model_tensors import ModelTensors


class Operands:
    """Read directions of targets and write directions of sources; every tensor is checked once."""

    def __init__(
        self, tensors: ModelTensors | None, checks: dict[str, TensorCheck], *, centred_norm: bool
    ) -> None:
        """``tensors`` may be None where ``checks`` names none.

        Raises :class:`StoreDamagedError` if the tensors are not those of the attributions.
        """
        self._given = tensors
        self._checks = checks
        self._centred = centred_norm
        for name, check in checks.items():
            tensors = self._tensors
            if name not in tensors or tensors.shape(name) != check.shape:
                raise StoreDamagedError(
                    tensors.path, f"does not have the tensor {name} of shape {list(check.shape)}"
                )

    @property
    def _tensors(self) -> ModelTensors:
        assert self._given is not None, "these attributions rest on no tensors"
        return self._given

    def check_fit(self, settings: Settings) -> None:
        """That read directions have the shapes the store counts on; raises :class:`StoreDamagedError`."""
        sizes = site_sizes(settings)
        for point in settings.layouts:
            for reader in point.readers:
                if settings.edgewise(reader):
                    continue
                tied = "target.unembedding.weight" not in self._checks
                output = "target.token_embedding.weight" if tied else "target.unembedding.weight"
                name = output if reader == "output" else f"components.{reader}.V"
                expected = (sizes[reader], point.d_in) if reader == "output" else (point.d_in, sizes[reader])
                if name not in self._checks or self._checks[name].shape != expected:
                    raise StoreDamagedError(
                        self._tensors.path, f"{name} does not have shape {list(expected)}"
                    )

    def verify(self) -> None:
        """Compare every tensor with its checksum again; raises :class:`StoreDamagedError`."""
        for name, check in self._checks.items():
            self._tensors.checked(name, check.crc32, again=True)

    def _tensor(self, name: str) -> np.ndarray:
        check = self._checks.get(name)
        if check is None:
            raise StoreDamagedError(
                self._tensors.path, f"{name} is not among the tensors of these attributions"
            )
        return self._tensors.checked(name, check.crc32)

    @property
    def unembedding(self) -> np.ndarray:
        """Read directions of all output tokens, [vocab, d_model]."""
        untied = "target.unembedding.weight"
        return self._tensor(untied if untied in self._checks else "target.token_embedding.weight")

    def read_direction(self, reader: Address, index: int) -> np.ndarray:
        """V_t, or the unembedding of a token: [d_in], float64."""
        if reader == OUTPUT:
            return self.unembedding[index].astype(np.float64)
        return self._tensor(f"components.{reader}.V")[:, index].astype(np.float64)

    def project(self, reader: Address, row: np.ndarray) -> np.ndarray:
        """``row`` [d_in] times all read directions of a reader: [n_targets]."""
        row = row.astype(np.float32)
        if reader == OUTPUT:
            return self.unembedding @ row
        return row @ self._tensor(f"components.{reader}.V")

    def project_rows(self, reader: Address, rows: np.ndarray) -> np.ndarray:
        """``rows`` [n, d_in] times all read directions of a reader: [n, n_targets] float64."""
        rows = rows.astype(np.float32)
        if reader == OUTPUT:
            return (rows @ self.unembedding.T).astype(np.float64)
        return (rows @ self._tensor(f"components.{reader}.V")).astype(np.float64)

    def _scale(self, point: ReadPoint) -> np.ndarray:
        if point.name == "output":
            return self._tensor("target.final_norm.weight").astype(np.float64)
        block, part, _ = point.name.split(".")
        return self._tensor(f"target.blocks.{block}.{part}_norm.weight").astype(np.float64)

    def _written(self, block: RowBlock) -> np.ndarray:
        """Write directions of a block's rows, [count, d]: what each adds to the residual stream."""
        if block.kind == "embed":
            return self._tensor("target.token_embedding.weight")
        if block.kind == "position":
            return self._tensor("target.position_embedding.weight")
        if block.kind == "bias":
            address = block.parsed
            part = "attn" if address.kind.startswith("attn") else "mlp"
            return self._tensor(f"target.blocks.{address.block}.{part}.{address.projection}.bias")[None]
        return self._tensor(f"components.{block.address}.U")

    def frozen_projection(self, point: ReadPoint, block: RowBlock, direction: np.ndarray) -> np.ndarray:
        """(Γ Ũ_s) · direction for every row s of a block, [count]."""
        scaled = self._scale(point) * direction
        if self._centred:  # (u − mean u)·x = u·(x − mean x)
            scaled = scaled - scaled.mean()
        return self._written(block) @ scaled.astype(np.float32)

    def frozen_rows(self, point: ReadPoint, block: RowBlock, rows: slice) -> np.ndarray:
        """Γ Ũ_s of rows of a block (counted from the start of the read point), [n, d_in] float64."""
        written = self._written(block)[rows.start - block.offset : rows.stop - block.offset].astype(
            np.float64
        )
        if self._centred:
            written = written - written.mean(1, keepdims=True)
        return self._scale(point) * written
