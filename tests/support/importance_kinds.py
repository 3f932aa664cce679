"""Every kind of causal-importance function: a small one for tests, and z computed number by number.

``slow_z`` follows the published formulas with loops over positions, heads and units, and shares
nothing with the program but the names of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from compute.address import Address
from compute.decomposition.importance_config import (
    AttentionImportance,
    ImportanceConfig,
    ImportanceKind,
    ReverseResidualGroup,
    ReverseResidualImportance,
    SigmoidKind,
    TransformerImportance,
)

EPS = 2.0**-23


def tiny_importance(
    kind: ImportanceKind,
    sites: Iterable[Address],
    sigmoid: SigmoidKind = "leaky_hard",
    *,
    attention: bool = True,
    transition_hidden: tuple[int, ...] = (5,),
    final_norm: bool = False,
) -> ImportanceConfig:
    """Widths below 10; ``final_norm`` is of the transformer, what is before it of the reverse residual."""
    order = tuple(sorted(str(address) for address in sites))
    if kind == "global_shared_transformer":
        sizes = TransformerImportance(
            d_model=8, n_blocks=2, n_heads=2, mlp_hidden=(6, 5), max_length=64, final_norm=final_norm
        )
        return ImportanceConfig(kind=kind, sigmoid=sigmoid, order=order, transformer=sizes)
    if kind == "global_reverse_residual":
        # By block, the last one first, so that the string order is not that of the groups.
        blocks = sorted({name.partition(".")[0] for name in order}, key=int, reverse=True)
        groups = tuple(
            ReverseResidualGroup(name=b, sites=tuple(n for n in order if n.partition(".")[0] == b))
            for b in blocks
        )
        sizes = ReverseResidualImportance(
            groups=groups,
            d_residual=8,
            reader_hidden=(7,),
            transition_hidden=transition_hidden,
            attention=AttentionImportance(n_heads=2, max_length=64, rope_base=100.0) if attention else None,
        )
        in_groups = tuple(name for group in groups for name in group.sites)
        return ImportanceConfig(kind=kind, sigmoid=sigmoid, order=in_groups, reverse_residual=sizes)
    return ImportanceConfig(
        kind=kind, hidden=(8,), sigmoid=sigmoid, order=order if kind == "global_shared_mlp" else ()
    )


# ---- number by number ---------------------------------------------------------------------------

Vector = list[float]
#: Tensors by name, e.g. ``weights.0``.
Tensors = Mapping[str, np.ndarray]


def _gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def _linear(x: Sequence[float], weight: np.ndarray, bias: Sequence[float] | np.ndarray) -> Vector:
    return [float(bias[j]) + sum(x[i] * float(weight[i, j]) for i in range(len(x))) for j in range(len(bias))]


def _mlp(x: Vector, prefix: str, tensors: Tensors, pick: Callable[[np.ndarray], np.ndarray]) -> Vector:
    """``pick`` takes out one component's part of tensors that have one for each."""
    layer = 0
    while f"{prefix}weights.{layer}" in tensors:
        if layer:
            x = [_gelu(value) for value in x]
        x = _linear(x, pick(tensors[f"{prefix}weights.{layer}"]), pick(tensors[f"{prefix}biases.{layer}"]))
        layer += 1
    return x


def _whole(tensor: np.ndarray) -> np.ndarray:
    return tensor


def _rms(x: Sequence[float], weight: np.ndarray | None = None) -> Vector:
    size = math.sqrt(sum(value * value for value in x) / len(x) + EPS)
    return [value / size * (1.0 if weight is None else float(weight[i])) for i, value in enumerate(x)]


