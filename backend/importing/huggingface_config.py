"""Configurations of Hugging Face models as ours: GPT-2, Llama and Qwen2, and nothing by name.

Names and defaults are those of the library ``transformers``. Whatever would change what the model
computes and that Tributary does not know is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from pydantic import ValidationError

from backend.importing.errors import ImportRefusedError
from backend.importing.families import Parameter, TargetSource
from compute.address import Address
from compute.targets.config import TargetConfig

_ACTIVATIONS: Final = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
#: Settings that do not change what the model computes when it is read: of training (dropout, initial
#: values), of generation, of classification heads, and of how the file was written.
_HARMLESS: Final = frozenset(
    [
        "architectures",
        "attention_dropout",
        "attn_pdrop",
        "bos_token_id",
        "chunk_size_feed_forward",
        "decoder_start_token_id",
        "dtype",
        "embd_pdrop",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "is_encoder_decoder",
        "is_llama_config",
        "keys_to_ignore_at_inference",
        "label2id",
        "max_window_layers",
        "model_type",
        "n_ctx",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "reorder_and_upcast_attn",
        "resid_pdrop",
        "return_dict",
        "rope_interleaved",
        "sep_token_id",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    ]
)


class _Settings:
    """The content of a ``config.json``, which remembers what has been asked for."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self._known: set[str] = set(_HARMLESS)

    def get(self, name: str, default: Any = None) -> Any:
        """The value; ``default`` where it is absent or null."""
        self._known.add(name)
        value = self._content.get(name)
        return default if value is None else value

    def number(self, name: str, default: int | float | None = None) -> Any:
        value = self.get(name, default)
        if value is None:
            raise ImportRefusedError(f"config.json has no {name}", "copy the whole model directory again")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ImportRefusedError(
                f"config.json: {name} is {_shown(value)}, not a number", "copy the model again"
            )
        return value

    def only(self, name: str, accepted: Any, why: str) -> None:
        """Refuse a setting that is anything but the one value that Tributary knows."""
        if (value := self.get(name, accepted)) != accepted:
            raise ImportRefusedError(
                f"config.json: {name} is {_shown(value)}; {why}", "choose a model without it as the target"
            )

    def activation(self, name: str, default: str) -> str:
        value = self.get(name, default)
        if not isinstance(value, str) or value not in _ACTIVATIONS:
            raise ImportRefusedError(
                f"config.json: {name} is {_shown(value)}", f"Tributary knows {', '.join(_ACTIVATIONS)}"
            )
        return _ACTIVATIONS[value]

    def unknown(self) -> tuple[str, ...]:
        names = set(self._content) - self._known
        return tuple(
            sorted(name for name in names if not name.startswith("_") and not name.endswith("_token_id"))
        )


def hf_source(
    config: Mapping[str, Any], class_name: str | None = None, context: int | None = None
) -> TargetSource:
    """A Hugging Face configuration as ours, with the names of its tensors and modules.

    ``class_name`` is for a configuration that does not name its architecture. ``context`` is the
    longest sequence that the model will be used with (default: its own): a sliding window as long as
    that changes nothing. Raises :class:`ImportRefusedError` for what is not supported.
    """
    if class_name is None:
        named = config.get("architectures")
        class_name = str(named[0]) if isinstance(named, list) and len(named) == 1 else None
    if class_name not in _FAMILIES:
        what = "no architecture" if class_name is None else class_name
        raise ImportRefusedError(
            f"config.json names {what}, which Tributary cannot read", f"it reads {', '.join(_FAMILIES)}"
        )
    settings = _Settings(config)
    settings.only("quantization_config", None, "its weights are quantised")
    try:
        shape = _FAMILIES[class_name](settings, context)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ImportRefusedError(
            f"config.json describes a model that cannot be: {where} {first['msg']}".replace(
                "Value error, ", ""
            ),
            "copy the whole model directory again",
        ) from error
    names = _gpt2_names(shape) if class_name == "GPT2LMHeadModel" else _llama_names(shape)
    return TargetSource(class_name, shape, *names, ignored=settings.unknown())


