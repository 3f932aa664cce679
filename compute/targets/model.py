"""One decoder-only transformer for both families, written so that every site can be intercepted.

Pre-norm blocks. ``llama``: RMSNorm, rotary positions (rotate-half), grouped-query attention, gated
MLP (Touvron et al. 2023, arXiv:2302.13971). ``gpt2``: LayerNorm with bias, learned positions, plain
MLP (Radford et al. 2019). Shapes below: B sequences, T positions, d = d_model, H query heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from compute.address import Address
from compute.targets.config import TargetConfig
from compute.topology import Topology

#: Replaces the matrix product of one site: (address, input [B, T, d_in]) -> output [B, T, d_out].
SiteFunction = Callable[[Address, Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass
class NormTrace:
    """A norm's inside: ``normalised`` x̂ [B, T, d] before scale and shift, ``inverse_scale`` 1/σ [B, T, 1]."""

    normalised: Tensor
    inverse_scale: Tensor


@dataclass
class AttentionTrace:
    """Rotated ``q`` [B, H, T, d_head], rotated ``k`` and ``v`` [B, H_kv, T, d_head], the attention
    ``pattern`` [B, H, T, T] and the ``mixed`` values [B, H, T, d_head] that the o site reads."""

    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Tensor
    mixed: Tensor


@dataclass
class MlpTrace:
    """The inputs of the non-linearity: ``gate`` and ``up`` [B, T, d_ff]; ``gate`` is None in a plain MLP."""

    gate: Tensor | None
    up: Tensor


@dataclass
class Trace:
    """What one forward pass went through; filled when passed to :meth:`TargetModel.forward`.

    ``norms`` is keyed by the name of the read point that the norm feeds (compute/topology.py),
    ``attention`` and ``mlp`` by block.
    """

    token_embedding: Tensor | None = None
    position_embedding: Tensor | None = None
    norms: dict[str, NormTrace] = field(default_factory=dict)
    attention: dict[int, AttentionTrace] = field(default_factory=dict)
    mlp: dict[int, MlpTrace] = field(default_factory=dict)
    final: Tensor | None = None


@dataclass(frozen=True)
class Entering:
    """The residual stream [B, T, d] that block ``block`` reads; a pass may start there."""

    block: int
    residual: Tensor


class Norm(nn.Module):
    """RMSNorm, or LayerNorm when ``centred``; statistics in at least float32."""

    def __init__(self, width: int, eps: float, *, centred: bool) -> None:
        super().__init__()
        self.eps = eps
        self.centred = centred
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if centred else None

    def normalise(self, x: Tensor, *, freeze_scale: bool = False) -> NormTrace:
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        inverse_scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        if freeze_scale:
            inverse_scale = inverse_scale.detach()
        return NormTrace(x * inverse_scale, inverse_scale)

    def affine(self, normalised: Tensor) -> Tensor:
        scaled = normalised * self.weight
        return scaled if self.bias is None else scaled + self.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.centred:
            return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


#: Reads the residual stream through a norm that feeds the read point of this name.
_Read = Callable[[Norm, str, Tensor], Tensor]


def _plain_read(norm: Norm, _: str, x: Tensor) -> Tensor:
    return norm(x)


def _elementary_read(norm: Norm, _: str, x: Tensor) -> Tensor:
    return norm.affine(norm.normalise(x).normalised)


class Attention(nn.Module):
    def __init__(self, c: TargetConfig) -> None:
        super().__init__()
        kv_width = c.n_kv_heads * c.d_head
        #: Widths of queries, keys and values.
        self.widths = (c.attention_width, kv_width, kv_width)
        if c.fused_qkv:
            self.qkv = nn.Linear(c.d_model, sum(self.widths), bias=c.has_bias("qkv"))
        else:
            self.q = nn.Linear(c.d_model, c.attention_width, bias=c.has_bias("q"))
            self.k = nn.Linear(c.d_model, kv_width, bias=c.has_bias("k"))
            self.v = nn.Linear(c.d_model, kv_width, bias=c.has_bias("v"))
        self.o = nn.Linear(c.attention_width, c.d_model, bias=c.has_bias("o"))
        self.q_norm = Norm(c.d_head, c.norm_eps, centred=False) if c.qk_norm else None
        self.k_norm = Norm(c.d_head, c.norm_eps, centred=False) if c.qk_norm else None


