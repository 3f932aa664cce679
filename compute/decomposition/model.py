"""A target model together with its components: W ≈ Σ_c U_c V_cᵀ at every site.

Shapes: V [d_in, C] and U [C, d_out], so that a component's activation is a = x V and a site's
output is a U + x Δᵀ + b, where Δ = W − (V U)ᵀ is the delta, what the components leave unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from compute.address import Address, parse_address
from compute.decomposition.global_importance import GlobalImportance, build_global
from compute.decomposition.importance import ImportanceFunction
from compute.decomposition.importance_config import SITE_KINDS, ImportanceConfig
from compute.decomposition.sigmoids import MASK_SIGMOIDS
from compute.targets.export import export_target, load_target_tensors, target_tensors
from compute.targets.model import Entering, SiteFunction, TargetModel, Trace
from compute.topology import Topology


def _name(address: Address) -> str:
    return str(address).replace(".", "-")  # module names must not contain dots


class Decomposition(nn.Module):
    """Components and causal-importance functions of a frozen target model's sites.

    ``n_components`` names the sites; the target's other matrices are left whole: they work as they
    are, and gradients pass through them.
    """

    def __init__(
        self,
        target: TargetModel,
        n_components: Mapping[Address, int],
        importance: ImportanceConfig,
    ) -> None:
        super().__init__()
        unknown = [str(address) for address in n_components if address not in target.topology.modules]
        if unknown or not n_components:
            raise ValueError(
                f"the model has no {', '.join(unknown)}" if unknown else "no site has components"
            )
        self.target = target.requires_grad_(False)
        #: Sites and read points of this decomposition; matrices without components are left whole.
        self.topology = Topology(target.config, frozenset(n_components))
        self.n_components = {address: n_components[address] for address in self.topology.sites}
        self.importance = importance
        self._V = nn.ParameterDict()
        self._U = nn.ParameterDict()
        self._importance = nn.ModuleDict()
        for address, site in self.topology.sites.items():
            c, name = self.n_components[address], _name(address)
            self._V[name] = nn.Parameter(torch.zeros(site.d_in, c))
            self._U[name] = nn.Parameter(torch.zeros(c, site.d_out))
            if importance.kind in SITE_KINDS:
                function = ImportanceFunction(importance.kind, site.d_in, c, importance.hidden)
                self._importance[name] = function
        if importance.is_global:
            sites = self.topology.sites.items()
            sizes = {address: (site.d_in, self.n_components[address]) for address, site in sites}
            self._importance["global"] = build_global(importance, sizes)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The decomposed sites, in forward order."""
        return tuple(self.n_components)

    @property
    def total_components(self) -> int:
        return sum(self.n_components.values())

    def V(self, address: Address) -> Tensor:  # noqa: N802 (the field's symbol)
        """Read directions of a site's components, [d_in, C]."""
        return self._V[_name(address)]

    def U(self, address: Address) -> Tensor:  # noqa: N802 (the field's symbol)
        """Write directions of a site's components, [C, d_out]."""
        return self._U[_name(address)]

    def importance_function(self, address: Address) -> ImportanceFunction:
        """The function of a site; of a decomposition with a global one there is none."""
        function = self._importance[_name(address)]
        assert isinstance(function, ImportanceFunction)
        return function

    @property
    def global_importance(self) -> GlobalImportance | None:
        """The function of all sites together, where the kind is a global one."""
        if not self.importance.is_global:
            return None
        function = self._importance["global"]
        assert isinstance(function, GlobalImportance)
        return function

    def _importance_functions(self) -> dict[str, nn.Module]:
        """All there are, by what their tensors are named after."""
        if self.global_importance is not None:
            return {"global": self.global_importance}
        return {str(address): self.importance_function(address) for address in self.addresses}

    def bias(self, address: Address) -> Tensor | None:
        return self.target.linear(address).bias

    def delta(self, address: Address) -> Tensor:
        """Δ = W − (V U)ᵀ, [d_out, d_in]."""
        return self.target.linear(address).weight - (self.V(address) @ self.U(address)).T

    def causal_importance(
        self, inputs: Mapping[Address, Tensor], activations: Mapping[Address, Tensor] | None = None
    ) -> dict[Address, Tensor]:
        """Importances [..., C] per site, from each site's input [..., d_in] in the target.

        They are in [0, 1] but for the sigmoids that leave it, see compute/decomposition/sigmoids.py.
        Per-site kinds take the inputs of any sites. Global kinds need those of all, [B, T, d_in] with
        whole sequences, and raise ``ValueError`` naming the sites that are missing.
        ``activations`` x V [..., C], where the caller has them already, save computing them again.
        """
        at = self.importance_at(inputs)
        return {
            address: at(address, None if activations is None else activations[address]) for address in inputs
        }

    def importance_at(self, inputs: Mapping[Address, Tensor]) -> Callable[[Address, Tensor | None], Tensor]:
        """:meth:`causal_importance` for one site at a time: a function of the site and its activations.

        What is as wide as the components is computed only when it is asked for, so that who goes
        from site to site never holds more than one.
        """
        squash = MASK_SIGMOIDS[self.importance.sigmoid]
        together = self.global_importance
        if together is not None:
            missing = [str(address) for address in together.order if address not in inputs]
            if missing:
                raise ValueError(
                    f"{self.importance.kind} needs the inputs of all sites at once; "
                    f"there are none of {', '.join(missing)}"
                )
            hidden = together.hidden(inputs)
            return lambda address, _: squash(together.head(address, hidden[address]))

        def at(address: Address, activations: Tensor | None) -> Tensor:
            x = inputs[address]
            if activations is None:
                # Only this kind looks at them.
                activations = x @ self.V(address) if self.importance.kind == "mlp" else x
            return squash(self.importance_function(address)(x, activations))

        return at

    @torch.no_grad()
    def enter(self, tokens: Tensor) -> Entering:
        """The pass over ``tokens`` up to the first block with a site, which no mask changes."""
        return self.target.enter(tokens, next(iter(self.topology.sites)).block or 0)

    @torch.no_grad()
    def clean_pass(
        self, tokens: Tensor, trace: Trace | None = None, entering: Entering | None = None
    ) -> tuple[Tensor, dict[Address, Tensor]]:
        """The target's own forward pass: logits [B, T, vocab] and every site's input [B, T, d_in].

        It starts from ``entering`` (of :meth:`enter`) where that is given.
        """
        inputs: dict[Address, Tensor] = {}

        def site(address: Address, x: Tensor) -> Tensor:
            if address in self.n_components:
                inputs[address] = x
            return self.target.linear(address)(x)

        return self.target(tokens, site=site, trace=trace, entering=entering), inputs

    def site_function(
        self,
        masks: Mapping[Address, Tensor] | None = None,
        delta_masks: Mapping[Address, Tensor] | None = None,
        routing: Mapping[Address, Tensor] | None = None,
    ) -> SiteFunction:
        """The masked model, to be passed to the target's forward as ``site``.

        ``masks`` [B, T, C] multiply the activations (absent: all on). ``delta_masks`` [B, T, 1]
        multiply the delta's output (absent: no delta). ``routing`` [B, T, 1] of 0 or 1 says where
        the masked output is used; elsewhere the site is the target's own. A site absent from
        ``masks`` has all components on; a site absent from ``routing``, when given, is left alone.
        """

        def site(address: Address, x: Tensor) -> Tensor:
            linear = self.target.linear(address)
            if address not in self.n_components or (routing is not None and address not in routing):
                return linear(x)
            a = x @ self.V(address)
            mask = None if masks is None else masks.get(address)
            delta_mask = None if delta_masks is None else delta_masks.get(address)
            route = None if routing is None else routing[address]
            bias = self.bias(address)
            shift = 0.0 if bias is None else bias
            if delta_mask is None and route is None:
                return (a if mask is None else a * mask) @ self.U(address) + shift
            # y = (a∘m) U + δ (x Wᵀ − a U) = δ x Wᵀ + (a∘(m − δ)) U: Δ is never formed.
            full = x @ linear.weight.T
            on = torch.ones_like(a[..., :1]) if mask is None else mask
            d = torch.zeros_like(a[..., :1]) if delta_mask is None else delta_mask
            if route is None:
                return full * d + (a * (on - d)) @ self.U(address) + shift
            return full * (d * route + 1 - route) + (a * ((on - d) * route)) @ self.U(address) + shift

        return site

    def export_tensors(self) -> dict[str, Tensor]:
        """Every tensor under its canonical name, as written to ``model.safetensors``."""
        return export_target(self.target) | self.export_components()

    def export_components(self) -> dict[str, Tensor]:
        """The same without the target's own, which never change."""
        return {name: value.detach().cpu().contiguous() for name, value in self._learned().items()}

    def _learned(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for address in self.addresses:
            tensors[f"components.{address}.V"] = self.V(address)
            tensors[f"components.{address}.U"] = self.U(address)
        for owner, function in self._importance_functions().items():
            for name, value in function.state_dict().items():
                tensors[f"importance.{owner}.{name}"] = value
        return tensors

    def import_tensors(self, tensors: Mapping[str, Tensor], *, components_only: bool = False) -> None:
        """The inverse of :meth:`export_tensors`, or of :meth:`export_components` with ``components_only``.

        A target on the device ``meta`` takes the tensors given as its own, without a copy. Raises
        ``ValueError`` naming what does not fit.
        """
        expected = self._learned() | ({} if components_only else target_tensors(self.target))
        for name, value in expected.items():
            if name not in tensors:
                raise ValueError(f"the model file has no tensor {name}")
            if tensors[name].shape != value.shape:
                raise ValueError(
                    f"{name} has shape {list(tensors[name].shape)}, expected {list(value.shape)}"
                )
        surplus = sorted(set(tensors) - set(expected))
        if surplus:
            raise ValueError(f"the model file has tensors that do not belong here: {', '.join(surplus[:3])}")
        if not components_only:
            load_target_tensors(self.target, tensors)
        with torch.no_grad():
            for address in self.addresses:
                self.V(address).copy_(tensors[f"components.{address}.V"])
                self.U(address).copy_(tensors[f"components.{address}.U"])
            for name, function in self._importance_functions().items():
                prefix = f"importance.{name}."
                function.load_state_dict(
                    {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
                )


def components_by_site(counts: Mapping[str, int]) -> dict[Address, int]:
    """``{"0.attn.q": 160}`` → addresses; raises :class:`compute.address.AddressError`."""
    return {parse_address(name): count for name, count in counts.items()}
