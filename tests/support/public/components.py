"""A model some of whose matrices act through components, put there by forward hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Masks = Mapping[str, Tensor]


class Identity(nn.Module):
    """What identity insertion puts before a matrix."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    def forward(self, x: Tensor) -> Tensor:
        return x


def insert_identity(model: nn.Module, path: str) -> str:
    """Put an identity before a matrix; the path of the new module."""
    module = model.get_submodule(path)
    identity = Identity(weight_of(module).shape[1])
    module.add_module("pre_identity", identity)
    module.register_forward_pre_hook(lambda _, args: (identity(args[0]),))
    return f"{path}.pre_identity"


def weight_of(module: nn.Module) -> Tensor:
    """The matrix that components approximate: [d_out, d_in], or [vocab, d] of an embedding."""
    if isinstance(module, Identity):
        return torch.eye(module.d)
    assert isinstance(module.weight, Tensor)
    return module.weight.T if isinstance(module, Conv1D) else module.weight


class Components(nn.Module):
    """V [d_in, C], U [C, d_out] and a copy of the target's bias (as a buffer, if it has one)."""

    bias: Tensor | None

    def __init__(self, module: nn.Module, count: int) -> None:
        super().__init__()
        d_out, d_in = weight_of(module).shape
        self.embedding = isinstance(module, nn.Embedding)
        if self.embedding:
            d_in, d_out = d_out, d_in
        self.V = nn.Parameter(torch.empty(d_in, count))
        self.U = nn.Parameter(torch.empty(count, d_out))
        bias = getattr(module, "bias", None)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def activations(self, x: Tensor) -> Tensor:
        return self.V[x] if self.embedding else x @ self.V

    def delta(self, weight: Tensor) -> Tensor:
        """What the components leave over, in the orientation of ``weight_of``."""
        product = self.V @ self.U
        return weight - (product if self.embedding else product.T)


@dataclass
class Cut:
    """Component activations on both sides of the detach, by module path."""

    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)


class ComponentModel(nn.Module):
    """The target, and components for the modules at ``counts``' paths (in that order)."""

    def __init__(self, target: nn.Module, counts: Mapping[str, int]) -> None:
        super().__init__()
        self.target = target
        self.counts = dict(counts)
        self.components = {path: Components(target.get_submodule(path), n) for path, n in counts.items()}

    def randomise(self, generator: torch.Generator) -> None:
        """Components of the size of a matrix, and far from any that would do for the target."""
        for parts in self.components.values():
            d_in, count = parts.V.shape
            parts.V.data = torch.randn(parts.V.shape, generator=generator) / d_in**0.5
            parts.U.data = torch.randn(parts.U.shape, generator=generator) / count**0.5
            parts.requires_grad_(requires_grad=False)

    def logits(self, tokens: Tensor) -> Tensor:
        out = self.target(tokens)
        return out[0] if isinstance(out, tuple) else out.logits if hasattr(out, "logits") else out

    @contextmanager
    def _hooked(self, hooks: Mapping[str, object]) -> Iterator[None]:
        with ExitStack() as stack:
            for path, hook in hooks.items():
                handle = self.target.get_submodule(path).register_forward_hook(hook)  # type: ignore[arg-type]
                stack.callback(handle.remove)
            yield

    def inputs(self, tokens: Tensor) -> dict[str, Tensor]:
        """Input of every decomposed module in the target's own pass."""
        seen: dict[str, Tensor] = {}

        def remember(path: str):
            return lambda _module, args, _out: seen.__setitem__(path, args[0])

        with self._hooked({path: remember(path) for path in self.components}):
            self.logits(tokens)
        return seen

    def masked(
        self, tokens: Tensor, masks: Masks, deltas: Masks | None = None, cut: Cut | None = None
    ) -> Tensor:
        """Logits with the modules in ``masks`` replaced.

        ``masks`` [B, T, C] by path; ``deltas`` [B, T] scale what the components leave over (without
        them it is left out). With ``cut``, component activations are leaves of the gradient.
        """

        def replace(path: str):
            parts = self.components[path]

            def hook(module: nn.Module, args: tuple[Tensor, ...], _out: Tensor) -> Tensor:
                activations = parts.activations(args[0])
                if cut is not None:
                    cut.before[path] = activations
                    activations = activations.detach().requires_grad_()
                    cut.after[path] = activations
                out = (activations * masks[path]) @ parts.U
                if deltas is not None:
                    delta = parts.delta(weight_of(module))
                    rest = delta[args[0]] if parts.embedding else args[0] @ delta.T
                    out = out + deltas[path].unsqueeze(-1) * rest
                return out if parts.bias is None else out + parts.bias

            return hook

        with self._hooked({path: replace(path) for path in masks}):
            return self.logits(tokens)
