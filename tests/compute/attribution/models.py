"""Small random models, decomposed at random, whose causal importances are whatever a test wants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compute.address import Address, parse_address
from compute.attribution.definition import Edges
from compute.attribution.engine import AttributionEngine
from compute.attribution.frozen import frozen_rows
from compute.attribution.sums import AttributionSums, has_frozen
from compute.decomposition.importance_config import ImportanceConfig
from compute.decomposition.model import Decomposition
from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel


class RandomDecomposition(Decomposition):
    """Components and a made-up importance: a function of the activation that is zero most of the time."""

    #: Share of positions at which a component is alive.
    density: float = 0.3
    #: Sites where no component is ever alive.
    silent_sites: frozenset[Address] = frozenset()

    def causal_importance(
        self, inputs: Mapping[Address, Tensor], activations: Mapping[Address, Tensor] | None = None
    ) -> dict[Address, Tensor]:
        """relu(sin(7 y + phase) − threshold), scaled into [0, 1] and exactly 0 below the threshold."""
        threshold = math.cos(math.pi * self.density)
        result = {}
        for address, x in inputs.items():
            y = x @ self.V(address) if activations is None else activations[address]
            phase = torch.arange(y.shape[-1], dtype=y.dtype)
            importance = ((7 * y + phase).sin() - threshold).clamp_min(0) / 2
            result[address] = importance * 0 if address in self.silent_sites else importance
        return result


@dataclass(frozen=True)
class Case:
    """One random model and batch."""

    family: str = "llama"
    n_blocks: int = 2
    n_heads: int = 2
    n_kv_heads: int = 1
    activation: str = "silu"
    qk_norm: bool = False
    tied: bool = False
    head_width: int | None = None
    fused: bool = False
    gated: bool | None = None
    #: Biases of queries, keys and values; None: as the family has them.
    qkv_bias: bool | None = None
    #: Share of the matrices that are left whole, or the addresses of those that are.
    whole: float | tuple[str, ...] = 0.0
    n_sequences: int = 2
    length: int = 5
    density: float = 0.3
    seed: int = 0
    dtype: torch.dtype = torch.float64

    def build(self) -> tuple[RandomDecomposition, Tensor]:
        config = TargetConfig.model_validate(
            {
                "family": self.family,
                "n_blocks": self.n_blocks,
                "d_model": 4 * self.n_heads,
                "d_ff": 10,
                "n_heads": self.n_heads,
                "n_kv_heads": self.n_kv_heads,
                "vocab_size": 11,
                "context": 8,
                "activation": self.activation,
                "qk_norm": self.qk_norm,
                "tied_embeddings": self.tied,
                "norm_eps": 1e-5,
                "head_width": self.head_width,
                "fused_qkv": self.fused,
                "gated_mlp": self.gated,
                "qkv_bias": self.qkv_bias,
            }
        )
        generator = torch.Generator().manual_seed(self.seed)
        target = TargetModel(config)
        counts = {
            address: 2 + int(torch.randint(0, 8, (1,), generator=generator))
            for address in target.topology.sites
        }
        counts = {address: n for address, n in counts.items() if address not in self._left_whole(target)}
        decomposition = RandomDecomposition(target, counts, ImportanceConfig(kind="mlp", hidden=(2,)))
        decomposition.density = self.density
        decomposition.to(self.dtype)
        with torch.no_grad():
            for name, parameter in decomposition.named_parameters():
                scale = 1.0 if "embedding" in name else 0.5
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale
                parameter.copy_(noise + 1 if name.endswith("norm.weight") else noise)
        decomposition.requires_grad_(False)
        tokens = torch.randint(0, config.vocab_size, (self.n_sequences, self.length), generator=generator)
        return decomposition, tokens

    def _left_whole(self, target: TargetModel) -> set[Address]:
        if isinstance(self.whole, tuple):
            return {parse_address(name) for name in self.whole}
        draw = torch.Generator().manual_seed(self.seed + 1)
        modules = list(target.topology.modules)
        chosen = (torch.rand(len(modules), generator=draw) < self.whole).tolist()
        left = {address for address, is_whole in zip(modules, chosen, strict=True) if is_whole}
        return left if len(left) < len(modules) else left - {modules[self.seed % len(modules)]}


def engine_sums(decomposition: Decomposition, tokens: Tensor, **options: Any) -> AttributionSums:
    engine = AttributionEngine(decomposition, **options)
    sums = engine.new_sums()
    engine.accumulate(sums, tokens)
    return sums


def blocks_of(decomposition: Decomposition, sums: AttributionSums) -> dict[Edges, Tensor]:
    """The sums as blocks [n_targets, n_sources] named as in the definition."""
    result: dict[Edges, Tensor] = {}
    for point in sums.layouts:
        Z = sums.arrays[f"signed/{point.name}"]
        frozen = frozen_rows(decomposition, sums, point) if has_frozen(sums.layouts) else None
        for reader in point.readers:
            V = decomposition.V(reader) if reader.is_site else decomposition.target.unembedding.weight.T
            for block in point.blocks:
                rows = slice(block.offset, block.offset + block.count)
                edges = lambda metric: Edges(metric, reader, block.address, block.kind)  # noqa: B023, E731
                result[edges("attr")] = (Z[rows] @ V).T
                if frozen is not None:
                    result[edges("attr_frozen")] = (frozen[rows] @ V).T
                if f"abs/{reader}" in sums.arrays:
                    result[edges("attr_abs")] = sums.arrays[f"abs/{reader}"][:, rows]
    return result


def worst_error(
    found: Mapping[Edges, Tensor], expected: Mapping[Edges, Tensor], *, floor: float = 1e-6
) -> tuple[float, Edges | None]:
    """The largest error of any block, relative to the block's largest entry.

    A block that is small by cancellation, or zero but for rounding (queries and keys of a single
    position), is measured against a hundredth of the largest entry of its target's blocks, or
    ``floor`` times the largest entry of all.
    """
    by_target: dict[tuple[str, Address], float] = {}
    for edges, value in expected.items():
        key = (edges.metric, edges.target)
        by_target[key] = max(by_target.get(key, 0.0), value.abs().max().item())
    overall = max(by_target.values())
    worst: tuple[float, Edges | None] = (0.0, None)
    for edges, value in expected.items():
        block = found[edges]
        assert block.shape == value.shape, (edges, block.shape, value.shape)
        smallest = max(by_target[edges.metric, edges.target] * 1e-2, overall * floor)
        error = (block - value).abs().max().item() / max(value.abs().max().item(), smallest, 1e-30)
        if not error <= worst[0]:
            worst = (error, edges)
    return worst
