"""Target models with the parameter names and formulas of the public pretraining code.

Written from facts (names, defaults, formulas), as plainly as possible, and independent of
``compute/``: attention is an explicit softmax, rotations are written pair by pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PretrainConfig:
    """``model_config.yaml`` of a pretraining run; ``fields`` says which of it a class has."""

    model_type: str
    block_size: int = 24
    vocab_size: int = 62
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 16
    n_intermediate: int = 20
    mlp_bias: bool = False
    attn_bias: bool = False
    rotary_adjacent_pairs: bool = False
    #: The public code ignores it: the rotation always covers the whole head.
    rotary_dim: int = 64
    rotary_base: int = 10_000
    n_ctx: int = 24
    n_key_value_heads: int = 2
    use_grouped_query_attention: bool = True
    flash_attention: bool = False
    rms_norm_eps: float = 1e-6

    @property
    def gpt2(self) -> bool:
        return self.model_type.startswith("GPT2")

    @property
    def fields(self) -> dict[str, object]:
        shared = ("model_type", "block_size", "vocab_size", "n_layer", "n_head", "n_embd", "flash_attention")
        names = shared if self.gpt2 else tuple(self.__dataclass_fields__)
        return {name: getattr(self, name) for name in names}


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        size = (x.float().pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
        return self.weight * (x.float() / size).to(x.dtype)


class CentredNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        size = (centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
        return centred / size * self.weight + self.bias


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rotate(x: Tensor, base: float, *, adjacent: bool) -> Tensor:
    """Rotate [B, T, H, d] by position; pair j turns by t / base^(2j/d)."""
    width, length = x.shape[-1], x.shape[1]
    half = width // 2
    turned = torch.empty_like(x)
    for j in range(half):
        a, b = (2 * j, 2 * j + 1) if adjacent else (j, j + half)
        angle = torch.arange(length, dtype=torch.float32) / base ** (2 * j / width)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        turned[..., a] = x[..., a] * cos - x[..., b] * sin
        turned[..., b] = x[..., b] * cos + x[..., a] * sin
    return turned


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of [B, T, H, d] with [B, T, H_kv, d]; the result is [B, T, H·d]."""
    repeats = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(repeats, 2), v.repeat_interleave(repeats, 2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    length = q.shape[1]
    allowed = torch.arange(length)[:, None] >= torch.arange(length)[None, :]
    pattern = scores.masked_fill(~allowed, -math.inf).softmax(-1)
    return torch.einsum("bhts,bshd->bthd", pattern, v).flatten(2)


class LlamaAttention(nn.Module):
    def __init__(self, c: PretrainConfig) -> None:
        super().__init__()
        self.c = c
        self.width = c.n_embd // c.n_head
        if c.use_grouped_query_attention:
            narrow = c.n_key_value_heads * self.width
            self.q_proj = nn.Linear(c.n_embd, c.n_embd, bias=c.attn_bias)
            self.k_proj = nn.Linear(c.n_embd, narrow, bias=c.attn_bias)
            self.v_proj = nn.Linear(c.n_embd, narrow, bias=c.attn_bias)
        else:
            self.c_attn = nn.Linear(c.n_embd, 3 * c.n_embd, bias=c.attn_bias)
        self.o_proj = nn.Linear(c.n_embd, c.n_embd, bias=c.attn_bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.c.use_grouped_query_attention:
            flat = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        else:
            flat = self.c_attn(x).split(self.c.n_embd, -1)
        q, k, v = (y.unflatten(-1, (-1, self.width)) for y in flat)
        adjacent = self.c.rotary_adjacent_pairs
        q = rotate(q, self.c.rotary_base, adjacent=adjacent)
        k = rotate(k, self.c.rotary_base, adjacent=adjacent)
        return self.o_proj(attend(q, k, v))


class GatedMlp(nn.Module):
    def __init__(self, c: PretrainConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.n_embd, c.n_intermediate, bias=c.mlp_bias)
        self.up_proj = nn.Linear(c.n_embd, c.n_intermediate, bias=c.mlp_bias)
        self.down_proj = nn.Linear(c.n_intermediate, c.n_embd, bias=c.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        return self.down_proj(gate * torch.sigmoid(gate) * self.up_proj(x))


class PlainMlp(nn.Module):
    """Up, tanh-GELU, down; the name of the second matrix differs between the classes."""

    def __init__(self, width: int, hidden: int, down: str, *, bias: bool) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden, bias=bias)
        self.down_name = down
        self.add_module(down, nn.Linear(hidden, width, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(self.down_name)(tanh_gelu(self.c_fc(x)))


class LlamaBlock(nn.Module):
    def __init__(self, c: PretrainConfig) -> None:
        super().__init__()
        self.rms_1 = RmsNorm(c.n_embd, c.rms_norm_eps)
        self.attn = LlamaAttention(c)
        self.rms_2 = RmsNorm(c.n_embd, c.rms_norm_eps)
        if c.model_type == "LlamaSimple":
            self.mlp: nn.Module = GatedMlp(c)
        else:
            self.mlp = PlainMlp(c.n_embd, c.n_intermediate, "down_proj", bias=c.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.rms_1(x))
        return x + self.mlp(self.rms_2(x))


class LlamaSimple(nn.Module):
    """LlamaSimple (gated MLP) and LlamaSimpleMLP (plain), whose other parts are the same."""

    def __init__(self, c: PretrainConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(c.vocab_size, c.n_embd)
        self.h = nn.ModuleList(LlamaBlock(c) for _ in range(c.n_layer))
        self.ln_f = RmsNorm(c.n_embd, c.rms_norm_eps)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        x = self.wte(tokens)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x)), None


class Gpt2Attention(nn.Module):
    def __init__(self, c: PretrainConfig) -> None:
        super().__init__()
        self.c = c
        d = c.n_embd
        if c.model_type == "GPT2":
            self.c_attn, self.c_proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        else:
            self.q_proj, self.k_proj, self.v_proj = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
            self.o_proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        if self.c.model_type == "GPT2":
            flat, out = self.c_attn(x).split(self.c.n_embd, -1), self.c_proj
        else:
            flat, out = (self.q_proj(x), self.k_proj(x), self.v_proj(x)), self.o_proj
        q, k, v = (y.unflatten(-1, (self.c.n_head, -1)) for y in flat)
        return out(attend(q, k, v))


class Gpt2Block(nn.Module):
    def __init__(self, c: PretrainConfig) -> None:
        super().__init__()
        down = "c_proj" if c.model_type == "GPT2" else "down_proj"
        self.ln_1, self.ln_2 = CentredNorm(c.n_embd), CentredNorm(c.n_embd)
        self.attn = Gpt2Attention(c)
        self.mlp = PlainMlp(c.n_embd, 4 * c.n_embd, down, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt2(nn.Module):
    """GPT2Simple (blocks ``h``, separate q k v) and GPT2 (blocks ``h_torch``, fused ``c_attn``)."""

    def __init__(self, c: PretrainConfig) -> None:
        super().__init__()
        self.blocks_name = "h_torch" if c.model_type == "GPT2" else "h"
        self.wte = nn.Embedding(c.vocab_size, c.n_embd)
        self.wpe = nn.Embedding(c.block_size, c.n_embd)
        self.add_module(self.blocks_name, nn.ModuleList(Gpt2Block(c) for _ in range(c.n_layer)))
        self.ln_f = CentredNorm(c.n_embd)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.get_submodule(self.blocks_name).children():
            x = block(x)
        return self.lm_head(self.ln_f(x)), None


#: Import path of each class within ``spd.pretrain.models`` (later ``param_decomp``…).
MODULES = {
    "LlamaSimple": "llama_simple",
    "LlamaSimpleMLP": "llama_simple_mlp",
    "GPT2Simple": "gpt2_simple",
    "GPT2": "gpt2",
}


def pretrained_model(config: PretrainConfig) -> nn.Module:
    return Gpt2(config) if config.gpt2 else LlamaSimple(config)


def randomise(model: nn.Module, seed: int) -> None:
    """Weights large enough that any mistake shows: products keep the size of their input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() < 2:
                # Gains stay near one, shifts and biases near zero; both are far enough to be seen.
                parameter.add_(0.3 * noise)
            else:
                parameter.copy_(noise / math.sqrt(min(parameter.shape)))