def _gpt2(settings: _Settings, context: int | None) -> TargetConfig:
    settings.only("scale_attn_weights", True, "Tributary's attention always divides by √d_head")
    settings.only("scale_attn_by_inverse_layer_idx", False, "Tributary's attention knows no scale by block")
    settings.only("add_cross_attention", False, "Tributary's models read one sequence")
    width, longest = settings.number("n_embd"), settings.number("n_positions", 1024)
    return TargetConfig(
        family="gpt2",
        n_blocks=settings.number("n_layer"),
        d_model=width,
        d_ff=settings.number("n_inner", 4 * width),
        n_heads=settings.number("n_head"),
        n_kv_heads=settings.number("n_head"),
        vocab_size=settings.number("vocab_size"),
        context=_context(longest, context),
        activation=cast("Any", settings.activation("activation_function", "gelu_new")),
        norm_eps=settings.number("layer_norm_epsilon", 1e-5),
        tied_embeddings=settings.get("tie_word_embeddings", True),
        fused_qkv=True,
    )


def _llama(settings: _Settings, context: int | None) -> TargetConfig:
    attention_bias = settings.get("attention_bias", False)
    return _rotary(
        settings,
        context,
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        mlp_bias=settings.get("mlp_bias", False),
    )


def _qwen2(settings: _Settings, context: int | None) -> TargetConfig:
    shape = _rotary(settings, context, qkv_bias=True, o_bias=False, mlp_bias=False)
    window = settings.get("sliding_window")
    in_use = settings.get("use_sliding_window", False)
    # Blocks from this one on slide, where the file does not say it block by block.
    first = settings.number("max_window_layers", 28)
    kinds = settings.get("layer_types", ["sliding_attention"] * (first < shape.n_blocks))
    if in_use and window is not None and window < shape.context and "sliding_attention" in kinds:
        raise ImportRefusedError(
            f"config.json: attention slides over {window:,} tokens in some blocks, fewer than the {shape.context:,} "
            "tokens the model is used with; Tributary's attention sees every earlier token",
            f"use it with a context of at most {window:,} tokens",
        )
    return shape


def _rotary(settings: _Settings, context: int | None, **biases: bool) -> TargetConfig:
    """What Llama and Qwen2 share."""
    heads, longest = settings.number("num_attention_heads"), settings.number("max_position_embeddings", 2048)
    theta, scaling = _rope(settings, longest)
    return TargetConfig(
        family="llama",
        n_blocks=settings.number("num_hidden_layers"),
        d_model=settings.number("hidden_size"),
        d_ff=settings.number("intermediate_size"),
        n_heads=heads,
        n_kv_heads=settings.number("num_key_value_heads", heads),
        vocab_size=settings.number("vocab_size"),
        context=_context(longest, context),
        activation=cast("Any", settings.activation("hidden_act", "silu")),
        norm_eps=settings.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        tied_embeddings=settings.get("tie_word_embeddings", False),
        head_width=settings.get("head_dim"),
        rope_scaling=cast("Any", scaling),
        **biases,
    )


def _context(longest: int, wanted: int | None) -> int:
    if wanted is not None and wanted > longest:
        raise ImportRefusedError(
            f"a context of {wanted:,} tokens was asked for, but the model takes {longest:,}",
            f"ask for at most {longest:,}",
        )
    return longest if wanted is None else wanted


