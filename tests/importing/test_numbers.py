"""An imported run computes what the model computes that wrote the published one.

The reference is a model of tests/support/public, which shares no code with compute/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.importing.published import (
    Imported,
    assert_close,
    assert_same_attributions,
    assert_same_statistics,
    import_public,
    random_masks,
    sums_of,
)
from tests.support.public import write_public_run

#: llama3 frequencies that all three ranges of wavelengths occur in.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

#: Every family, layout, kind of importance and sigmoid occurs; each case has something of its own.
CASES: dict[str, dict[str, Any]] = {
    "newest": {},
    "per module, mlp": {"layout": "A-per-module", "importance": "mlp", "hidden": (5, 4)},
    "old keys, vector_mlp": {"layout": "A-old", "importance": "vector_mlp"},
    "old keys, gated mlp": {"family": "LlamaSimple", "layout": "A-old", "importance": "mlp"},
    "layout B, transformer": {"layout": "B", "importance": "global_shared_transformer"},
    "early layout B, global mlp": {
        "family": "GPT2Simple", "layout": "B-early", "importance": "global_shared_mlp", "hidden": (9, 8),
    },
    "no hidden layer": {"hidden": ()},
    "reverse residual": {"importance": "global_reverse_residual"},
    "reverse residual without attention": {
        "importance": "global_reverse_residual",
        "settings": {"transition_attn_config": None, "transition_hidden_dim": None, "reader_hidden_dims": []},
    },
    "reverse residual, modules in another order": {
        "family": "GPT2Simple",
        "importance": "global_reverse_residual",
        "sites": {"h.1.mlp.*_proj": 5, "h.*.attn.k_proj": 6, "h.0.*.c_fc": 4, "h.*.attn.o_proj": 7},
        "settings": {
            "block_groups": [
                {"name": "top", "patterns": ["*.o_proj", "*.down_proj"]},
                {"name": "rest", "patterns": ["*.c_fc", "*.k_proj"]},
            ]
        },
    },
    "lower leaky": {"sigmoid": "lower_leaky_hard", "importance": "mlp"},
    "upper leaky": {"sigmoid": "upper_leaky_hard"},
    "hard": {"sigmoid": "hard", "family": "GPT2"},
    "normal": {"sigmoid": "normal", "importance": "global_shared_mlp"},
    "swish": {"sigmoid": "swish_hard", "importance": "vector_mlp"},
    "binomial": {"sampling": "binomial"},
    "gated": {"family": "LlamaSimple", "model": {"n_key_value_heads": 4}},
    "adjacent pairs": {"model": {"rotary_adjacent_pairs": True, "rotary_base": 50}},
    "adjacent pairs, biases": {
        "family": "LlamaSimple",
        "importance": "mlp",
        "model": {
            "rotary_adjacent_pairs": True, "rotary_base": 50, "attn_bias": True, "mlp_bias": True,
            "n_key_value_heads": 1, "rms_norm_eps": 1e-3,
        },
    },
    "no grouped queries": {"model": {"use_grouped_query_attention": False, "attn_bias": True}},
    "no grouped queries, adjacent pairs": {
        "model": {"use_grouped_query_attention": False, "rotary_adjacent_pairs": True, "rotary_base": 50}
    },
    "eleven blocks": {
        "model": {"n_layer": 12},
        "importance": "global_shared_transformer",
        "sites": {"h.2.mlp.c_fc": 4, "h.1*.mlp.down_proj": 5},
    },
    "gpt2 simple": {"family": "GPT2Simple", "importance": "mlp"},
    "gpt2 fused": {"family": "GPT2", "importance": "global_shared_transformer"},
    "hf gpt2": {"family": "GPT2LMHeadModel", "layout": "A-per-module"},
    "hf gpt2, layout B": {
        "family": "GPT2LMHeadModel",
        "layout": "B",
        "model": {"activation_function": "relu", "n_inner": 28, "tie_word_embeddings": False},
    },
    "hf llama": {"family": "LlamaForCausalLM", "importance": "mlp"},
    "hf llama, wide heads": {
        "family": "LlamaForCausalLM",
        "layout": "A-old",
        "model": {
            "head_dim": 6, "attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3,
            "tie_word_embeddings": True,
        },
    },
    "hf qwen2": {"family": "Qwen2ForCausalLM", "importance": "global_shared_mlp"},
    "bfloat16": {"stored_as": torch.bfloat16},
    "only attention": {"sites": {"h.*.attn.*": 6}},
    "only mlps": {"sites": {"h.*.mlp.*": 6}, "importance": "global_shared_mlp"},
    "only the last block": {"sites": {"h.1.*_proj": 6, "h.1.mlp.c_fc": 5}},
    "queries and keys": {"sites": {"h.*.attn.q_proj": 6, "h.*.attn.k_proj": 5}, "layout": "B"},
    "values and one up": {"family": "GPT2Simple", "sites": {"h.*.attn.v_proj": 6, "h.1.mlp.c_fc": 5}},
    "fused, whole outputs": {"family": "GPT2", "sites": {"h_torch.*.attn.c_attn": 6, "h_torch.0.mlp.*": 5}},
    "gates without ups": {"family": "LlamaForCausalLM", "sites": {"*.gate_proj": 6, "*.0.*.o_proj": 5}},
}  # fmt: skip


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def imported(request: pytest.FixtureRequest, tmp_path: Path) -> Imported:
    return import_public(write_public_run(tmp_path / "s-12345678", **request.param))


def test_same_numbers(imported: Imported):
    public, decomposition = imported.public, imported.decomposition
    logits, inputs = decomposition.clean_pass(public.tokens)
    expected = public.target_logits()
    assert expected.std() > 0.3, "the reference is too dull to show an error"
    assert_close(logits, expected, "logits of the target")

    assert set(imported.addresses) == set(public.paths)
    for path, activations in public.activations().items():
        address = imported.addresses[path]
        assert_close(inputs[address] @ decomposition.V(address), activations, f"activations of {path}")
    importance = public.importance()
    with torch.no_grad():
        found = decomposition.causal_importance(inputs)
    for path, expected_importance in importance.items():
        assert_close(found[imported.addresses[path]], expected_importance, f"importance of {path}", 1.0)
    assert torch.cat([(g > 0).float().flatten() for g in importance.values()]).mean() > 0.02

    on = {path: torch.ones_like(g) for path, g in importance.items()}
    whole = {path: torch.ones(public.tokens.shape) for path in on}
    masks, deltas = random_masks(public)
    for what, m, d in (
        ("all on", on, None),
        ("all on, with deltas", on, whole),
        ("masked by importance", importance, None),
        ("masked at random", masks, deltas),
    ):
        assert_close(imported.masked_logits(m, d), public.masked_logits(m, d), f"logits, {what}")
    assert_close(public.masked_logits(on, whole), expected, "the reference adds up to its target")

    attributions = public.attributions()
    sums = sums_of(imported, public.tokens, delta="off", ci_weighted=True)
    assert_same_attributions(imported, sums, attributions)
    assert_same_statistics(imported, sums, attributions)
