"""Published attribution files, in both formats, with a run's own numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support.public.attributions import PublicAttributions
from tests.support.public.run import PublicRun

_PROJECTIONS = {
    "attn.q_proj": "attn.q",
    "attn.k_proj": "attn.k",
    "attn.v_proj": "attn.v",
    "attn.o_proj": "attn.o",
    "attn.c_attn": "attn_fused.qkv",
    "attn.c_proj": "attn_fused.o",
    "mlp.gate_proj": "glu.gate",
    "mlp.up_proj": "glu.up",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
}


def canonical(path: str, *, gated: bool = False) -> str:
    """The published canonical name of a module; ``gated`` tells which MLP a ``down_proj`` is of."""
    found = re.search(r"(\d+)\.((?:attn|mlp)\.\w+)$", path)
    assert found is not None, path
    block, rest = found.groups()
    if rest == "mlp.down_proj":
        return f"{block}.{'glu' if gated else 'mlp'}.down"
    return f"{block}.{_PROJECTIONS[rest]}"


def has_gates(run: PublicRun) -> bool:
    """Whether the target has gated MLPs, decomposed or not."""
    return any(path.endswith("gate_proj") for path, _ in run.model.target.named_modules())


def four_edge_content(run: PublicRun, sums: PublicAttributions) -> dict[str, Any]:
    """The content of a file of four edge types, of sums with CI-weighted sources."""
    gated = has_gates(run)

    def renamed(by_path: dict[str, Tensor]) -> dict[str, Tensor]:
        return {canonical(path, gated=gated): value.clone() for path, value in by_path.items()}

    def nested(by_target: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        return {canonical(t, gated=gated): renamed(sources) for t, sources in by_target.items()}

    return {
        "regular_attr": nested(sums.regular),
        "regular_attr_abs": nested(sums.regular_abs),
        "embed_attr": renamed(sums.embed),
        "embed_attr_abs": renamed(sums.embed_abs),
        "unembed_attr": renamed(sums.unembed),
        "embed_unembed_attr": sums.embed_unembed.clone(),
        "w_unembed": sums.w_unembed.clone(),
        "ci_sum": renamed(sums.ci_sum),
        "component_act_sq_sum": renamed(sums.act_square_sum),
        "logit_sq_sum": sums.logit_square_sum.clone(),
        "embed_token_count": sums.token_count.clone(),
        "ci_threshold": 0.0,
        "n_tokens_processed": sums.n_tokens,
    }


def dense_content(run: PublicRun, sums: PublicAttributions, vocab_size: int | None = None) -> dict[str, Any]:
    """The content of a file of two dense matrices, of sums without CI weights.

    Means over tokens; rows are tokens, then components. ``vocab_size`` is that of the tokenizer,
    which may be smaller than the model's.
    """
    vocab = len(sums.token_count) if vocab_size is None else vocab_size
    counts = run.model.counts
    keys = [f"{path}:{i}" for path, n in counts.items() for i in range(n)]
    starts = {path: keys.index(f"{path}:0") for path in counts}
    to_component = torch.zeros(vocab + len(keys), len(keys))
    to_residual = torch.zeros(vocab + len(keys), sums.w_unembed.shape[0])

    def rows(path: str) -> slice:
        return slice(vocab + starts[path], vocab + starts[path] + counts[path])

    for target, sources in sums.regular.items():
        columns = slice(starts[target], starts[target] + counts[target])
        for source, value in sources.items():
            to_component[rows(source), columns] = value.T
        if target in sums.embed:
            to_component[:vocab, columns] = sums.embed[target].T[:vocab]
    for source, value in sums.unembed.items():
        to_residual[rows(source)] = value.T
    to_residual[:vocab] = sums.embed_unembed.T[:vocab]
    return {
        "component_layer_keys": keys,
        "vocab_size": vocab,
        "d_model": sums.w_unembed.shape[0],
        "source_to_component": to_component / sums.n_tokens,
        "source_to_out_residual": to_residual / sums.n_tokens,
        "n_batches_processed": 1,
        "n_tokens_processed": sums.n_tokens,
        "ci_threshold": 0.0,
    }


def write_four_edge(path: Path, run: PublicRun) -> PublicAttributions:
    """Write a run's attributions in the format of four edge types; the sums that it holds."""
    sums = run.attributions(ci_weighted=True)
    torch.save(four_edge_content(run, sums), path)
    return sums


def write_dense(path: Path, run: PublicRun, vocab_size: int | None = None) -> PublicAttributions:
    """Write a run's attributions in the format of two dense matrices; the sums of which they are means."""
    sums = run.attributions(ci_weighted=False)
    torch.save(dense_content(run, sums, vocab_size), path)
    return sums