class Mlp(nn.Module):
    def __init__(self, c: TargetConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(c.d_model, c.d_ff, bias=c.has_bias("gate")) if c.gated else None
        self.up = nn.Linear(c.d_model, c.d_ff, bias=c.has_bias("up"))
        self.down = nn.Linear(c.d_ff, c.d_model, bias=c.has_bias("down"))


class Embedding(nn.Embedding):
    """torch's, but on the device ``meta`` it draws no numbers: drawing none there imports a compiler."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Block(nn.Module):
    def __init__(self, c: TargetConfig) -> None:
        super().__init__()
        self.attn_norm = Norm(c.d_model, c.norm_eps, centred=c.centred_norm)
        self.attn = Attention(c)
        self.mlp_norm = Norm(c.d_model, c.norm_eps, centred=c.centred_norm)
        self.mlp = Mlp(c)


def rotary_frequencies(config: TargetConfig) -> Tensor:
    """Angle per position of each pair of a head's dimensions, [d_head / 2] float64."""
    d_head, scaling = config.d_head, config.rope_scaling
    frequency = config.rope_theta ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    if scaling is None:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    turns = scaling.original_context * frequency / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1) if high > low else (turns > low).double()
    return frequency * (kept + (1 - kept) / scaling.factor)


def rotary_tables(length: int, config: TargetConfig, *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, d_head] of the rotate-half convention, in the type of ``like``."""
    frequency = rotary_frequencies(config)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().to(like), angle.sin().to(like)


def rotate_half(x: Tensor) -> Tensor:
    """(x₁, x₂) ↦ (−x₂, x₁) on the halves of the last dimension."""
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


class TargetModel(nn.Module):
    """The network being explained. Calling it maps token ids [B, T] to logits [B, T, vocab]."""

    def __init__(self, config: TargetConfig) -> None:
        super().__init__()
        self.config = config
        self.topology = Topology(config)
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        self.position_embedding = None if config.rotary else Embedding(config.context, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_blocks))
        self.final_norm = Norm(config.d_model, config.norm_eps, centred=config.centred_norm)
        self.unembedding = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.unembedding.weight = self.token_embedding.weight
        self.activation = ACTIVATIONS[config.activation]
        self._rotary: tuple[Tensor, Tensor] | None = None
        self._linear = {
            address: self.get_submodule(site.module_path) for address, site in self.topology.modules.items()
        }

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """GPT-2's initialisation: N(0, 0.02), residual writers scaled by 1/√(2·n_blocks)."""
        residual_scale = 1 / math.sqrt(2 * self.config.n_blocks)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            writer = name.endswith(("o.weight", "down.weight"))
            with torch.no_grad():
                parameter.normal_(0, 0.02 * (residual_scale if writer else 1), generator=generator)

    def linear(self, address: Address) -> nn.Linear:
        """The module of a site."""
        module = self._linear[address]
        assert isinstance(module, nn.Linear)
        return module

    def _plain_site(self, address: Address, x: Tensor) -> Tensor:
        return self._linear[address](x)

    def norm_of(self, read_point: str) -> Norm:
        """The norm that feeds a read point whose operation is ``norm``."""
        if read_point == "output":
            return self.final_norm
        block, part, _ = read_point.split(".")
        norm = self.blocks[int(block)].get_submodule(f"{part}_norm")
        assert isinstance(norm, Norm)
        return norm

    def rotary(self, length: int, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rotary tables (cos, sin) for ``length`` positions, cached; None with learned positions."""
        if not self.config.rotary:
            return None
        cached = self._rotary
        if (
            cached is None
            or len(cached[0]) < length
            or cached[0].dtype != like.dtype
            or cached[0].device != like.device
        ):
            size = max(length, self.config.context)
            cached = rotary_tables(size, self.config, like=like)
            self._rotary = cached
        return cached[0][:length], cached[1][:length]

    def enter(
        self,
        tokens: Tensor,
        block: int,
        *,
        token_embedding: Tensor | None = None,
        position_embedding: Tensor | None = None,
        trace: Trace | None = None,
    ) -> Entering:
        """What ``block`` reads where no site before it is replaced, for passes over ``tokens`` to start from.

        The embeddings are as in :meth:`forward`. With a ``trace`` the pass takes elementary operations,
        which have forward derivatives; only attention and MLPs are noted in it.
        """
        residual, _, _ = self._embed(tokens, token_embedding, position_embedding)
        read = _plain_read if trace is None else _elementary_read
        for index in range(block):
            residual = self._through(index, residual, self._plain_site, read, trace)
        return Entering(block, residual)

    def forward(
        self,
        tokens: Tensor,
        *,
        site: SiteFunction | None = None,
        token_embedding: Tensor | None = None,
        position_embedding: Tensor | None = None,
        trace: Trace | None = None,
        freeze_norms: bool = False,
        entering: Entering | None = None,
        unembed: bool = True,
    ) -> Tensor:
        """Run the model.

        ``site`` replaces the product (bias included) of every site. ``token_embedding`` [B, T, d]
        and ``position_embedding`` [T, d] replace the looked-up rows, so that they can be leaves of
        a gradient. ``trace`` is filled with the inside of the pass. ``freeze_norms`` takes every
        norm's scale as a constant of the gradient. ``entering`` (of :meth:`enter`, for the same tokens)
        leaves out the blocks before it; there is no trace of such a pass. Without ``unembed`` the answer
        is what the unembedding reads, [B, T, d].
        """
        apply_site = self._plain_site if site is None else site
        plain = trace is None and not freeze_norms
        if entering is not None and trace is not None:
            raise ValueError("a pass that starts inside the model has no trace")
        residual, embedded, positions = (
            self._embed(tokens, token_embedding, position_embedding)
            if entering is None
            else (entering.residual, None, None)
        )
        if trace is not None:
            trace.token_embedding, trace.position_embedding = embedded, positions

        def read(norm: Norm, name: str, x: Tensor) -> Tensor:
            inside = norm.normalise(x, freeze_scale=freeze_norms)
            if trace is not None:
                trace.norms[name] = inside
            return norm.affine(inside.normalised)

        chosen_read = _plain_read if plain else read
        for index in range(0 if entering is None else entering.block, len(self.blocks)):
            residual = self._through(index, residual, apply_site, chosen_read, trace)
        final = chosen_read(self.final_norm, "output", residual)
        if trace is not None:
            trace.final = final
        return self.unembedding(final) if unembed else final

    def _embed(
        self, tokens: Tensor, token_embedding: Tensor | None, position_embedding: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the first block reads, and the embeddings of tokens and positions in it."""
        length = tokens.shape[-1]
        if length > self.config.context and not self.config.rotary:
            raise ValueError(f"{length} tokens exceed the model's {self.config.context} learned positions")
        embedded = self.token_embedding(tokens) if token_embedding is None else token_embedding
        if self.position_embedding is None:
            return embedded, embedded, None
        positions = (
            self.position_embedding.weight[:length] if position_embedding is None else position_embedding
        )
        return embedded + positions, embedded, positions

    def _through(
        self, index: int, residual: Tensor, site: SiteFunction, read: _Read, trace: Trace | None
    ) -> Tensor:
        """The residual stream after a block, from the one before it."""
        block = self.blocks[index]
        assert isinstance(block, Block)
        attention_kind, mlp_kind = self.config.attention_kind, self.config.mlp_kind
        x = read(block.attn_norm, f"{index}.attn.input", residual)
        mixed = self._attend(index, block.attn, x, site, trace)
        residual = residual + site(Address(index, attention_kind, "o"), mixed)
        x = read(block.mlp_norm, f"{index}.mlp.input", residual)
        up = site(Address(index, mlp_kind, "up"), x)
        gate = site(Address(index, mlp_kind, "gate"), x) if self.config.gated else None
        if trace is not None:
            trace.mlp[index] = MlpTrace(gate, up)
        hidden = self.activation(up) if gate is None else self.activation(gate) * up
        return residual + site(Address(index, mlp_kind, "down"), hidden)

    def _attend(
        self, index: int, attention: Attention, x: Tensor, site: SiteFunction, trace: Trace | None
    ) -> Tensor:
        c = self.config
        if c.fused_qkv:
            flat = site(Address(index, "attn_fused", "qkv"), x).split(attention.widths, -1)
        else:
            flat = tuple(site(Address(index, "attn", projection), x) for projection in "qkv")
        q, k, v = (rearrange(y, "b t (h e) -> b h t e", e=c.d_head) for y in flat)
        if attention.q_norm is not None and attention.k_norm is not None:
            q = attention.q_norm.affine(attention.q_norm.normalise(q).normalised)
            k = attention.k_norm.affine(attention.k_norm.normalise(k).normalised)
        tables = self.rotary(q.shape[-2], q)
        if tables is not None:
            cos, sin = tables
            q = q * cos + rotate_half(q) * sin
            k = k * cos + rotate_half(k) * sin
        repeats = c.n_heads // c.n_kv_heads
        all_k = k.repeat_interleave(repeats, 1) if repeats > 1 else k
        all_v = v.repeat_interleave(repeats, 1) if repeats > 1 else v
        if trace is None:
            mixed = F.scaled_dot_product_attention(q, all_k, all_v, is_causal=True)
        else:
            length = q.shape[-2]
            future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
            scores = (q @ all_k.transpose(-1, -2)) / math.sqrt(c.d_head)
            pattern = torch.softmax(scores.masked_fill(future, -math.inf), -1)
            mixed = pattern @ all_v
            trace.attention[index] = AttentionTrace(q, k, v, pattern, mixed)
        return rearrange(mixed, "b h t e -> b t (h e)")
