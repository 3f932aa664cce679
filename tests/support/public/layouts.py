"""What the public code writes next to and into its checkpoints, era by era."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

#: ``A-newest``: ``ci_config``, keys ``ci_fn.…``. ``A-per-module``: ``ci_fn_type``, keys ``_ci_fns.…``.
#: ``A-old``: ``C`` and ``gate_type``, keys ``_gates.…``, ``patched_model.…``. ``B``: ``run_meta.yaml``.
#: ``B-early``: the same under its earlier file name. ``C``: the skeleton of a JAX run.
Layout = Literal["A-newest", "A-per-module", "A-old", "B", "B-early", "C"]


def state_dict(
    layout: Layout,
    target: Mapping[str, Tensor],
    components: Mapping[str, Mapping[str, Tensor]],
    importance: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """A checkpoint's tensors.

    ``components`` is by concrete path; ``importance`` has the newest names, ``_ci_fns.<path with
    dashes>.…`` or ``_global_ci_fn.…``, without the leading ``ci_fn.``.
    """
    out: dict[str, Tensor] = {}
    decomposed = {f"{path}.{part}" for path in components for part in ("weight", "bias")}
    for name, value in target.items():
        if layout != "A-old":
            out[f"target_model.{name}"] = value
            continue
        module, _, part = name.rpartition(".")
        out[f"patched_model.{module}.original.{part}" if name in decomposed else f"patched_model.{name}"] = (
            value
        )
    for path, parts in components.items():
        for part, value in parts.items():
            if layout != "A-old":
                out[f"_components.{path.replace('.', '-')}.{part}"] = value
            elif part != "bias":  # was no buffer then
                out[f"patched_model.{path}.components.{part}"] = value
    for name, value in importance.items():
        if layout == "A-old":
            out[name.replace("_ci_fns.", "_gates.")] = value
        else:
            out[name if layout == "A-per-module" else f"ci_fn.{name}"] = value
    return out


_TASK = {
    "task_name": "lm",
    "max_seq_len": 16,
    "buffer_size": 1000,
    "dataset_name": "SimpleStories/SimpleStories",
    "column_name": "story",
    "train_data_split": "train",
    "eval_data_split": "test",
    "shuffle_each_epoch": True,
    "is_tokenized": False,
    "streaming": False,
}

_SCHEDULE = {"start_val": 2e-4, "fn_type": "cosine", "warmup_pct": 0.0, "final_val_frac": 0.1}

_LOSSES = [
    {"classname": "ImportanceMinimalityLoss", "coeff": 1e-3, "pnorm": 2.0, "beta": 0.1, "eps": 1e-12},
    {"classname": "StochasticReconSubsetLoss", "coeff": 0.5, "routing": {"type": "uniform_k_subset"}},
    {"classname": "FaithfulnessLoss", "coeff": 1e6},
]


def ci_config(kind: str, hidden: list[int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The newest form of the causal-importance settings; ``settings`` are those of its network."""
    if not kind.startswith("global"):
        return {"mode": "layerwise", "fn_type": kind, "hidden_dims": hidden}
    return {
        "mode": "global",
        "fn_type": kind,
        "hidden_dims": hidden if kind == "global_shared_mlp" else None,
        "reader_hidden_dims": None,
        "d_resid_ci_fn": None,
        "block_groups": None,
        "transition_attn_config": None,
        "transition_hidden_dim": None,
        "simple_transformer_ci_cfg": None,
        **settings,
    }


