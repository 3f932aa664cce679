"""Causal-importance functions with the state-dict names of the public code, and its sigmoids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPS = torch.finfo(torch.float32).eps


def _unit_rms(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt()


class Plain(nn.Module):
    """x W + b."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(d_in, d_out))
        self.b = nn.Parameter(torch.empty(d_out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b


class PerComponent(nn.Module):
    """One x W + b for each of C components: [..., C or 1, d_in] to [..., C, d_out]."""

    def __init__(self, count: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(count, d_in, d_out))
        self.b = nn.Parameter(torch.empty(count, d_out))

    def forward(self, x: Tensor) -> Tensor:
        return (x.unsqueeze(-2) @ self.W).squeeze(-2) + self.b


def _mlp(widths: Sequence[int], layer: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """Layers at even places, exact GELU at odd ones."""
    parts: list[nn.Module] = []
    for i, (d_in, d_out) in enumerate(itertools.pairwise(widths)):
        parts += [nn.GELU()] if i else []
        parts.append(layer(d_in, d_out))
    return nn.Sequential(*parts)


class PerModule(nn.Module):
    """``mlp``, ``vector_mlp`` or ``shared_mlp`` of one module."""

    def __init__(self, kind: str, d_in: int, count: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.kind = kind
        if kind == "shared_mlp":
            self.layers = _mlp([d_in, *hidden, count], Plain)
        else:
            first = 1 if kind == "mlp" else d_in
            self.layers = _mlp([first, *hidden, 1], lambda i, o: PerComponent(count, i, o))

    def forward(self, x: Tensor, activations: Tensor) -> Tensor:
        if self.kind == "shared_mlp":
            return self.layers(x)
        scalar_or_vector = activations.unsqueeze(-1) if self.kind == "mlp" else x.unsqueeze(-2)
        return self.layers(scalar_or_vector).squeeze(-1)


class Rope(nn.Module):
    def __init__(self, width: int, base: float) -> None:
        super().__init__()
        self.register_buffer("inv_freq", base ** (-torch.arange(0, width, 2).float() / width))

    def forward(self, x: Tensor) -> Tensor:
        """Rotate [B, T, H, d] in halves."""
        assert isinstance(self.inv_freq, Tensor)
        angle = torch.arange(x.shape[1])[:, None, None] * self.inv_freq
        first, second = x.chunk(2, -1)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class TwoWayAttention(nn.Module):
    """Attention that sees later positions too."""

    def __init__(self, width: int, n_heads: int, base: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.rope = Rope(width // n_heads, base)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(-1, (self.n_heads, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = self.rope(q), self.rope(k)
        pattern = (torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out_proj(torch.einsum("bhts,bshd->bthd", pattern, v).flatten(2))


class CiBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, hidden: Sequence[int], base: float) -> None:
        super().__init__()
        self.attn = TwoWayAttention(width, n_heads, base)
        self.mlp = _mlp([width, *hidden, width], Plain)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(_unit_rms(x))
        return x + self.mlp(_unit_rms(x))


@dataclass(frozen=True)
class SiteShape:
    d_in: int
    count: int


class GlobalMlp(nn.Module):
    def __init__(self, sites: dict[str, SiteShape], hidden: Sequence[int]) -> None:
        super().__init__()
        self.order = sorted(sites)
        self.counts = [sites[name].count for name in self.order]
        self.layers = _mlp([sum(s.d_in for s in sites.values()), *hidden, sum(self.counts)], Plain)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        out = self.layers(torch.cat([inputs[name] for name in self.order], -1))
        return dict(zip(self.order, out.split(self.counts, -1), strict=True))


class GlobalTransformer(nn.Module):
    def __init__(
        self, sites: dict[str, SiteShape], width: int, n_blocks: int, n_heads: int, hidden: Sequence[int],
        base: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.order = sorted(sites)
        self.counts = [sites[name].count for name in self.order]
        self._input_projector = Plain(sum(s.d_in for s in sites.values()), width)
        self._output_head = Plain(width, sum(self.counts))
        self._blocks = nn.ModuleList(CiBlock(width, n_heads, hidden, base) for _ in range(n_blocks))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self._input_projector(torch.cat([_unit_rms(inputs[name]) for name in self.order], -1))
        alone = x.dim() == 2  # inputs without positions are sequences of one
        x = x.unsqueeze(1) if alone else x
        for block in self._blocks:
            x = block(x)
        out = self._output_head(x).squeeze(1) if alone else self._output_head(x)
        return dict(zip(self.order, out.split(self.counts, -1), strict=True))


class ReverseResidual(nn.Module):
    """Groups of modules write into, and are read from, a residual stream of its own, one after another."""

    def __init__(
        self, groups: dict[str, list[str]], sites: dict[str, SiteShape], width: int,
        reader_hidden: Sequence[int], transition_hidden: int | None, n_heads: int | None, base: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.groups = groups
        self.sites = sites
        self.width = width
        self._inp_projectors, self._readers = nn.ModuleDict(), nn.ModuleDict()
        self._reader_norms, self._transition_norms = nn.ModuleDict(), nn.ModuleDict()
        self._transitions = nn.ModuleDict()
        self._attn_transitions = nn.ModuleDict() if n_heads else None
        self._attn_norms = nn.ModuleDict() if n_heads else None
        last = [*groups][-1]
        for name, members in groups.items():
            key = name.replace(".", "-")
            d_in, count = (sum(getattr(sites[m], f) for m in members) for f in ("d_in", "count"))
            self._inp_projectors[key] = Plain(d_in, width)
            self._readers[key] = _mlp([width, *reader_hidden, count], Plain)
            self._reader_norms[key] = nn.RMSNorm(width)
            if name == last:
                continue
            if transition_hidden is None:
                self._transitions[key] = Plain(width, width)
            else:
                self._transitions[key] = _mlp([width, transition_hidden, width], Plain)
            self._transition_norms[key] = nn.RMSNorm(width)
            if n_heads and self._attn_transitions is not None and self._attn_norms is not None:
                self._attn_transitions[key] = TwoWayAttention(width, n_heads, base)
                self._attn_norms[key] = nn.RMSNorm(width)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        residual = torch.zeros(*next(iter(inputs.values())).shape[:-1], self.width)
        for name, members in self.groups.items():
            key = name.replace(".", "-")
            residual = residual + self._inp_projectors[key](torch.cat([inputs[m] for m in members], -1))
            if key in self._transitions:
                if self._attn_transitions is not None and self._attn_norms is not None:
                    residual = residual + self._attn_transitions[key](self._attn_norms[key](residual))
                residual = residual + self._transitions[key](self._transition_norms[key](residual))
            read = self._readers[key](self._reader_norms[key](residual))
            counts = [self.sites[m].count for m in members]
            out.update(zip(members, read.split(counts, -1), strict=True))
        return out


def _swish(x: Tensor, beta: float) -> Tensor:
    return x / (1 + torch.exp(-beta * x))


def _swish_hard(x: Tensor) -> Tensor:
    x = x - 0.5
    upper = _swish(x - 0.5, -10) - _swish(x, 10)
    lower = _swish(x + 0.5, 10) - _swish(x, -10)
    return 0.5 + upper + lower


#: The squashing whose result masks are made of (``lower``), by the configured name.
LOWER: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky_hard": lambda z: z.clamp(0, 1),
    "lower_leaky_hard": lambda z: z.clamp(0, 1),
    "upper_leaky_hard": lambda z: torch.where(z > 1, 1 + 0.01 * (z - 1), z.clamp(0, 1)),
    "hard": lambda z: z.clamp(0, 1),
    "normal": lambda z: 1 / (1 + torch.exp(-z)),
    "swish_hard": _swish_hard,
}

PER_MODULE = ("mlp", "vector_mlp", "shared_mlp")


def randomise_importance(module: nn.Module, seed: int) -> None:
    """Such that importances below 0, between 0 and 1 and above 1 all occur."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1 and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * noise)
            elif parameter.dim() == 1 or name.endswith(".b"):
                parameter.copy_(0.3 + 0.4 * noise)
            else:
                d_in = parameter.shape[-1] if name.endswith("weight") else parameter.shape[-2]
                parameter.copy_(1.2 * noise / math.sqrt(d_in))
