"""The same numbers in the most obvious way: dense arrays, loops over groups, no storage code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from compute.address import OUTPUT, Address, Key
from compute.attribution.sums import ReadPointLayout, layout
from compute.decomposition.model import Decomposition
from tests.support.tiny_run import random_sums, tiny_decomposition

GROUPS = 16


@dataclass
class Oracle:
    """All edges of a run made by ``make_tiny_run`` (seed 0), from its regenerated group sums."""

    decomposition: Decomposition
    layouts: tuple[ReadPointLayout, ...]
    groups: list[dict[str, np.ndarray]]
    part: str

    @classmethod
    def of(cls, family: str, vocab: int) -> Oracle:
        gpt2 = family == "gpt2"
        decomposition = tiny_decomposition(family, vocab_size=vocab, tied_embeddings=gpt2)
        layouts = layout(decomposition, "node")
        rng = np.random.default_rng(0)
        groups = [
            random_sums(layouts, decomposition, rng, tokens=100 + g, output_abs=gpt2, abs_part=gpt2)
            for g in range(GROUPS)
        ]
        for sums in groups:
            for name, value in sums.items():
                if value.ndim == 2:
                    sums[name] = value.astype(np.float32).astype(np.float64)
        return cls(decomposition, layouts, groups, "abs_part/" if gpt2 else "")

    def direction(self, reader: Address, target: int) -> np.ndarray:
        if reader == OUTPUT:
            return self.decomposition.target.unembedding.weight.detach().numpy()[target].astype(float)
        return self.decomposition.V(reader).detach().numpy()[:, target].astype(float)

    def frozen_row(self, point: ReadPointLayout, sums: dict[str, np.ndarray], row: int) -> np.ndarray:
        target = self.decomposition.target
        block = next(b for b in point.blocks if b.offset <= row < b.offset + b.count)
        if block.kind == "delta":
            deltas = [b.address for b in point.blocks if b.kind == "delta"]
            return sums[f"frozen_delta/{point.name}"][deltas.index(block.address)]
        if block.kind == "embed":
            written = target.token_embedding.weight[row - block.offset]
        elif block.kind == "position":
            assert target.position_embedding is not None
            written = target.position_embedding.weight[row - block.offset]
        elif block.kind == "bias":
            written = target.linear(block.address).bias
        else:
            written = self.decomposition.U(block.address)[row - block.offset]
        u = written.detach().numpy().astype(float)
        if target.config.centred_norm:
            u = u - u.mean()
        return (
            target.norm_of(point.name).weight.detach().numpy() * u * sums[f"frozen_weight/{point.name}"][row]
        )

    def edge(
        self, point: ReadPointLayout, row: int, reader: Address, target: int, metric: str, normalised: bool
    ) -> tuple[float, float | None, int]:
        """Value, standard error and support of one edge."""
        block = next(b for b in point.blocks if b.offset <= row < b.offset + b.count)
        prefix = self.part if metric == "attr_abs" else ""
        x, n, s, t = [], [], [], []
        for sums in self.groups:
            if metric == "attr_abs":
                x.append(sums[f"abs/{reader}"].astype(float)[target, row])
            elif metric == "attr_frozen" and point.operation == "norm":
                x.append(self.frozen_row(point, sums, row) @ self.direction(reader, target))
            else:
                x.append(sums[f"signed/{point.name}"][row] @ self.direction(reader, target))
            t.append(sums[f"{prefix}tokens"][0])
            index = row - block.offset
            denominators = {
                "component": f"{prefix}ci_sum/{block.address}",
                "embed": f"{prefix}token_count",
                "position": f"{prefix}position_count",
            }
            name = denominators.get(block.kind)
            n.append(sums[f"{prefix}tokens"][0] if name is None else sums[name][index])
            if reader == OUTPUT:
                name = "centred_logit_square_sum" if metric == "attr_abs" else "logit_square_sum"
                s.append(sums[prefix + name][target])
            else:
                s.append(sums[f"{prefix}activation_square_sum/{reader}"][target])

        def value(keep: list[int]) -> float:
            total = sum(x[g] for g in keep)
            if not normalised:
                return total
            source = max(sum(n[g] for g in keep), 1e-10)
            rms = max(math.sqrt(sum(s[g] for g in keep) / sum(t[g] for g in keep)), 1e-10)
            return total / source / rms

        everything = list(range(GROUPS))
        support = sum(count > 0 for count in n)
        if normalised:
            without = [value([h for h in everything if h != g]) for g in everything]
            mean = sum(without) / GROUPS
            error = math.sqrt((GROUPS - 1) / GROUPS * sum((w - mean) ** 2 for w in without))
        else:
            error = math.sqrt(GROUPS * float(np.var(x, ddof=1)))
        return value(everything), error if support >= 5 else None, support

    def sources(self, key: Key) -> list[tuple[ReadPointLayout, int, Key]]:
        """Every source of a target: read point, row, key."""
        point = next(p for p in self.layouts if key.address in p.readers)
        return [(point, row, b.key(row)) for b in point.blocks for row in range(b.offset, b.offset + b.count)]

    def targets(self, key: Key) -> list[tuple[ReadPointLayout, int, Key]]:
        """Every target of a source: read point, row of the source, key of the target."""
        found = []
        for point in self.layouts:
            rows = [r for b in point.blocks for r in range(b.offset, b.offset + b.count) if b.key(r) == key]
            for reader in point.readers if rows else ():
                sizes = self.decomposition.n_components
                count = self.decomposition.target.config.vocab_size if reader == OUTPUT else sizes[reader]
                found += [(point, rows[0], Key(reader, i)) for i in range(count)]
        return found
