"""Tiny random Hugging Face models, in float32 and with the reference's own code."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging

from tests.support.public.targets import randomise

logging.disable_progress_bar()

CLASSES = ("GPT2LMHeadModel", "LlamaForCausalLM", "Qwen2ForCausalLM")


def huggingface_model(class_name: str, vocab_size: int, seed: int, **overrides: Any) -> PreTrainedModel:
    """A model of two blocks and width 16; ``overrides`` are fields of its configuration."""
    model: PreTrainedModel
    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "attn_implementation": "eager",
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if class_name == "GPT2LMHeadModel":
        shape: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 24, "n_inner": None}
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        model = GPT2LMHeadModel(GPT2Config(**(common | shape | dropout | overrides)))
    else:
        shape = {
            "hidden_size": 16,
            "intermediate_size": 20,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 24,
        }
        settings = common | shape | overrides
        if class_name == "LlamaForCausalLM":
            model = LlamaForCausalLM(LlamaConfig(**settings))
        else:
            model = Qwen2ForCausalLM(Qwen2Config(**settings))
    randomise(model, seed)
    return model.eval()


def matrices(model: nn.Module) -> list[str]:
    """Paths of all matrices within blocks, in the order of the model."""
    kinds = ("Linear", "Conv1D")
    return [
        path
        for path, module in model.named_modules()
        if type(module).__name__ in kinds and any(part.isdigit() for part in path.split("."))
    ]