def final_config(
    layout: Layout,
    *,
    kind: str,
    hidden: list[int],
    settings: Mapping[str, Any],
    sigmoid: str,
    sampling: str,
    patterns: Mapping[str, int],
    identities: Mapping[str, int],
    target: Mapping[str, Any],
    tokenizer: str,
) -> dict[str, Any]:
    """``final_config.yaml``; ``target`` are the ``pretrained_model_…`` fields."""
    config: dict[str, Any] = {
        "wandb_project": "spd",
        "wandb_run_name": None,
        "wandb_run_name_prefix": "",
        "seed": 0,
        "n_mask_samples": 1,
        "sampling": sampling,
        "sigmoid_type": sigmoid,
        "use_delta_component": True,
        "output_loss_type": "kl",
        "steps": 200_000,
        "batch_size": 64,
        "train_log_freq": 200,
        "eval_freq": 1000,
        "eval_batch_size": 64,
        "n_eval_steps": 5,
        "save_freq": None,
        "ci_alive_threshold": 0.0,
        "tokenizer_name": tokenizer,
        "task_config": dict(_TASK),
        **target,
    }
    if layout == "A-old":
        (count,) = set(patterns.values())  # one for all then
        config |= {
            "C": count,
            "target_module_patterns": list(patterns),
            "identity_module_patterns": list(identities) or None,
            "gate_type": kind,
            "gate_hidden_dims": hidden,
            "lr": 5e-4,
            "lr_schedule": "cosine",
            "lr_warmup_pct": 0.0,
            "lr_exponential_halflife": None,
            "pnorm": 0.9,
            "importance_minimality_coeff": 1e-3,
            "faithfulness_coeff": 1e3,
            "stochastic_recon_coeff": 1,
            "stochastic_recon_layerwise_coeff": 1,
            "n_examples_until_dead": 1_368_400,
            "eval_metrics": [{"classname": "CIHistograms", "extra_init_kwargs": {"n_batches_accum": 5}}],
        }
        return config
    config |= {
        "module_info": [{"module_pattern": p, "C": n} for p, n in patterns.items()],
        "identity_module_info": [{"module_pattern": p, "C": n} for p, n in identities.items()] or None,
        "loss_metric_configs": _LOSSES,
        "eval_metric_configs": [{"classname": "CI_L0", "groups": {"total": ["*"]}}],
        "lr_schedule": _SCHEDULE,
        "faithfulness_warmup_steps": 200,
        "faithfulness_warmup_lr": 1e-3,
        "faithfulness_warmup_weight_decay": 0.0,
        "grad_clip_norm_components": 0.01,
        "grad_clip_norm_ci_fns": None,
        "slow_eval_freq": 10_000,
        "slow_eval_on_first_step": True,
    }
    if layout == "A-per-module":
        config |= {"ci_fn_type": kind, "ci_fn_hidden_dims": hidden}
    else:
        config |= {
            "ci_config": ci_config(kind, hidden, settings),
            "init_spd_checkpoint": None,
            "autocast_bf16": True,
        }
    return config


def run_meta(
    *,
    kind: str,
    hidden: list[int],
    settings: Mapping[str, Any],
    sigmoid: str,
    sampling: str,
    patterns: Mapping[str, int],
    identities: Mapping[str, int],
    target: Mapping[str, Any],
    tokenizer: str,
) -> dict[str, Any]:
    """``run_meta.yaml`` of layout B; ``target`` is its ``target.spec``."""
    optimizer = {"betas": [0.9, 0.999], "grad_clip_norm": None, "lr_schedule": _SCHEDULE, "weight_decay": 0.0}
    return {
        "cadence": {"keep_last_n_checkpoints": None, "save_every": 5000, "train_log_every": 100},
        "data": {
            **{
                k: v
                for k, v in _TASK.items()
                if k not in ("task_name", "train_data_split", "eval_data_split")
            },
            "train_split": "train",
            "eval_split": "test",
            "tokenizer_name": tokenizer,
        },
        "eval": {"batch_size": 128, "every": 1000, "metrics": [{"type": "CI_L0"}], "n_steps": 1},
        "pd": {
            "batch_size": 16,
            "ci_config": {
                k: v
                for k, v in ci_config(kind, hidden, settings).items()
                if v is not None or k in ("hidden_dims", "simple_transformer_ci_cfg")
            },
            "ci_fn_optimizer": optimizer,
            "components_optimizer": optimizer,
            "decomposition_targets": [{"C": n, "module_pattern": p} for p, n in patterns.items()],
            "identity_decomposition_targets": [{"C": n, "module_pattern": p} for p, n in identities.items()]
            or None,
            "faithfulness_warmup_lr": 1e-3,
            "faithfulness_warmup_steps": 400,
            "faithfulness_warmup_weight_decay": 0.0,
            "losses": {"faith": {"coeff": 1e8, "type": "FaithfulnessLoss"}},
            "n_mask_samples": 1,
            "sampling": sampling,
            "seed": 0,
            "sigmoid_type": sigmoid,
            "steps": 200_000,
            "tied_weights": None,
            "use_delta_component": True,
        },
        "resume_provenance": None,
        "runtime": {"autocast_bf16": True, "device": "cuda:0", "dp": 8},
        "target": {"activation_checkpointing": False, "output_extract": 0, "spec": dict(target)},
        "wandb": {"entity": "someone", "project": "param-decomp"},
    }
