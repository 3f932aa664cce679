"""The toy models themselves, written so that every matrix can be intercepted.

Shapes: n inputs, F features. Weights are [d_out, d_in] as in ``torch.nn.Linear``; the embedding
W_E [F, d_embed] and the unembedding W_U [d_embed, F] of a residual MLP multiply from the right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compute.address import Address
from compute.toys.config import ResidualMlpConfig, TmsConfig, ToyModule

#: Replaces the product of one matrix: (address, input [n, d_in]) -> output [n, d_out].
ToyFunction = Callable[[Address, Tensor], Tensor]


def module_name(address: Address) -> str:
    """An address as a name that torch accepts."""
    return str(address).replace(".", "-")


class ToyModel(nn.Module):
    """The network being explained: feature vectors [n, F] to feature vectors [n, F]."""

    def __init__(self, config: TmsConfig | ResidualMlpConfig) -> None:
        super().__init__()
        self.config = config
        self.modules_at: Mapping[Address, ToyModule] = {module.address: module for module in config.modules}
        self._linear = nn.ModuleDict(
            {
                module_name(address): nn.Linear(module.d_in, module.d_out, bias=module.has_bias)
                for address, module in self.modules_at.items()
            }
        )
        self.embedding: Tensor | None = None
        self.unembedding: Tensor | None = None
        if isinstance(config, ResidualMlpConfig):
            self.embedding = nn.Parameter(torch.zeros(config.n_features, config.d_embed))
            self.unembedding = nn.Parameter(torch.zeros(config.d_embed, config.n_features))

    def linear(self, address: Address) -> nn.Linear:
        module = self._linear[module_name(address)]
        assert isinstance(module, nn.Linear)
        return module

    def _plain(self, address: Address, x: Tensor) -> Tensor:
        return self.linear(address)(x)

    def act(self, x: Tensor) -> Tensor:
        """The activation function of the MLPs' neurons."""
        assert isinstance(self.config, ResidualMlpConfig)
        return F.gelu(x) if self.config.activation == "gelu" else F.relu(x)

    def forward(self, x: Tensor, site: ToyFunction | None = None) -> Tensor:
        """Outputs [n, F]; ``site`` replaces the product (bias included) of every matrix."""
        apply = self._plain if site is None else site
        if isinstance(self.config, TmsConfig):
            for address in self.modules_at:
                x = apply(address, x)
            return F.relu(x)
        assert self.embedding is not None
        assert self.unembedding is not None
        residual = x @ self.embedding
        for block in range(self.config.n_layers):
            neurons = self.act(apply(Address(block, "mlp", "up"), residual))
            residual = residual + apply(Address(block, "mlp", "down"), neurons)
        return residual @ self.unembedding

    @torch.no_grad()
    def label(self, x: Tensor) -> Tensor | None:
        """What the model was trained to put out for x [n, F]; None where that is not known."""
        if isinstance(self.config, TmsConfig):
            return x.abs()
        if self.config.label is None or self.config.label_coefficients is None:
            return None
        scaled = x * torch.tensor(self.config.label_coefficients, dtype=x.dtype, device=x.device)
        return scaled.abs() if self.config.label == "abs" else self.act(scaled) + x

    @torch.no_grad()
    def from_features(self, address: Address) -> Tensor | None:
        """The linear path [F, d_in] from the features to what a matrix reads.

        All of it in a ``tms``; of a residual MLP the embedding's part, which in the first block is
        all. None for neurons, which no linear path reaches.
        """
        if isinstance(self.config, TmsConfig):
            path = torch.eye(self.config.n_features, dtype=self.linear(address).weight.dtype)
            for before in self.modules_at:
                if before == address:
                    return path
                path = path @ self.linear(before).weight.T
        return self.embedding if address.projection == "up" else None

    @torch.no_grad()
    def to_outputs(self, address: Address) -> Tensor | None:
        """The linear path [d_out, F] from what a matrix writes to the outputs (before a ``tms``'s ReLU).

        Of a residual MLP what reaches the outputs past all later blocks; None for neurons.
        """
        if isinstance(self.config, TmsConfig):
            later = list(self.modules_at)[list(self.modules_at).index(address) + 1 :]
            path = torch.eye(self.modules_at[address].d_out, dtype=self.linear(address).weight.dtype)
            for following in later:
                path = path @ self.linear(following).weight.T
            return path
        return self.unembedding if address.projection == "down" else None

    def followers(self, address: Address, decomposed: frozenset[Address]) -> dict[Address, Tensor | None]:
        """The decomposed matrices that read directly what a matrix writes, with the path between.

        The path is a matrix [d_out, d_in], or None where it is the identity. What is left whole lies
        on the path in a ``tms``; in a residual MLP a block that is left whole is passed by. A
        component's U and the follower's V meet at the neurons before the activation function acts.
        """
        found: dict[Address, Tensor | None] = {}
        if isinstance(self.config, TmsConfig):
            path: Tensor | None = None
            for following in list(self.modules_at)[list(self.modules_at).index(address) + 1 :]:
                if following in decomposed:
                    found[following] = path
                    break
                weight = self.linear(following).weight.detach().T
                path = weight if path is None else path @ weight
            return found
        assert address.block is not None
        if address.projection == "up":
            candidates = [Address(address.block, "mlp", "down")]
        else:
            candidates = [Address(i, "mlp", "up") for i in range(address.block + 1, self.config.n_layers)]
        return {candidate: None for candidate in candidates if candidate in decomposed}

    def export_tensors(self) -> dict[str, Tensor]:
        """Every tensor by its name in ``model.safetensors``."""
        tensors: dict[str, Tensor] = {}
        for address in self.modules_at:
            linear = self.linear(address)
            tensors[f"target.{address}.weight"] = linear.weight
            if self.modules_at[address].has_bias:
                tensors[f"target.{address}.bias"] = linear.bias
        if self.embedding is not None and self.unembedding is not None:
            tensors |= {"target.embedding": self.embedding, "target.unembedding": self.unembedding}
        return tensors