def _turned(x: Vector, position: int, base: float) -> Vector:
    half = len(x) // 2
    result = list(x)
    for i in range(half):
        angle = position / base ** (2 * i / len(x))
        result[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        result[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return result


def _attention(
    rows: list[Vector], tensors: Tensors, prefix: str, config: AttentionImportance
) -> list[Vector]:
    width = len(rows[0]) // config.n_heads
    zero = [0.0] * len(rows[0])
    q, k, v = ([_linear(row, tensors[f"{prefix}{n}"].T, zero) for row in rows] for n in "qkv")
    mixed = [list(zero) for _ in rows]
    for head in range(config.n_heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(rows)):
            query = _turned(q[i][part], i, config.rope_base)
            scores: Vector = []
            for j in range(len(rows)):  # all positions, the later ones too
                key = _turned(k[j][part], j, config.rope_base)
                scores.append(sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(width))
            weights = [math.exp(s - max(scores)) for s in scores]
            for j, weight in enumerate(weights):
                for d in range(width):
                    mixed[i][part.start + d] += weight / sum(weights) * v[j][part][d]
    return [_linear(row, tensors[f"{prefix}o"].T, zero) for row in mixed]


def _added(a: list[Vector], b: list[Vector]) -> list[Vector]:
    return [[x + y for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def slow_z(
    config: ImportanceConfig,
    tensors: Tensors,
    inputs: Mapping[str, np.ndarray],
    activations: Mapping[str, np.ndarray],
    counts: Mapping[str, int],
) -> dict[str, np.ndarray]:
    """z [T, C] by site, of one sequence: ``inputs`` [T, d_in], ``activations`` [T, C], tensors as exported."""
    if config.kind in ("mlp", "vector_mlp", "shared_mlp"):
        return {name: _slow_site(config.kind, name, tensors, inputs, activations) for name in inputs}
    own = {
        name.removeprefix("importance.global."): value
        for name, value in tensors.items()
        if name.startswith("importance.global.")
    }
    length = len(next(iter(inputs.values())))
    if config.kind == "global_shared_mlp":
        rows = [[float(v) for name in config.order for v in inputs[name][t]] for t in range(length)]
        return _split([_mlp(row, "", own, _whole) for row in rows], config.order, counts)
    if config.transformer is not None:
        rows = [
            _linear(
                [v for n in config.order for v in _rms(inputs[n][t])], own["input.weight"], own["input.bias"]
            )
            for t in range(length)
        ]
        for block in range(config.transformer.n_blocks):
            normed = [_rms(row) for row in rows]
            rows = _added(rows, _attention(normed, own, f"blocks.{block}.attn.", config.transformer))
            rows = _added(rows, [_mlp(_rms(row), f"blocks.{block}.mlp.", own, _whole) for row in rows])
        if config.transformer.final_norm:
            rows = [_rms(row) for row in rows]
        out = [_linear(row, own["output.weight"], own["output.bias"]) for row in rows]
        return _split(out, config.order, counts)
    assert config.reverse_residual is not None
    result: dict[str, np.ndarray] = {}
    sizes = config.reverse_residual
    stream = [[0.0] * sizes.d_residual for _ in range(length)]
    for number, group in enumerate(sizes.groups):
        at = f"groups.{number}."
        for t in range(length):
            seen = [float(v) for name in group.sites for v in inputs[name][t]]
            projected = _linear(seen, own[f"{at}input.weight"], own[f"{at}input.bias"])
            stream[t] = [a + b for a, b in zip(stream[t], projected, strict=True)]
        if number < len(sizes.groups) - 1:
            if sizes.attention is not None:
                normed = [_rms(row, own[f"{at}attn_norm"]) for row in stream]
                stream = _added(stream, _attention(normed, own, f"{at}attn.", sizes.attention))
            normed = [_rms(row, own[f"{at}transition_norm"]) for row in stream]
            stream = _added(stream, [_mlp(row, f"{at}transition.", own, _whole) for row in normed])
        read = [_mlp(_rms(row, own[f"{at}reader_norm"]), f"{at}reader.", own, _whole) for row in stream]
        result |= _split(read, group.sites, counts)
    return result


def _slow_site(
    kind: str,
    name: str,
    tensors: Tensors,
    inputs: Mapping[str, np.ndarray],
    activations: Mapping[str, np.ndarray],
) -> np.ndarray:
    own = {
        key.removeprefix(f"importance.{name}."): value
        for key, value in tensors.items()
        if key.startswith(f"importance.{name}.")
    }
    seen = (activations if kind == "mlp" else inputs)[name]
    seen = (seen - own["mean"]) * own["scale"]
    rows: list[Vector] = []
    for row in seen:
        if kind == "shared_mlp":
            rows.append(_mlp(list(row), "", own, _whole))
            continue
        count = activations[name].shape[1]
        z = [
            _mlp([float(row[c])] if kind == "mlp" else list(row), "", own, lambda tensor, c=c: tensor[c])
            for c in range(count)
        ]
        rows.append([value for (value,) in z])
    return np.array(rows)


def _split(rows: list[Vector], order: Sequence[str], counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    result: dict[str, np.ndarray] = {}
    first = 0
    for name in order:
        result[name] = np.array([row[first : first + counts[name]] for row in rows])
        first += counts[name]
    assert all(len(row) == first for row in rows)
    return result