def _rope(settings: _Settings, longest: int) -> tuple[float, dict[str, Any] | None]:
    """Base and scaling of the rotary frequencies, in the old form (two settings) or the new one."""
    old, new = settings.get("rope_scaling", {}), settings.get("rope_parameters", {})
    if not isinstance(old, dict) or not isinstance(new, dict):
        raise ImportRefusedError("config.json: rope_parameters is not a table", "copy the model again")
    rope = _Settings({**old, **new})
    theta = rope.number("rope_theta", settings.number("rope_theta", 10_000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    partial = rope.number("partial_rotary_factor", settings.number("partial_rotary_factor", 1.0))
    if partial != 1:
        raise ImportRefusedError(
            f"config.json: only a share {partial} of each head is rotated", "choose a model that rotates all"
        )
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, {"kind": "linear", "factor": rope.number("factor")}
    if kind == "llama3":
        return theta, {
            "kind": "llama3",
            "factor": rope.number("factor"),
            "low_frequency_factor": rope.number("low_freq_factor"),
            "high_frequency_factor": rope.number("high_freq_factor"),
            "original_context": rope.number("original_max_position_embeddings", longest),
        }
    raise ImportRefusedError(
        f"config.json: rotary positions are scaled by {_shown(kind)}",
        "Tributary knows default, linear and llama3",
    )


_FAMILIES: Final[dict[str, Callable[[_Settings, int | None], TargetConfig]]] = {
    "GPT2LMHeadModel": _gpt2,
    "LlamaForCausalLM": _llama,
    "Qwen2ForCausalLM": _qwen2,
}
#: The classes whose models can be targets.
SUPPORTED: Final = tuple(_FAMILIES)
_Names = tuple[dict[str, Parameter], dict[str, Address], tuple[str, ...], tuple[str, ...]]


def _gpt2_names(shape: TargetConfig) -> _Names:
    tensors = {
        "target.token_embedding.weight": Parameter("transformer.wte.weight"),
        "target.position_embedding.weight": Parameter("transformer.wpe.weight"),
        **_pair("target.final_norm", "transformer.ln_f"),
    }
    sites: dict[str, Address] = {}
    for block in range(shape.n_blocks):
        there = f"transformer.h.{block}"
        for part, norm in (("attn", "ln_1"), ("mlp", "ln_2")):
            tensors |= _pair(f"target.blocks.{block}.{part}_norm", f"{there}.{norm}")
        for path, kind, projection in (
            ("attn.c_attn", "attn_fused", "qkv"),
            ("attn.c_proj", "attn_fused", "o"),
            ("mlp.c_fc", "mlp", "up"),
            ("mlp.c_proj", "mlp", "down"),
        ):
            sites[f"{there}.{path}"] = Address(block, kind, projection)
            part = path.partition(".")[0]
            ours = f"target.blocks.{block}.{part}.{projection}"
            tensors[f"{ours}.weight"] = Parameter(f"{there}.{path}.weight", transpose=True)
            tensors[f"{ours}.bias"] = Parameter(f"{there}.{path}.bias")
    _read_out(tensors, "transformer.wte.weight", shape)
    buffers = ("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias")
    return tensors, sites, ("transformer.wte", "transformer.wpe", "lm_head"), buffers


def _llama_names(shape: TargetConfig) -> _Names:
    tensors = {
        "target.token_embedding.weight": Parameter("model.embed_tokens.weight"),
        "target.final_norm.weight": Parameter("model.norm.weight"),
    }
    sites: dict[str, Address] = {}
    for block in range(shape.n_blocks):
        there, ours = f"model.layers.{block}", f"target.blocks.{block}"
        tensors[f"{ours}.attn_norm.weight"] = Parameter(f"{there}.input_layernorm.weight")
        tensors[f"{ours}.mlp_norm.weight"] = Parameter(f"{there}.post_attention_layernorm.weight")
        for folder, part, kind, projections in (
            ("self_attn", "attn", "attn", "qkvo"),
            ("mlp", "mlp", "glu", ("gate", "up", "down")),
        ):
            for projection in projections:
                path = f"{there}.{folder}.{projection}_proj"
                sites[path] = Address(block, kind, projection)
                tensors[f"{ours}.{part}.{projection}.weight"] = Parameter(f"{path}.weight")
                if shape.has_bias(projection):
                    tensors[f"{ours}.{part}.{projection}.bias"] = Parameter(f"{path}.bias")
    _read_out(tensors, "model.embed_tokens.weight", shape)
    buffers = ("model.layers.*.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq")
    return tensors, sites, ("model.embed_tokens", "lm_head"), buffers


def _pair(ours: str, there: str) -> dict[str, Parameter]:
    return {f"{ours}.{name}": Parameter(f"{there}.{name}") for name in ("weight", "bias")}


def _read_out(tensors: dict[str, Parameter], embedding: str, shape: TargetConfig) -> None:
    if shape.tied_embeddings:
        tensors["target.token_embedding.weight"] = Parameter(embedding, copies=("lm_head.weight",))
    else:
        tensors["target.unembedding.weight"] = Parameter("lm_head.weight")


def _shown(value: object) -> str:
    return json.dumps(value, default=str)[:60]
