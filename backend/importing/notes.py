"""What everyone who reads an imported run's numbers should know, in full sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backend.importing.families import Source, TargetSource
from backend.importing.settings import ReadSettings
from backend.importing.sites import DecomposedModule
from compute.address import Address
from compute.decomposition.importance_config import ImportanceConfig
from storage.run_directory import RunNote

#: Settings of the public code that say how a run was trained, evaluated, logged and saved.
_TRAINING = frozenset(
    [
        "autocast_bf16", "batch_size", "cadence", "ci_alive_threshold", "ci_fn_optimizer",
        "ci_recon_coeff", "ci_recon_layerwise_coeff", "components_optimizer", "dist_backend",
        "embedding_recon_coeff", "eval", "eval_batch_size", "eval_freq", "eval_metric_configs", "eval_metrics",
        "extra_wandb_config", "faithfulness_coeff", "faithfulness_warmup_lr", "faithfulness_warmup_steps",
        "faithfulness_warmup_weight_decay", "figures_fns", "grad_clip_norm", "grad_clip_norm_ci_fns",
        "grad_clip_norm_components", "gradient_accumulation_steps", "image_freq", "image_on_first_step",
        "importance_minimality_coeff", "init_pd_checkpoint", "init_spd_checkpoint", "is_embed_unembed_recon",
        "loss_metric_configs", "loss_metrics", "losses", "lr", "lr_exponential_halflife", "lr_schedule",
        "lr_warmup_pct", "metric_modules", "metrics_fns", "n_eval_steps", "n_examples_until_dead",
        "n_mask_samples", "out_dir", "out_recon_coeff", "output_loss_type", "p_anneal_end_frac",
        "p_anneal_final_p", "p_anneal_start_frac", "pnorm", "print_freq", "recon_coeff", "recon_layerwise_coeff",
        "resume_provenance", "runtime", "save_freq", "schatten_coeff", "seed", "slow_eval_freq",
        "slow_eval_on_first_step", "steps", "stochastic_recon_coeff", "stochastic_recon_layerwise_coeff",
        "train_log_freq", "wandb", "wandb_group", "wandb_project", "wandb_run_name", "wandb_run_name_prefix",
        "wandb_tags",
    ]
)  # fmt: skip
_DATA = frozenset(
    [
        "buffer_size", "column_name", "data_files", "dataset_seed", "dataset_shuffle_seed", "eval_data_split",
        "eval_split", "is_tokenized", "max_seq_len", "revision", "shuffle_each_epoch", "streaming",
        "train_data_split", "train_split",
    ]
)  # fmt: skip
_TRAINING_GROUPS = {
    "task_config": _DATA,
    "data": _DATA,
    "target": frozenset(["activation_checkpointing", "weights_dtype"]),
}


def run_notes(
    read: ReadSettings,
    source: Source,
    modules: Sequence[DecomposedModule],
    importance: ImportanceConfig,
    stored_as: Iterable[str],
    ignored: Sequence[str],
) -> tuple[RunNote, ...]:
    """The notes of a run; ``stored_as`` are the checkpoint's number types other than float32."""
    notes: list[RunNote] = []
    dropped = [module.path for module in modules if module.address is None]
    decomposed = frozenset(module.address for module in modules if module.address is not None)
    whole = [address for address in source.matrices if address not in decomposed]
    if whole or dropped:
        notes.append(RunNote(topic="left_whole", text=_left_whole(source, whole, len(decomposed), dropped)))
    if importance.sees_later_tokens:
        notes.append(
            RunNote(
                topic="later_tokens",
                text="The importance function of this run attends to the whole text: the importance of a component "
                "at one token may depend on later tokens, and changes where a text is cut or continued."
                + _longest(source, importance),
            )
        )
    if read.settings.sampling == "binomial":
        notes.append(
            RunNote(
                topic="sampling",
                text="This run was trained with binomial sampling, which adds noise to the causal importances. "
                "Tributary evaluates them without noise, so every number can be computed again.",
            )
        )
    if not read.settings.use_delta_component:
        notes.append(
            RunNote(
                topic="sampling",
                text="This run was trained without a delta: what its components leave unexplained was never masked in "
                "training. Tributary shows it as the delta of each matrix all the same.",
            )
        )
    notes += [RunNote(topic="converted", text=text) for text in source.converted]
    kinds = sorted(stored_as)
    if kinds:
        notes.append(
            RunNote(
                topic="converted",
                text=f"The checkpoint stores numbers as {' and '.join(kinds)}; they are converted to float32.",
            )
        )
    if ignored:
        notes.append(RunNote(topic="ignored_settings", text=_ignored(ignored)))
    return tuple(notes)


def _longest(source: Source, importance: ImportanceConfig) -> str:
    """A sentence where the model reads longer texts than its importance function was made for."""
    attention = importance.transformer
    if attention is None and importance.reverse_residual is not None:
        attention = importance.reverse_residual.attention
    if attention is None or not isinstance(source, TargetSource):
        return ""
    made_for, context = attention.max_length, source.config.context
    if context <= made_for:
        return ""
    return (
        f" It was made for texts of at most {made_for:,} tokens, and the model reads {context:,}: the public code "
        f"stops at longer ones, Tributary goes on by the same formula (tributary attribute --length {made_for} keeps "
        "within it)."
    )


def _ignored(ignored: Sequence[str]) -> str:
    """Settings that nobody here knows first: they may mean something."""
    training = [path for path in ignored if _of_training(path)]
    unknown = [path for path in ignored if path not in training]
    sentences: list[str] = []
    if unknown:
        sentences.append(
            f"Tributary does not know these settings of the configuration: {', '.join(unknown)}."
        )
    if training:
        sentences.append(f"Settings of training and evaluation are not used: {', '.join(training)}.")
    return " ".join(sentences)


def _of_training(path: str) -> bool:
    first, _, rest = path.removeprefix("pd.").partition(".")
    return first in _TRAINING or (
        first in _TRAINING_GROUPS and rest.partition(".")[0] in _TRAINING_GROUPS[first]
    )


def _left_whole(source: Source, whole: Sequence[Address], n_decomposed: int, dropped: Sequence[str]) -> str:
    total = n_decomposed + len(whole)
    n_blocks = len({address.block for address in source.matrices})
    sentences: list[str] = []
    if whole:
        has = "has" if n_decomposed == 1 else "have"
        sentences.append(
            f"{n_decomposed:,} of the model's {total:,} matrices {has} components. The others are left whole "
            f"({_by_projection(whole, n_blocks)}): they work as they are, and gradients pass through them."
        )
    if dropped:
        sentences.append(
            f"The run has components for {', '.join(dropped)} too; they are not used, as asked when it was imported."
        )
    return " ".join(sentences)


def _by_projection(addresses: Sequence[Address], n_blocks: int) -> str:
    """``attn.q, attn.k of every block; mlp.down of blocks 1, 3``."""
    blocks: dict[str, list[int]] = {}
    for address in addresses:
        assert address.block is not None
        blocks.setdefault(f"{address.kind}.{address.projection}", []).append(address.block)
    names: dict[tuple[int, ...], list[str]] = {}
    for name, where in blocks.items():
        names.setdefault(tuple(where), []).append(name)
    parts: list[str] = []
    for where, together in names.items():
        numbers = ", ".join(str(block) for block in where)
        place = f"block{'s' if len(where) > 1 else ''} {numbers}"
        if n_blocks > 1 and len(where) == n_blocks:
            place = "every block"
        parts.append(f"{', '.join(together)} of {place}")
    return "; ".join(parts)
