"""The language models of the public pretraining code: LlamaSimple, LlamaSimpleMLP, GPT2Simple and GPT2.

Fields and defaults of their ``model_config.yaml``, parameter names and what the code fixes whatever
the configuration says (all tie the unembedding to the embedding; ``rotary_dim`` is not used, the
whole head is rotated) are those of goodfire-ai/spd, spd/pretrain/models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.importing.errors import ImportRefusedError
from backend.importing.families import Parameter, TargetSource, half_from_adjacent
from compute.address import Address
from compute.targets.config import TargetConfig

SimpleClass = Literal["LlamaSimple", "LlamaSimpleMLP", "GPT2Simple", "GPT2"]
SIMPLE_CLASSES: tuple[SimpleClass, ...] = get_args(SimpleClass)

#: GPT2's LayerNorms are torch's and GPT2Simple's are given the same constant.
_LAYER_NORM_EPS = 1e-5


class _GPT2Settings(BaseModel):
    """``model_config.yaml`` of GPT2 and GPT2Simple."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    #: The configurations of Hugging Face models call it ``n_positions``.
    block_size: int = Field(default=1024, ge=1)
    vocab_size: int = Field(default=50257, ge=2)
    #: Addresses have room for blocks of four digits.
    n_layer: int = Field(default=12, ge=1, le=10_000)
    n_head: int = Field(default=12, ge=1)
    n_embd: int = Field(default=768, ge=1)


class _LlamaSettings(_GPT2Settings):
    """``model_config.yaml`` of LlamaSimple and LlamaSimpleMLP."""

    n_intermediate: int = Field(ge=1)
    mlp_bias: bool = False
    attn_bias: bool = False
    rotary_adjacent_pairs: bool = False
    rotary_base: float = Field(default=10_000.0, gt=0)
    n_ctx: int = Field(default=1024, ge=1)
    n_key_value_heads: int = Field(default=3, ge=1)
    use_grouped_query_attention: bool = True
    rms_norm_eps: float = Field(default=1e-6, gt=0)


