"""Causal-importance functions that see the inputs of all sites at once and give all importances.

Formulas of the public parameter-decomposition code, from its versions of early 2026. x_s [..., T, d_s]
is the input of site s in the target; GELU is the exact one; rms(x) = x / √(mean x² + ε), where ε is
that of float32, 1.19e-7. W are [in, out] unless said otherwise. MLPs have GELU between their layers.

``global_shared_mlp``
    z = MLP([x_1, …, x_n]), one output for each component of each site in order.

``global_shared_transformer``
    r = [rms(x_1), …, rms(x_n)] W_in + b_in; in every block r += attention(rms(r)), then
    r += MLP(rms(r)); z = r W_out + b_out, or with ``final_norm`` z = rms(r) W_out + b_out. No norm
    has weights.

``global_reverse_residual``
    r = 0; for every group of sites in order, in most runs from the last block to the first:
    r += [inputs of the group] W_in + b_in; unless it is the last group, r += attention(rms(r) ∘ w),
    if there is attention, and r += MLP(rms(r) ∘ w'); the group's z = MLP(rms(r) ∘ w''). So what is
    read of a group comes after its own transition. A transition without hidden layer is one matrix.

Attention sees the whole sequence, later positions too: softmax(q kᵀ / √d_head) v without a mask, q, k,
v and o without biases, [out, in], rotary positions on q and k with the two halves of a head as pairs.
Inputs without a sequence axis, [B, d], count as sequences of one position.

Names of tensors, below ``importance.global.``:

* MLP: ``weights.{i}``, ``biases.{i}``;
* transformer: ``input.weight``, ``input.bias``, ``blocks.{i}.attn.{q,k,v,o}``,
  ``blocks.{i}.mlp.weights.{j}``, ``blocks.{i}.mlp.biases.{j}``, ``output.weight``, ``output.bias``;
* reverse residual, for the i-th group: ``groups.{i}.input.weight``, ``.input.bias``,
  ``.reader_norm``, ``.reader.weights.{j}``, ``.reader.biases.{j}``; for all but the last
  ``.transition_norm``, ``.transition.weights.{j}``, ``.transition.biases.{j}`` and, with attention,
  ``.attn_norm``, ``.attn.{q,k,v,o}``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compute.address import Address, parse_address
from compute.decomposition.importance_config import (
    AttentionImportance,
    ImportanceConfig,
    TransformerImportance,
)

EPS: Final = torch.finfo(torch.float32).eps
#: Input width and number of components of every site.
Sizes = Mapping[Address, tuple[int, int]]


class GlobalImportance(nn.Module, ABC):
    """z of all sites, in two steps: the wide last layer is taken site by site, to hold one at a time."""

    def __init__(self, order: Sequence[Address], sizes: Sizes) -> None:
        super().__init__()
        self.order = tuple(order)
        self._columns = _columns(self.order, sizes)

    @abstractmethod
    def hidden(self, inputs: Mapping[Address, Tensor]) -> dict[Address, Tensor]:
        """What the last layer of every site sees, [..., width], from the inputs [..., d_in] of all."""

    @abstractmethod
    def head(self, address: Address, hidden: Tensor) -> Tensor:
        """z [..., C] of a site from what :meth:`hidden` gave for it."""


def build_global(config: ImportanceConfig, sizes: Sizes) -> GlobalImportance:
    """The function that ``config`` describes; raises ``ValueError`` where it names other sites."""
    order = tuple(parse_address(name) for name in config.order)
    _check_sites("the order of the importance function", order, sizes)
    if config.kind == "global_shared_mlp":
        return GlobalMLP(order, sizes, config.hidden)
    if config.transformer is not None:
        return GlobalTransformer(order, sizes, config.transformer)
    assert config.reverse_residual is not None
    return GlobalReverseResidual(order, sizes, config)


def _check_sites(what: str, order: Sequence[Address], sizes: Sizes) -> None:
    for found, text in (
        (set(sizes) - set(order), "does not have"),
        (set(order) - set(sizes), "has, but the decomposition does not,"),
    ):
        if found:
            raise ValueError(f"{what} {text} {', '.join(map(str, sorted(found)))}")


def _columns(order: Sequence[Address], sizes: Sizes) -> dict[Address, slice]:
    """Which outputs are whose, where those of all sites are concatenated in order."""
    columns: dict[Address, slice] = {}
    first = 0
    for address in order:
        columns[address] = slice(first, first + sizes[address][1])
        first = columns[address].stop
    return columns


class _Linear(nn.Module):
    """x W + b with W [in, out]."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_in, d_out))
        self.bias = nn.Parameter(torch.zeros(d_out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias

    def some(self, x: Tensor, columns: slice) -> Tensor:
        """Some of the outputs."""
        return x @ self.weight[:, columns] + self.bias[columns]


class _Layers:
    """Linear layers with GELU between them, for modules with ``weights`` and ``biases`` of their own."""

    weights: nn.ParameterList
    biases: nn.ParameterList

    def make_layers(self, widths: Sequence[int]) -> None:
        """Parameters for ``widths`` from the input's to the output's."""
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(*shape)) for shape in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(shape[1])) for shape in shapes)

    def inner(self, x: Tensor) -> Tensor:
        """What the last layer sees."""
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[:-1]:
            x = F.gelu(x @ weight + bias)
        return x

    def last(self, x: Tensor, columns: slice = slice(None)) -> Tensor:
        """The outputs of the last layer, or some of them."""
        return x @ self.weights[-1][:, columns] + self.biases[-1][columns]


