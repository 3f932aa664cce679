"""A toy model together with its components, as compute/decomposition/model.py is for language models.

V [d_in, C] and U [C, d_out]: a = x V, and a site puts out (a ∘ mask) U + m_δ (x Δᵀ) + b with the delta
Δ = W − (V U)ᵀ. Inputs are [n, F]; every input stands alone, there are no positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from compute.address import Address
from compute.decomposition.global_importance import GlobalImportance, build_global
from compute.decomposition.importance import ImportanceFunction
from compute.decomposition.importance_config import SITE_KINDS, ImportanceConfig
from compute.decomposition.sigmoids import MASK_SIGMOIDS
from compute.toys.model import ToyFunction, ToyModel, module_name

#: Numbers that one batch of inputs may take in an importance network.
_BATCH_NUMBERS = 1 << 24


class ToyDecomposition(nn.Module):
    """Components and causal-importance functions of a frozen toy model's matrices.

    ``n_components`` names the sites; the model's other matrices work as they are.
    """

    def __init__(
        self, target: ToyModel, n_components: Mapping[Address, int], importance: ImportanceConfig
    ) -> None:
        super().__init__()
        unknown = [str(address) for address in n_components if address not in target.modules_at]
        if unknown or not n_components:
            raise ValueError(
                f"the model has no {', '.join(unknown)}" if unknown else "no matrix has components"
            )
        self.target = target.requires_grad_(False)
        #: Components of every site, in forward order.
        self.n_components = {a: n_components[a] for a in target.modules_at if a in n_components}
        self.importance = importance
        self._V = nn.ParameterDict()
        self._U = nn.ParameterDict()
        self._importance = nn.ModuleDict()
        for address, c in self.n_components.items():
            site, name = target.modules_at[address], module_name(address)
            self._V[name] = nn.Parameter(torch.zeros(site.d_in, c))
            self._U[name] = nn.Parameter(torch.zeros(c, site.d_out))
            if importance.kind in SITE_KINDS:
                self._importance[name] = ImportanceFunction(importance.kind, site.d_in, c, importance.hidden)
        if importance.is_global:
            widths = {a: (target.modules_at[a].d_in, c) for a, c in self.n_components.items()}
            self._importance["global"] = build_global(importance, widths)

    def V(self, address: Address) -> Tensor:  # noqa: N802 (the field's symbol)
        """Read directions of a site's components, [d_in, C]."""
        return self._V[module_name(address)]

    def U(self, address: Address) -> Tensor:  # noqa: N802 (the field's symbol)
        """Write directions of a site's components, [C, d_out]."""
        return self._U[module_name(address)]

    def delta(self, address: Address) -> Tensor:
        """Δ = W − (V U)ᵀ, [d_out, d_in]."""
        return self.target.linear(address).weight - (self.V(address) @ self.U(address)).T

    def batches(self, inputs: Tensor) -> Iterator[Tensor]:
        """``inputs`` [n, F] in parts that an importance network of any kind can take at once."""
        hidden = max(self.importance.hidden, default=1)
        width = max(hidden * count for count in self.n_components.values())
        yield from inputs.split(max(1, _BATCH_NUMBERS // width))

    @torch.no_grad()
    def clean_pass(self, inputs: Tensor) -> tuple[Tensor, dict[Address, Tensor]]:
        """The target's own outputs [n, F], and what every site reads [n, d_in]."""
        read: dict[Address, Tensor] = {}

        def site(address: Address, x: Tensor) -> Tensor:
            if address in self.n_components:
                read[address] = x
            return self.target.linear(address)(x)

        return self.target(inputs, site), read

    def activations(self, read: Mapping[Address, Tensor]) -> dict[Address, Tensor]:
        """x V [n, C] of every site, from what it reads."""
        return {address: x @ self.V(address) for address, x in read.items()}

    @torch.no_grad()
    def causal_importance(self, read: Mapping[Address, Tensor]) -> dict[Address, Tensor]:
        """Importances, [n, C] per site, from what every site reads in the target.

        They are in [0, 1] but for the sigmoids that leave it, see compute/decomposition/sigmoids.py.
        """
        squash = MASK_SIGMOIDS[self.importance.sigmoid]
        if self.importance.is_global:
            together = self._importance["global"]
            assert isinstance(together, GlobalImportance)
            hidden = together.hidden(read)
            return {address: squash(together.head(address, hidden[address])) for address in read}
        activations = self.activations(read)
        return {
            address: squash(self._importance[module_name(address)](x, activations[address]))
            for address, x in read.items()
        }

    def site_function(
        self,
        masks: Mapping[Address, Tensor] | None = None,
        delta_masks: Mapping[Address, Tensor] | None = None,
    ) -> ToyFunction:
        """The masked model, to be passed to the target's forward as ``site``.

        ``masks`` [n, C] multiply the activations (absent: all on), ``delta_masks`` [n, 1] the delta's
        output (absent: no delta).
        """

        def site(address: Address, x: Tensor) -> Tensor:
            linear = self.target.linear(address)
            if address not in self.n_components:
                return linear(x)
            a = x @ self.V(address)
            mask = None if masks is None else masks.get(address)
            written = (a if mask is None else a * mask) @ self.U(address)
            delta_mask = None if delta_masks is None else delta_masks.get(address)
            if delta_mask is not None:
                written = written + delta_mask * (x @ self.delta(address).T)
            return written + linear.bias if self.target.modules_at[address].has_bias else written

        return site

    def export_tensors(self) -> dict[str, Tensor]:
        """Every tensor under its canonical name, as written to ``model.safetensors``."""
        tensors = self.target.export_tensors()
        for address in self.n_components:
            tensors[f"components.{address}.V"] = self.V(address)
            tensors[f"components.{address}.U"] = self.U(address)
        for owner, function in self._importance.items():
            for name, value in function.state_dict().items():
                tensors[f"importance.{owner.replace('-', '.')}.{name}"] = value
        return {name: value.detach() for name, value in tensors.items()}

    @torch.no_grad()
    def import_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`export_tensors`; raises ``ValueError`` naming what does not fit."""
        own = self.export_tensors()  # share their memory with the parameters
        missing, surplus = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
        if missing:
            raise ValueError(f"the model file has no tensor {missing[0]}")
        if surplus:
            raise ValueError(f"the model file has tensors that do not belong here: {', '.join(surplus[:3])}")
        for name, value in own.items():
            if tensors[name].shape != value.shape:
                raise ValueError(
                    f"{name} has shape {list(tensors[name].shape)}, expected {list(value.shape)}"
                )
            value.copy_(tensors[name])