#: Settings that change neither a number nor a shape.
_INDIFFERENT = ("model_type", "flash_attention")
#: Default width of the MLP where the configuration leaves it out, as the public classes have it.
_DEFAULT_INTERMEDIATE = {"LlamaSimple": 768 * 4 * 2 // 3, "LlamaSimpleMLP": 768 * 4}
_ROTATED = (
    "The target rotates neighbouring pairs of an attention head's dimensions where Tributary rotates halves: "
    "the rows of its query and key matrices, and the outputs of their components, are stored in another order. "
    "No number changes."
)
#: Masks and rotary tables that old checkpoints may carry.
_BUFFERS = ("*.attn.bias", "*.attn.rotary_sin", "*.attn.rotary_cos")


def simple_source(class_name: SimpleClass, settings: Mapping[str, Any]) -> TargetSource:
    """The source for one of the four classes; raises :class:`ImportRefusedError` for what it cannot be."""
    found = dict(settings)
    if "block_size" not in found and "n_positions" in found:
        found["block_size"] = found.pop("n_positions")
    said = found.get("model_type")
    if isinstance(said, str) and said != class_name and said in SIMPLE_CLASSES:
        raise ImportRefusedError(
            f"the run decomposes a {class_name}, but the target's configuration is of a {said}",
            "give the configuration of the right model with --target",
        )
    try:
        if class_name in ("LlamaSimple", "LlamaSimpleMLP"):
            found.setdefault("n_intermediate", _DEFAULT_INTERMEDIATE[class_name])
            known = _LlamaSettings.model_validate(found)
            source = _llama(class_name, known)
        else:
            known = _GPT2Settings.model_validate(found)
            source = _gpt2(class_name, known)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or class_name
        raise ImportRefusedError(
            f"the target's configuration does not describe a {class_name}: {where}: {first['msg']}",
            "give the right model_config.yaml with --target",
        ) from error
    if found.get("rotary_dim") == known.n_embd // known.n_head:
        del found["rotary_dim"]  # the public classes rotate whole heads whatever it says
    unused = sorted(set(found) - set(type(known).model_fields) - set(_INDIFFERENT))
    return replace(source, ignored=tuple(f"model_config.{name}" for name in unused))


def _llama(class_name: str, s: _LlamaSettings) -> TargetSource:
    gated = class_name == "LlamaSimple"
    grouped = s.use_grouped_query_attention
    config = TargetConfig(
        family="llama",
        n_blocks=s.n_layer,
        d_model=s.n_embd,
        d_ff=s.n_intermediate,
        n_heads=s.n_head,
        n_kv_heads=s.n_key_value_heads if grouped else s.n_head,
        vocab_size=s.vocab_size,
        # Rotary tables are made for n_ctx positions; the model refuses texts longer than block_size.
        context=min(s.block_size, s.n_ctx),
        activation="silu" if gated else "gelu_tanh",
        norm_eps=s.rms_norm_eps,
        rope_theta=s.rotary_base,
        tied_embeddings=True,
        fused_qkv=not grouped,
        gated_mlp=gated,
        qkv_bias=s.attn_bias,
        o_bias=s.attn_bias,
        mlp_bias=s.mlp_bias,
    )
    attention = {"q": "q_proj", "k": "k_proj", "v": "v_proj"} if grouped else {"qkv": "c_attn"}
    mlp = {"gate": "gate_proj", "up": "up_proj"} if gated else {"up": "c_fc"}
    converted: tuple[str, ...] = ()
    rows: dict[str, tuple[int, ...]] = {}
    if s.rotary_adjacent_pairs:
        q = half_from_adjacent(config.n_heads, config.d_head)
        k = half_from_adjacent(config.n_kv_heads, config.d_head)
        if grouped:
            rows = {"q": q, "k": k}
        else:
            shifted = tuple(len(q) + row for row in k)
            rows = {"qkv": (*q, *shifted, *range(len(q) + len(k), len(q) + 2 * len(k)))}
        converted = (_ROTATED,)
    return _source(
        class_name,
        config,
        blocks="h",
        norms=("rms_1", "rms_2"),
        attention=attention | {"o": "o_proj"},
        mlp=mlp | {"down": "down_proj"},
        rows=rows,
        converted=converted,
    )


def _gpt2(class_name: str, s: _GPT2Settings) -> TargetSource:
    fused = class_name == "GPT2"
    config = TargetConfig(
        family="gpt2",
        n_blocks=s.n_layer,
        d_model=s.n_embd,
        d_ff=4 * s.n_embd,
        n_heads=s.n_head,
        n_kv_heads=s.n_head,
        vocab_size=s.vocab_size,
        context=s.block_size,
        activation="gelu_tanh",
        norm_eps=_LAYER_NORM_EPS,
        tied_embeddings=True,
        fused_qkv=fused,
    )
    return _source(
        class_name,
        config,
        blocks="h_torch" if fused else "h",
        norms=("ln_1", "ln_2"),
        attention={"qkv": "c_attn", "o": "c_proj"}
        if fused
        else {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"},
        mlp={"up": "c_fc", "down": "c_proj" if fused else "down_proj"},
    )


def _source(
    class_name: str,
    config: TargetConfig,
    *,
    blocks: str,
    norms: tuple[str, str],
    attention: Mapping[str, str],
    mlp: Mapping[str, str],
    rows: Mapping[str, tuple[int, ...]] | None = None,
    converted: tuple[str, ...] = (),
) -> TargetSource:
    """Names of tensors and sites; ``attention`` and ``mlp`` map our projections to the source's modules."""
    tensors = {"target.token_embedding.weight": Parameter("wte.weight", copies=("lm_head.weight",))}
    embeddings = ["wte", "lm_head"]
    if not config.rotary:
        tensors["target.position_embedding.weight"] = Parameter("wpe.weight")
        embeddings.append("wpe")
    sites: dict[str, Address] = {}
    parts = ("weight", "bias") if config.centred_norm else ("weight",)
    for block in range(config.n_blocks):
        ours, theirs = f"target.blocks.{block}", f"{blocks}.{block}"
        for ours_norm, theirs_norm in zip(("attn_norm", "mlp_norm"), norms, strict=True):
            for part in parts:
                tensors[f"{ours}.{ours_norm}.{part}"] = Parameter(f"{theirs}.{theirs_norm}.{part}")
        for room, kind, names in (
            ("attn", config.attention_kind, attention),
            ("mlp", config.mlp_kind, mlp),
        ):
            for projection, name in names.items():
                sites[f"{theirs}.{room}.{name}"] = Address(block, kind, projection)
                order = (rows or {}).get(projection)
                for part in ("weight", "bias") if config.has_bias(projection) else ("weight",):
                    tensors[f"{ours}.{room}.{projection}.{part}"] = Parameter(
                        f"{theirs}.{room}.{name}.{part}", rows=order
                    )
    for part in parts:
        tensors[f"target.final_norm.{part}"] = Parameter(f"ln_f.{part}")
    return TargetSource(
        class_name=class_name,
        config=config,
        tensors=tensors,
        sites=sites,
        embeddings=tuple(embeddings),
        buffers=_BUFFERS,
        converted=converted,
    )
