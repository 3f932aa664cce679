"""The shape of a target model, as stored in ``run.json`` and in training configurations."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Family = Literal["llama", "gpt2"]


class TargetConfig(BaseModel):
    """Sizes and options of a decoder-only transformer with pre-norm blocks.

    ``family`` fixes the kind of parts: ``llama`` has RMSNorm, rotary positions and a gated MLP with
    SiLU and no biases; ``gpt2`` has LayerNorm with bias, learned positions, a plain MLP and biases.
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
    activation: Literal["silu", "gelu", "relu"]
    norm_eps: float = Field(default=1e-6, gt=0)
    rope_theta: float = Field(default=10_000.0, gt=0)
    #: RMS-normalise queries and keys per head before the rotation (as in Qwen3). There is no
    #: closed form for it, so attributions of such a model go through the batched fallback.
    qk_norm: bool = False
    #: Use the token embedding as the unembedding too.
    tied_embeddings: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        if self.family == "llama" and self.d_head % 2:
            raise ValueError(f"rotary positions need an even head size, not {self.d_head}")
        return self

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def gated(self) -> bool:
        return self.family == "llama"

    @property
    def bias(self) -> bool:
        return self.family == "gpt2"

    @property
    def centred_norm(self) -> bool:
        """LayerNorm (mean removed, with shift) rather than RMSNorm."""
        return self.family == "gpt2"

    @property
    def rotary(self) -> bool:
        return self.family == "llama"
