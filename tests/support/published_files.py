"""Small files of dataset attributions in both published formats, made up, and what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

VOCAB, WIDTH, TOKENS = 7, 4, 640
#: Components of each layer, and what flows into what: one block of a gated model and one more layer.
COUNTS = {"0.attn.v": 3, "0.attn.o": 2, "0.glu.up": 3, "0.glu.down": 4, "1.glu.up": 2}
SOURCES = {
    "0.attn.v": ("embed",),
    "0.attn.o": ("0.attn.v",),
    "0.glu.up": ("embed", "0.attn.o"),
    "0.glu.down": ("0.glu.up",),
    "1.glu.up": ("embed", "0.attn.o", "0.glu.down"),
    "output": ("embed", "0.attn.o", "0.glu.down"),
}


def oracle_file(
    *, embed: float = 6.0, ci: float = 50.0, squares: float = 400.0, count: int = 200, tokens: int = 100
) -> dict[str, Any]:
    """The file of FORMATS, section 6: one layer of two components, two tokens, width 2."""
    layer = "0.mlp.up"
    return {
        "regular_attr": {layer: {}},
        "regular_attr_abs": {layer: {}},
        "embed_attr": {layer: torch.full((2, 2), embed)},
        "embed_attr_abs": {layer: torch.full((2, 2), 2 * embed)},
        "unembed_attr": {layer: torch.full((2, 2), 3.0)},
        "embed_unembed_attr": torch.full((2, 2), 1.0),
        "w_unembed": torch.eye(2),
        "ci_sum": {layer: torch.full((2,), ci)},
        "component_act_sq_sum": {layer: torch.full((2,), squares)},
        "logit_sq_sum": torch.full((2,), 900.0),
        "embed_token_count": torch.full((2,), count, dtype=torch.int64),
        "ci_threshold": 0.0,
        "n_tokens_processed": tokens,
    }


def four_edge_file(seed: int = 0, *, magnitudes: bool = True) -> dict[str, Any]:
    """Random sums over :data:`SOURCES`."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    def regular() -> dict[str, dict[str, torch.Tensor]]:
        return {
            t: {s: normal(COUNTS[t], COUNTS[s]) for s in sources if s != "embed"}
            for t, sources in SOURCES.items()
            if t != "output"
        }

    def embed() -> dict[str, torch.Tensor]:
        return {
            t: normal(COUNTS[t], VOCAB)
            for t, sources in SOURCES.items()
            if "embed" in sources and t != "output"
        }

    return {
        "regular_attr": regular(),
        "regular_attr_abs": regular() if magnitudes else {},
        "embed_attr": embed(),
        "embed_attr_abs": embed() if magnitudes else {},
        "unembed_attr": {s: normal(WIDTH, COUNTS[s]) for s in SOURCES["output"] if s != "embed"},
        "embed_unembed_attr": normal(WIDTH, VOCAB),
        "w_unembed": normal(WIDTH, VOCAB),
        "ci_sum": {layer: normal(n).abs() + 1 for layer, n in COUNTS.items()},
        "component_act_sq_sum": {layer: normal(n).abs() + 1 for layer, n in COUNTS.items()},
        "logit_sq_sum": normal(VOCAB).abs() + 1,
        "embed_token_count": torch.randint(1, 90, (VOCAB,), generator=random),
        "ci_threshold": 1e-6,
        "n_tokens_processed": TOKENS,
    }


def two_matrix_file(seed: int = 0, names: dict[str, str] | None = None) -> dict[str, Any]:
    """Random means over :data:`SOURCES`; ``names`` are other names of its layers."""
    random = torch.Generator().manual_seed(seed)
    starts = dict(zip(COUNTS, np.cumsum([0, *COUNTS.values()]).tolist(), strict=False))
    n = sum(COUNTS.values())
    to_components, to_residual = torch.zeros(VOCAB + n, n), torch.zeros(VOCAB + n, WIDTH)

    def rows(source: str) -> slice:
        if source == "embed":
            return slice(0, VOCAB)
        return slice(VOCAB + starts[source], VOCAB + starts[source] + COUNTS[source])

    for target, sources in SOURCES.items():
        for source in sources:
            if target == "output":
                part = to_residual[rows(source)]
            else:
                part = to_components[rows(source), starts[target] : starts[target] + COUNTS[target]]
            part.copy_(torch.randn(part.shape, generator=random))
    called = names or {}
    return {
        "component_layer_keys": [
            f"{called.get(layer, layer)}:{i}" for layer, n in COUNTS.items() for i in range(n)
        ],
        "vocab_size": VOCAB,
        "d_model": WIDTH,
        "source_to_component": to_components,
        "source_to_out_residual": to_residual,
        "n_batches_processed": 5,
        "n_tokens_processed": TOKENS,
        "ci_threshold": 0.0,
    }


def raw_sum(content: dict[str, Any], source: str, target: str, metric: str = "attr") -> np.ndarray:
    """Raw sums of all edges between two layers, [targets, sources]; of means, times the tokens."""
    suffix = "_abs" if metric == "attr_abs" else ""
    if "regular_attr" in content:
        if target == "output":
            residual = content["embed_unembed_attr"] if source == "embed" else content["unembed_attr"][source]
            return (content["w_unembed"].double().T @ residual.double()).numpy()
        if source == "embed":
            return content[f"embed_attr{suffix}"][target].double().numpy()
        return content[f"regular_attr{suffix}"][target][source].double().numpy()
    layers = [key.rpartition(":")[0] for key in content["component_layer_keys"]]
    columns = [i for i, layer in enumerate(layers) if layer == target]
    rows = range(content["vocab_size"])
    if source != "embed":
        rows = [content["vocab_size"] + i for i, layer in enumerate(layers) if layer == source]
    means = content["source_to_component"].double().numpy()[np.ix_(list(rows), columns)]
    return means.T * content["n_tokens_processed"]


def normalised(content: dict[str, Any], source: str, target: str, metric: str = "attr") -> np.ndarray:
    """The published formula, [targets, sources]: by the source's denominator and the target's RMS."""
    raw = raw_sum(content, source, target, metric)
    denominator = content["embed_token_count"] if source == "embed" else content["ci_sum"][source]
    squares = content["logit_sq_sum"] if target == "output" else content["component_act_sq_sum"][target]
    rms = np.sqrt(squares.double().numpy() / content["n_tokens_processed"])
    return raw / np.maximum(denominator.double().numpy(), 1e-10) / np.maximum(rms, 1e-10)[:, None]
