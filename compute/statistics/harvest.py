"""One pass over a corpus that gathers what is known of every component; no gradients.

    sums = HarvestSums(decomposition, HarvestOptions(left=16, right=8), budget=2 << 30)
    for tokens, positions, documents in batches:
        sums.add(tokens, positions, documents)
    for block in sums.blocks(): ...

Everything kept is a count, a whole number of quanta (exact.py), an extreme, or the smallest keys of a
kind, so that the sums of several sets of batches can be merged into exactly those of all of them.
Components are numbered by site in sorted order. A component *fires* where its causal importance is
above a threshold; activations are scaled by ‖U‖ everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compute.address import Address
from compute.attribution.sparse import sum_rows
from compute.decomposition.model import Decomposition
from compute.statistics.cofiring import BLOCK_BYTES, FIRES_BYTES, POSITIONS, Cofiring
from compute.statistics.exact import MASS_BITS, ExactSums
from compute.statistics.examples import Pool
from compute.statistics.histogram import Histograms
from compute.statistics.sampling import priorities, strengths
from compute.statistics.tables import DenseTable, SparseTable, Table

#: Components whose results are handed out together.
BLOCK = 256
#: Pairs of a firing and a likely next token that are looked at together where masses are sparse.
_PAIRS = 1 << 22


@dataclass(frozen=True)
class HarvestOptions:
    """See ``storage.harvest_manifest.HarvestSettings``, which says the same to those who read the result."""

    left: int = 16
    right: int = 8
    n_random: int = 100
    n_strongest: int = 50
    threshold: float = 0.0
    seed: int = 0
    bins: int = 128
    output_floor: float = 0.0

    @property
    def length(self) -> int:
        return self.left + 1 + self.right


@dataclass(frozen=True)
class HarvestPlan:
    """What is kept dense within a budget of bytes, and what the whole takes at most."""

    #: Components whose co-firing is counted densely.
    n_hot: int
    n_components: int
    input_dense: bool
    output_dense: bool
    #: Bytes that a sparse table may take before it has to be stored.
    sparse_budget: int
    fixed: int
    tables: int
    passing: int

    @property
    def total(self) -> int:
        return self.fixed + self.tables + self.passing

    @property
    def description(self) -> str:
        kinds = {True: "dense", False: "sparse"}
        hot = f"dense among {self.n_hot:,} of {self.n_components:,} components"
        return (
            f"counts of co-firing {'dense' if self.n_hot == self.n_components else hot}, of input tokens {kinds[self.input_dense]}, "
            f"masses of output tokens {kinds[self.output_dense]}"
        )


def plan(
    decomposition: Decomposition, options: HarvestOptions, batch_tokens: int, budget: int
) -> HarvestPlan:
    """Which tables are dense: those that fit a share of ``budget`` bytes; and an estimate of memory."""
    config = decomposition.target.config
    n, vocab = decomposition.total_components, config.vocab_size
    dense = {
        "input": 4 * n * vocab <= budget // 4,
        "output": options.output_floor == 0 or 8 * n * vocab <= budget // 4,
    }
    n_hot = min(n, math.isqrt(budget // 8))  # 4 bytes each; half of the budget
    sizes = {"input": 4 * n * vocab, "output": 8 * n * vocab}
    sparse_budget = max(budget // 8, 1 << 22)
    tables = sum(sizes[name] if dense[name] else sparse_budget for name in sizes)
    tables += 4 * n_hot**2 + (sparse_budget if n_hot < n else 0)
    # Twice: what is kept, and what waits to be sorted with it.
    examples = 2 * n * (options.n_random + options.n_strongest) * (8 * options.length + 48)
    fixed = examples + n * (options.bins * 16 + 200) + 8 * vocab
    sites = decomposition.topology.sites.values()
    per_token = 4 * (4 * n + 3 * vocab + sum(site.d_in + 2 * site.d_out for site in sites))
    # Firings, with their keys: a twentieth of the components is much, unless none is ever off.
    always = decomposition.importance.never_off and options.threshold == 0
    per_token += 200 * n if always else 200 * n // 20
    passing = per_token * batch_tokens + 2 * min(4 * POSITIONS * n_hot, FIRES_BYTES) + 8 * BLOCK_BYTES
    if always:  # firings wait to be counted with those of other batches
        passing += 16 * min(POSITIONS * n, FIRES_BYTES // 4)
    return HarvestPlan(n_hot, n, dense["input"], dense["output"], sparse_budget, fixed, tables, passing)


@dataclass(frozen=True)
class _Firings:
    """Firings of a batch, by component and then position; ``place`` counts through the batch."""

    component: np.ndarray
    place: np.ndarray
    ci: np.ndarray
    activation: np.ndarray


class HarvestSums:
    """Sums over the batches added so far. The model must not change while they live."""

    def __init__(self, decomposition: Decomposition, options: HarvestOptions, plan: HarvestPlan) -> None:
        self.decomposition = decomposition
        self.options = options
        self._plan = plan
        self.addresses = tuple(sorted(decomposition.addresses))
        self._starts: dict[Address, int] = {}
        n = 0
        for address in self.addresses:
            self._starts[address] = n
            n += decomposition.n_components[address]
        self.n_components = n
        self._vocab = decomposition.target.config.vocab_size
        self._device = decomposition.target.token_embedding.weight.device
        with torch.no_grad():
            self._norms = torch.cat([decomposition.U(a).norm(dim=1) for a in self.addresses]).cpu().numpy()
        self.tokens = 0
        self.token_count = np.zeros(self._vocab, np.int64)
        self.output_mass = np.zeros(self._vocab, np.int64)
        self.firing_count = np.zeros(n, np.int64)
        self.sums = {
            name: ExactSums(n)
            for name in ("ci_sum", "activation_sum", "activation_square_sum", "firing_activation_sum")
        }
        self.ci_max = np.zeros(n, np.float32)
        self.activation_min = np.full(n, np.inf, np.float32)
        self.activation_max = np.full(n, -np.inf, np.float32)
        self._histograms = Histograms(n, options.bins)
        self._pools = {
            "random": Pool(n, options.n_random, options.length),
            "strongest": Pool(n, options.n_strongest, options.length),
        }
        self._input = self._table(plan.input_dense, self._vocab, np.int32)
        self._output = self._table(plan.output_dense, self._vocab, np.int64)
        self._cofiring = Cofiring(n, plan.n_hot, plan.sparse_budget, self._device)

    def _table(self, dense: bool, n_ids: int, dtype: type[np.integer]) -> Table:
        if dense:
            return DenseTable(self.n_components, n_ids, dtype)
        return SparseTable(self.n_components, n_ids, self._plan.sparse_budget)

    @property
    def is_full(self) -> bool:
        """Whether the sums should be stored, and new ones begun, to stay within the budget."""
        # Dense counts are 32-bit.
        return self.tokens > 2**31 - 2**24 or any(
            table.is_full for table in (self._input, self._output, self._cofiring)
        )

    @torch.no_grad()
    def add(self, tokens: Tensor, positions: np.ndarray, documents: np.ndarray) -> None:
        """Add a batch of windows [B, T]; where in the corpus its tokens stand, and of which documents."""
        logits, inputs = self.decomposition.clean_pass(tokens.to(self._device))
        activations = {a: x @ self.decomposition.V(a) for a, x in inputs.items()}
        importance = self.decomposition.causal_importance(inputs, activations)
        del inputs
        self.tokens += tokens.numel()
        self.token_count += np.bincount(tokens.flatten().numpy(), minlength=self._vocab)
        self._add_sums(importance, activations)
        firings = self._firings(importance, activations)
        n_positions = tokens.numel()
        counts = np.bincount(firings.component, minlength=self.n_components)
        self.firing_count += counts
        self.sums["firing_activation_sum"].add(
            np.bincount(firings.component, firings.activation.astype(np.float64), minlength=self.n_components)
        )
        self._histograms.add(firings.component, firings.activation)
        self._add_input(firings, tokens.flatten().numpy())
        probabilities = torch.softmax(logits.flatten(0, 1), -1)
        self._add_output(firings, counts, probabilities)
        self._cofiring.add(firings.component, firings.place, n_positions)
        self._add_examples(firings, importance, activations, positions, documents)

    def _add_sums(self, importance: dict[Address, Tensor], activations: dict[Address, Tensor]) -> None:
        """Sums and extremes over all positions."""

        def joined(values: list[Tensor]) -> np.ndarray:
            return torch.cat(values).cpu().numpy()

        ci = [importance[a].flatten(0, 1) for a in self.addresses]
        y = [activations[a].flatten(0, 1) for a in self.addresses]
        norms = self._norms.astype(np.float64)
        self.sums["ci_sum"].add(joined([v.sum(0, dtype=torch.float64) for v in ci]))
        self.sums["activation_sum"].add(joined([v.sum(0, dtype=torch.float64) for v in y]) * norms)
        squares = joined([v.square().sum(0, dtype=torch.float64) for v in y])
        self.sums["activation_square_sum"].add(squares * norms**2)
        self.ci_max = np.maximum(self.ci_max, joined([v.amax(0) for v in ci]))
        self.activation_min = np.minimum(self.activation_min, joined([v.amin(0) for v in y]) * self._norms)
        self.activation_max = np.maximum(self.activation_max, joined([v.amax(0) for v in y]) * self._norms)

    def _firings(self, importance: dict[Address, Tensor], activations: dict[Address, Tensor]) -> _Firings:
        parts: list[tuple[np.ndarray, ...]] = []
        for address in self.addresses:
            ci = importance[address].flatten(0, 1)
            fires = (ci > self.options.threshold).T.contiguous()
            component, place = fires.nonzero(as_tuple=True)
            y = activations[address].flatten(0, 1)
            parts.append(
                (
                    component.cpu().numpy() + self._starts[address],
                    place.cpu().numpy(),
                    ci[place, component].float().cpu().numpy(),
                    y[place, component].float().cpu().numpy(),
                )
            )
        component, place, ci, y = (np.concatenate(column) for column in zip(*parts, strict=True))
        return _Firings(component, place, ci, y * self._norms[component])

    def _add_input(self, firings: _Firings, tokens: np.ndarray) -> None:
        keys = np.sort(firings.component * self._vocab + tokens[firings.place])
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(first, append=len(keys))
        self._input.add(keys[first] // self._vocab, keys[first] % self._vocab, counts)

    def _add_output(self, firings: _Firings, counts: np.ndarray, probabilities: Tensor) -> None:
        floor = self.options.output_floor
        if floor > 0:
            probabilities = torch.where(probabilities >= floor, probabilities, 0.0)
        total = probabilities.sum(0, dtype=torch.float64).cpu().numpy()
        self.output_mass += np.rint(np.ldexp(total, MASS_BITS)).astype(np.int64)
        rows = np.flatnonzero(counts)
        offsets = np.concatenate([[0], np.cumsum(counts[rows])])
        if not self._plan.output_dense:
            self._add_sparse_output(rows, offsets, firings.place, probabilities)
            return
        place = torch.from_numpy(firings.place).to(self._device)
        tile = max(1, BLOCK_BYTES // (8 * self._vocab))
        for first in range(0, len(rows), tile):
            last = min(first + tile, len(rows))
            here = slice(int(offsets[first]), int(offsets[last]))
            edges = torch.from_numpy(offsets[first : last + 1] - offsets[first]).to(self._device)
            ones = torch.ones(here.stop - here.start, device=self._device, dtype=probabilities.dtype)
            mass = sum_rows(place[here], edges, ones, probabilities)
            quanta = (mass.double() * 2.0**MASS_BITS).round_().long().cpu().numpy()
            table = self._output
            assert isinstance(table, DenseTable)
            table.values[rows[first:last]] += quanta

    def _add_sparse_output(
        self, rows: np.ndarray, offsets: np.ndarray, place: np.ndarray, probabilities: Tensor
    ) -> None:
        """Masses of likely tokens only, without a row of the whole vocabulary for any component."""
        position, token = (index.cpu().numpy() for index in probabilities.nonzero(as_tuple=True))
        value = probabilities[probabilities > 0].double().cpu().numpy()
        starts = np.searchsorted(position, np.arange(len(probabilities) + 1))
        pairs = np.concatenate([[0], np.cumsum(starts[place + 1] - starts[place])])
        first = 0
        while first < len(rows):
            limit = pairs[offsets[first]] + _PAIRS
            last = max(first + 1, int(np.searchsorted(pairs[offsets[1:]], limit, side="right")))
            here = place[offsets[first] : offsets[last]]
            lengths = starts[here + 1] - starts[here]
            skip = np.repeat(starts[here] - (np.cumsum(lengths) - lengths), lengths)
            entry = skip + np.arange(int(lengths.sum()))
            row = np.repeat(np.repeat(rows[first:last], np.diff(offsets[first : last + 1])), lengths)
            keys, inverse = np.unique(row * self._vocab + token[entry], return_inverse=True)
            mass = np.bincount(inverse, value[entry], minlength=len(keys))
            quanta = np.rint(np.ldexp(mass, MASS_BITS)).astype(np.int64)
            self._output.add(keys // self._vocab, keys % self._vocab, quanta)
            first = last

    def _add_examples(
        self,
        firings: _Firings,
        importance: dict[Address, Tensor],
        activations: dict[Address, Tensor],
        positions: np.ndarray,
        documents: np.ndarray,
    ) -> None:
        flat_positions, flat_documents = positions.reshape(-1), documents.reshape(-1)
        before, after = _extents(documents)
        position = flat_positions[firings.place]
        keys = {
            "random": priorities(self.options.seed, firings.component, position),
            "strongest": strengths(firings.ci, firings.activation),
        }
        for kind, pool in self._pools.items():
            key = keys[kind]
            wanted = np.sort(pool.wanted(firings.component, key, position))
            if len(wanted) == 0:
                continue
            component, place = firings.component[wanted], firings.place[wanted]
            columns = {
                "key": key[wanted],
                "position": position[wanted],
                "document": flat_documents[place],
                "before": np.minimum(before[place], self.options.left),
                "after": np.minimum(after[place], self.options.right),
            }
            columns["ci"], columns["activation"] = self._surroundings(
                component, place, columns["before"], columns["after"], importance, activations
            )
            pool.add(component, columns)

    def _surroundings(
        self,
        component: np.ndarray,
        place: np.ndarray,
        before: np.ndarray,
        after: np.ndarray,
        importance: dict[Address, Tensor],
        activations: dict[Address, Tensor],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Causal importance and scaled activation [m, L] around firings; 0 outside."""
        offset = np.arange(-self.options.left, self.options.right + 1)
        inside = (offset >= -before[:, None]) & (offset <= after[:, None])
        around = np.where(inside, place[:, None] + offset, place[:, None])
        ci = np.zeros(around.shape, np.float32)
        y = np.zeros(around.shape, np.float32)
        for address in self.addresses:
            start = self._starts[address]
            end = start + self.decomposition.n_components[address]
            here = slice(*np.searchsorted(component, [start, end]).tolist())
            if here.start == here.stop:
                continue
            at = torch.from_numpy(around[here]).to(self._device)
            of = torch.from_numpy(component[here] - start)[:, None].to(self._device)
            ci[here] = importance[address].flatten(0, 1)[at, of].float().cpu().numpy()
            y[here] = activations[address].flatten(0, 1)[at, of].float().cpu().numpy()
        y *= self._norms[component][:, None]
        return np.where(inside, ci, np.float32(0)), np.where(inside, y, np.float32(0))

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """Everything by component, as storage/harvest_writer.py takes it."""
        for first in range(0, self.n_components, BLOCK):
            last = min(first + BLOCK, self.n_components)
            here = slice(first, last)
            block: dict[str, np.ndarray] = {
                "firing_count": self.firing_count[here],
                "ci_max": self.ci_max[here],
                "activation_min": self.activation_min[here],
                "activation_max": self.activation_max[here],
                "histogram_exponent": self._histograms.exponent[here],
                "histogram": self._histograms.counts[here],
            }
            block |= {name: sums.parts[here] for name, sums in self.sums.items()}
            for kind, pool in self._pools.items():
                block |= {f"{kind}/{name}": value for name, value in pool.columns(first, last).items()}
            lists = {
                "input": self._input.lists(first, last),
                "output": self._output.lists(first, last),
                "cofiring": self._cofiring.lists(first, last),
            }
            for name, (offsets, ids, values) in lists.items():
                block |= {f"{name}/offsets": offsets, f"{name}/ids": ids, f"{name}/values": values}
            yield block

    def totals(self) -> dict[str, np.ndarray]:
        """What is not about components."""
        return {"token_count": self.token_count, "output_mass": self.output_mass}


def _extents(documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far a window goes on before and after each of its positions inside the same document, [B·T]."""
    n_windows, length = documents.shape
    begins = np.ones((n_windows, length), bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts = np.flatnonzero(begins.reshape(-1))
    place = np.arange(n_windows * length)
    run = np.searchsorted(starts, place, side="right") - 1
    ends = np.append(starts[1:], n_windows * length)
    return place - starts[run], ends[run] - 1 - place