class _MLP(_Layers, nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.make_layers(widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x))


class _Attention(nn.Module):
    """Bidirectional self-attention with rotary positions; matrices [out, in], no biases."""

    def __init__(self, d_model: int, config: AttentionImportance) -> None:
        super().__init__()
        for name in "qkvo":
            self.register_parameter(name, nn.Parameter(torch.zeros(d_model, d_model)))
        self._n_heads = config.n_heads
        self._base = config.rope_base

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, o = (self.get_parameter(name) for name in "qkvo")
        # [..., T, d_model] → [..., heads, T, d_head]
        heads = [F.linear(x, w).unflatten(-1, (self._n_heads, -1)).transpose(-3, -2) for w in (q, k, v)]
        cos, sin = self._angles(x.shape[-2], heads[0])
        mixed = F.scaled_dot_product_attention(
            _rotated(heads[0], cos, sin), _rotated(heads[1], cos, sin), heads[2]
        )
        return F.linear(mixed.transpose(-3, -2).flatten(-2), o)

    def _angles(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [T, d_head / 2]; in float32, as the public code computes them."""
        width = like.shape[-1]
        exponent = torch.arange(0, width, 2, device=like.device).float() / width
        position = torch.arange(length, device=like.device).float()
        angle = position[:, None] * (1.0 / self._base**exponent)
        return angle.cos().to(like), angle.sin().to(like)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _rms(x: Tensor, weight: Tensor | None = None) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, EPS)


def _with_sequence(inputs: Mapping[Address, Tensor]) -> tuple[dict[Address, Tensor], bool]:
    """The inputs with a sequence axis, and whether it had to be added."""
    added = any(x.dim() < 3 for x in inputs.values())
    return {a: x.unsqueeze(-2) if added else x for a, x in inputs.items()}, added


class GlobalMLP(_Layers, GlobalImportance):
    """``global_shared_mlp``."""

    def __init__(self, order: Sequence[Address], sizes: Sizes, hidden: tuple[int, ...]) -> None:
        super().__init__(order, sizes)
        d_in, n_components = (sum(sizes[address][i] for address in order) for i in (0, 1))
        self.make_layers([d_in, *hidden, n_components])

    def hidden(self, inputs: Mapping[Address, Tensor]) -> dict[Address, Tensor]:
        seen = self.inner(torch.cat([inputs[address] for address in self.order], -1))
        return dict.fromkeys(self.order, seen)

    def head(self, address: Address, hidden: Tensor) -> Tensor:
        return self.last(hidden, self._columns[address])


class _Block(nn.Module):
    def __init__(self, config: TransformerImportance) -> None:
        super().__init__()
        self.attn = _Attention(config.d_model, config)
        self.mlp = _MLP([config.d_model, *config.mlp_hidden, config.d_model])

    def forward(self, r: Tensor) -> Tensor:
        r = r + self.attn(_rms(r))
        return r + self.mlp(_rms(r))


class GlobalTransformer(GlobalImportance):
    """``global_shared_transformer``."""

    def __init__(self, order: Sequence[Address], sizes: Sizes, config: TransformerImportance) -> None:
        super().__init__(order, sizes)
        self._final_norm = config.final_norm
        self.input = _Linear(sum(sizes[address][0] for address in order), config.d_model)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.n_blocks))
        self.output = _Linear(config.d_model, sum(sizes[address][1] for address in order))

    def hidden(self, inputs: Mapping[Address, Tensor]) -> dict[Address, Tensor]:
        inputs, added = _with_sequence(inputs)
        r: Tensor = self.input(torch.cat([_rms(inputs[address]) for address in self.order], -1))
        for block in self.blocks:
            r = block(r)
        if self._final_norm:
            r = _rms(r)
        return dict.fromkeys(self.order, r.squeeze(-2) if added else r)

    def head(self, address: Address, hidden: Tensor) -> Tensor:
        return self.output.some(hidden, self._columns[address])


class _Group(nn.Module):
    """One group of the reverse residual: its input, its transition unless ``last``, and its reader."""

    def __init__(
        self, sites: Sequence[Address], sizes: Sizes, config: ImportanceConfig, *, last: bool
    ) -> None:
        super().__init__()
        assert config.reverse_residual is not None
        c = config.reverse_residual
        self.sites = tuple(sites)
        self.columns = _columns(sites, sizes)
        self.input = _Linear(sum(sizes[address][0] for address in sites), c.d_residual)
        self.attn: _Attention | None = None
        self.transition: _MLP | None = None
        if not last:
            if c.attention is not None:
                self.attn_norm = nn.Parameter(torch.ones(c.d_residual))
                self.attn = _Attention(c.d_residual, c.attention)
            self.transition_norm = nn.Parameter(torch.ones(c.d_residual))
            self.transition = _MLP([c.d_residual, *c.transition_hidden, c.d_residual])
        self.reader_norm = nn.Parameter(torch.ones(c.d_residual))
        self.reader = _MLP([c.d_residual, *c.reader_hidden, sum(sizes[address][1] for address in sites)])

    def forward(self, r: Tensor | None, inputs: Mapping[Address, Tensor]) -> Tensor:
        """The residual stream after this group; None before the first."""
        projected = self.input(torch.cat([inputs[address] for address in self.sites], -1))
        stream = projected if r is None else r + projected
        if self.attn is not None:
            stream = stream + self.attn(_rms(stream, self.attn_norm))
        if self.transition is not None:
            stream = stream + self.transition(_rms(stream, self.transition_norm))
        return stream


class GlobalReverseResidual(GlobalImportance):
    """``global_reverse_residual``."""

    def __init__(self, order: Sequence[Address], sizes: Sizes, config: ImportanceConfig) -> None:
        super().__init__(order, sizes)
        assert config.reverse_residual is not None
        grouped = [[parse_address(name) for name in g.sites] for g in config.reverse_residual.groups]
        if [address for group in grouped for address in group] != list(self.order):
            raise ValueError("the order of the importance function is not that of its groups of sites")
        self.groups = nn.ModuleList(
            _Group(sites, sizes, config, last=number == len(grouped) - 1)
            for number, sites in enumerate(grouped)
        )
        self._group_of = {a: number for number, sites in enumerate(grouped) for a in sites}

    def _group(self, number: int) -> _Group:
        group = self.groups[number]
        assert isinstance(group, _Group)
        return group

    def hidden(self, inputs: Mapping[Address, Tensor]) -> dict[Address, Tensor]:
        inputs, added = _with_sequence(inputs)
        result: dict[Address, Tensor] = {}
        r: Tensor | None = None
        for group in map(self._group, range(len(self.groups))):
            r = group(r, inputs)
            assert r is not None
            seen = group.reader.inner(_rms(r, group.reader_norm))
            result |= dict.fromkeys(group.sites, seen.squeeze(-2) if added else seen)
        return result

    def head(self, address: Address, hidden: Tensor) -> Tensor:
        group = self._group(self._group_of[address])
        return group.reader.last(hidden, group.columns[address])
