"""The shape of a target model, as stored in ``run.json`` and in training configurations."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Family = Literal["llama", "gpt2"]


class RopeScaling(BaseModel):
    """A change of the rotary frequencies for contexts longer than a model was first trained on.

    ``linear`` divides all frequencies by ``factor``. ``llama3`` (Grattafiori et al. 2024,
    arXiv:2407.21783) divides those whose wavelength exceeds ``original_context / low_frequency_factor``,
    keeps those below ``original_context / high_frequency_factor`` and interpolates between.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear", "llama3"]
    factor: float = Field(gt=0)
    low_frequency_factor: float = Field(default=1.0, gt=0)
    high_frequency_factor: float = Field(default=4.0, gt=0)
    original_context: int = Field(default=8192, ge=1)


class TargetConfig(BaseModel):
    """Sizes and options of a decoder-only transformer with pre-norm blocks.

    ``family`` fixes the kind of parts: ``llama`` has RMSNorm, rotary positions and a gated MLP with
    SiLU and no biases; ``gpt2`` has LayerNorm with bias, learned positions, a plain MLP and biases.
    The fields that may be ``None`` say where a model departs from its family.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Family
    n_blocks: int = Field(ge=1)
    d_model: int = Field(ge=1)
    d_ff: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    n_kv_heads: int = Field(ge=1)
    vocab_size: int = Field(ge=2)
    context: int = Field(ge=1)
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"]
    norm_eps: float = Field(default=1e-6, gt=0)
    rope_theta: float = Field(default=10_000.0, gt=0)
    #: RMS-normalise queries and keys per head before the rotation (as in Qwen3). There is no
    #: closed form for it, so attributions of such a model go through the batched fallback.
    qk_norm: bool = False
    #: Use the token embedding as the unembedding too.
    tied_embeddings: bool = False
    #: Width of an attention head; None: d_model / n_heads.
    head_width: int | None = Field(default=None, ge=1)
    #: One matrix for queries, keys and values, in this order.
    fused_qkv: bool = False
    gated_mlp: bool | None = None
    qkv_bias: bool | None = None
    o_bias: bool | None = None
    mlp_bias: bool | None = None
    rope_scaling: RopeScaling | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.head_width is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        if self.family == "llama" and self.d_head % 2:
            raise ValueError(f"rotary positions need an even head size, not {self.d_head}")
        if self.rope_scaling is not None and not self.rotary:
            raise ValueError("rope_scaling is for models with rotary positions")
        if self.fused_qkv and self.qk_norm:
            raise ValueError("queries and keys that are normalised per head cannot be fused with values")
        return self

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads if self.head_width is None else self.head_width

    @property
    def attention_width(self) -> int:
        """Width of all heads' mixed values side by side, which the o site reads."""
        return self.n_heads * self.d_head

    @property
    def attention_kind(self) -> Literal["attn", "attn_fused"]:
        """The kind of the attention's addresses (compute/address.py)."""
        return "attn_fused" if self.fused_qkv else "attn"

    @property
    def mlp_kind(self) -> Literal["glu", "mlp"]:
        """The kind of the MLP's addresses (compute/address.py)."""
        return "glu" if self.gated else "mlp"

    @property
    def gated(self) -> bool:
        return self.family == "llama" if self.gated_mlp is None else self.gated_mlp

    def has_bias(self, projection: str) -> bool:
        """Whether a projection (q, k, v, qkv, o, gate, up, down) adds a bias."""
        if projection in ("q", "k", "v", "qkv"):
            own = self.qkv_bias
        else:
            own = self.o_bias if projection == "o" else self.mlp_bias
        return self.family == "gpt2" if own is None else own

    @property
    def centred_norm(self) -> bool:
        """LayerNorm (mean removed, with shift) rather than RMSNorm."""
        return self.family == "gpt2"

    @property
    def rotary(self) -> bool:
        return self.family == "llama"
