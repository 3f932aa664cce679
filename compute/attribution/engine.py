"""Dataset attributions, exactly and fast: closed forms over sparse sources (docs/mathematics.md).

One forward pass without gradients per batch; every read point then adds its closed form, and sums
are kept in the space of the read point (rows = sources), to be projected on a target when asked.
Read points without a closed form go through compute/attribution/fallback.py.

    engine = AttributionEngine(decomposition, delta="node", metrics={"attr", "attr_abs"})
    sums = engine.new_sums()
    for tokens in batches:
        engine.accumulate(sums, tokens)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from compute.address import OUTPUT, Address
from compute.attribution.attention import AttentionOperation
from compute.attribution.capture import Capture, capture, deltas
from compute.attribution.definition import cut_pass
from compute.attribution.fallback import BATCH_ELEMENTS, FallbackOperation
from compute.attribution.forward_mode import add_pseudo_sources, worthwhile
from compute.attribution.mlp import MlpOperation
from compute.attribution.norm import NormOperation, WriterRows, Writers
from compute.attribution.read_point import AbsTargets, ReadPointSums, abs_targets_of
from compute.attribution.sparse import component_rows
from compute.attribution.sums import AttributionSums, DeltaMode, ReadPointLayout, has_frozen, layout
from compute.decomposition.model import Decomposition
from compute.topology import Topology

DatasetMetric = Literal["attr", "attr_abs"]
Method = Literal["auto", "closed_form", "fallback"]
#: Statistics of the processed tokens; they exist twice where attr_abs saw a part of the tokens.
ABS_PART = "abs_part/"


class AttributionEngine:
    """Accumulates raw attribution sums of a frozen decomposition.

    ``output_abs`` asks for attr_abs of all or some output tokens; ``abs_targets`` restricts the
    attr_abs targets of the sites it names. Both are ignored without ``attr_abs``. The model must
    not change while an engine lives: its constants are computed once.
    """

    def __init__(
        self,
        decomposition: Decomposition,
        delta: DeltaMode = "node",
        metrics: Collection[DatasetMetric] = ("attr", "attr_abs"),
        *,
        ci_weighted: bool = True,
        output_abs: Literal["all"] | Sequence[int] | None = None,
        abs_targets: Mapping[Address, Sequence[int]] | None = None,
        method: Method = "auto",
    ) -> None:
        if "attr" not in metrics or set(metrics) - {"attr", "attr_abs"}:
            raise ValueError(f"metrics are attr, or attr and attr_abs; not {sorted(metrics)}")
        self.decomposition = decomposition
        self.delta: DeltaMode = delta
        self.ci_weighted = ci_weighted
        self.layouts = layout(decomposition, delta)
        obstacle = decomposition.topology.closed_form_obstacle
        if method == "closed_form" and obstacle is not None:
            raise ValueError(f"there is no closed form for this model: {obstacle}")
        #: How the sums are computed, and why.
        self.method: Literal["closed_form", "fallback"]
        self.method, self.method_reason = _method(method, decomposition.topology)
        self._fallback_everywhere = method == "fallback"
        self._chosen = self._choose_abs_targets(
            "attr_abs" in metrics, output_abs, {} if abs_targets is None else abs_targets
        )
        parameter = decomposition.target.token_embedding.weight
        self.dtype, self.device = parameter.dtype, parameter.device
        with torch.no_grad():
            self._deltas = deltas(decomposition) if delta == "node" else {}
            self._abs_targets: dict[str, AbsTargets | None] = {
                point.name: abs_targets_of(decomposition, point, self._chosen) for point in self.layouts
            }
            self._writers = Writers.of(decomposition)
        self._operations = {point.name: self._operation(point) for point in self.layouts}
        operations = self._operations.values()
        self._needs_cut = any(isinstance(operation, FallbackOperation) for operation in operations)
        self._needs_writers = any(isinstance(o, NormOperation) and o.n_writers for o in operations)
        #: Sites whose components are needed as compressed rows of their own.
        self._rowed: set[Address] = set()
        for operation in operations:
            if isinstance(operation, AttentionOperation):
                self._rowed |= {a for a, r in operation.sources.items() if any(n == "value" for n, _ in r)}
            elif isinstance(operation, MlpOperation):
                self._rowed |= set(operation.sources)

    def _choose_abs_targets(
        self,
        wanted: bool,
        output_abs: Literal["all"] | Sequence[int] | None,
        restricted: Mapping[Address, Sequence[int]],
    ) -> dict[Address, Sequence[int] | None]:
        """The attr_abs targets of each reader; None stands for all."""
        if not wanted:
            return {}
        sizes = {**self.decomposition.n_components, OUTPUT: self.decomposition.target.config.vocab_size}
        chosen: dict[Address, Sequence[int] | None] = dict.fromkeys(self.decomposition.addresses)
        chosen.update(restricted)
        if output_abs is not None:
            chosen[OUTPUT] = None if output_abs == "all" else output_abs
        for address, indices in chosen.items():
            if address not in sizes:
                raise ValueError(f"{address} is not a site of this model")
            wrong = [i for i in indices or () if not 0 <= i < sizes[address]]
            if wrong or (indices is not None and len(set(indices)) != len(indices)):
                raise ValueError(
                    f"the attr_abs targets of {address} must be distinct and below {sizes[address]}"
                )
        return chosen

    def _operation(
        self, point: ReadPointLayout
    ) -> NormOperation | AttentionOperation | MlpOperation | FallbackOperation:
        decomposition = self.decomposition
        topology = decomposition.topology
        read_point = topology.read_point_of[point.readers[0]]
        if self._fallback_everywhere or topology.obstacle(read_point) is not None:
            return FallbackOperation(decomposition, point)
        if point.operation == "norm":
            norm = decomposition.target.norm_of(point.name)
            return NormOperation(
                decomposition, norm, len(read_point.sources), self._writers, self._abs_targets[point.name]
            )
        assert read_point.block is not None
        if point.operation == "attention":
            return AttentionOperation(decomposition, read_point.block)
        return MlpOperation(decomposition, read_point.block, read_point.sources)

    def new_sums(self, *, abs_on_part: bool = False) -> AttributionSums:
        """Sums of nothing. ``abs_on_part`` makes room for batches without attr_abs."""
        config = self.decomposition.target.config
        arrays: dict[str, Tensor] = {}

        def zeros(*shape: int, dtype: torch.dtype = self.dtype) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=self.device)

        frozen = has_frozen(self.layouts)
        for point in self.layouts:
            arrays[f"signed/{point.name}"] = zeros(point.n_rows, point.d_in)
            if point.operation == "norm" and frozen:
                arrays[f"frozen_weight/{point.name}"] = zeros(point.n_rows)
                n_deltas = sum(block.kind == "delta" for block in point.blocks)
                arrays[f"frozen_delta/{point.name}"] = zeros(n_deltas, point.d_in)
            targets = self._abs_targets[point.name]
            for address, columns, _ in () if targets is None else targets.columns:
                # Shape [n_targets, n_rows], but laid out source by source: batches add whole rows.
                arrays[f"abs/{address}"] = zeros(point.n_rows, columns.stop - columns.start).T
        statistics: dict[str, int] = {}
        for address, count in self.decomposition.n_components.items():
            for name in ("ci_sum", "activation_sum", "activation_abs_sum", "activation_square_sum"):
                statistics[f"{name}/{address}"] = count
        statistics["token_count"] = config.vocab_size
        if not config.rotary:
            statistics["position_count"] = config.context
        statistics["logit_sum"] = statistics["logit_square_sum"] = config.vocab_size
        if OUTPUT in self._chosen:
            statistics["centred_logit_square_sum"] = config.vocab_size
        statistics["tokens"] = 1
        for prefix in ("", ABS_PART) if abs_on_part and self._chosen else ("",):
            for name, size in statistics.items():
                arrays[prefix + name] = zeros(size, dtype=torch.float64)
        restricted = {a: tuple(i) for a, i in self._chosen.items() if i is not None}
        return AttributionSums(self.delta, self.ci_weighted, self.layouts, arrays, restricted)

    def capture(self, tokens: Tensor) -> Capture:
        """The forward pass of one batch of tokens [B, T], with causal importances."""
        return capture(
            self.decomposition, tokens.to(self.device), self.delta, self._deltas, need_importance=True
        )

    def accumulate(self, sums: AttributionSums, tokens: Tensor, with_abs: bool = True) -> None:
        """Add one batch of tokens [B, T]; ``with_abs=False`` leaves attr_abs out of this batch."""
        self.accumulate_capture(sums, self.capture(tokens), with_abs)

    @torch.no_grad()
    def accumulate_capture(self, sums: AttributionSums, captured: Capture, with_abs: bool = True) -> None:
        """Add one batch whose forward pass has been run."""
        on_part = f"{ABS_PART}tokens" in sums.arrays
        with_abs = with_abs and bool(self._chosen)
        if self._chosen and not with_abs and not on_part:
            raise ValueError("make the sums with new_sums(abs_on_part=True) to leave attr_abs out of a batch")
        statistics = self._statistics(captured)
        for prefix in ("", ABS_PART) if on_part and with_abs else ("",):
            for name, value in statistics.items():
                sums.arrays[prefix + name] += value
        sources = captured
        if not self.ci_weighted:
            sources = replace(captured, importance=None)
        rows = {address: component_rows(sources.weighted(address)) for address in self._rowed}
        writer_rows = self._writer_rows(sources) if self._needs_writers else None
        cut = cut_pass(self.decomposition, captured.tokens, self.delta) if self._needs_cut else None
        forward_mode = cut is not None and self._forward_mode(captured.tokens.shape[1], with_abs)
        behind_embeddings: dict[Address, ReadPointSums] = {}
        for point in self.layouts:
            out = ReadPointSums(sums, point, self._abs_targets[point.name] if with_abs else None)
            operation = self._operations[point.name]
            if isinstance(operation, NormOperation):
                operation.add(out, sources, writer_rows)
            elif isinstance(operation, FallbackOperation):
                assert cut is not None
                operation.add(out, sources, cut, pseudo_sources=not forward_mode)
                behind_embeddings[point.readers[0]] = out
            else:
                operation.add(out, sources, rows)
        if forward_mode:
            assert cut is not None
            add_pseudo_sources(self.decomposition, behind_embeddings, sources, cut)

    def _forward_mode(self, length: int, with_abs: bool) -> bool:
        """Whether the embeddings' share is found by position, for all read points at once."""
        directions = 0
        for point in self.layouts:
            operation = self._operations[point.name]
            if isinstance(operation, FallbackOperation) and point.has_pseudo_sources:
                directions += operation.n_directions
                if with_abs and (targets := self._abs_targets[point.name]) is not None:
                    directions += targets.V.shape[1]
        return worthwhile(length, len(self.decomposition.topology.pseudo_sources), directions)

    def _writer_rows(self, captured: Capture) -> WriterRows:
        writers = self._writers
        rows = component_rows(torch.cat([captured.weighted(a) for a in writers.addresses], 1))
        boundaries = torch.tensor(writers.starts, device=rows.offsets.device)
        return WriterRows(rows, tuple(rows.offsets[boundaries].tolist()))

    def _statistics(self, captured: Capture) -> dict[str, Tensor]:
        """The batch's statistics, in float64."""
        config = self.decomposition.target.config
        total = torch.float64
        result: dict[str, Tensor] = {}
        assert captured.importance is not None
        for address, y in captured.activations.items():
            result[f"ci_sum/{address}"] = captured.importance[address].sum(0).to(total)
            result[f"activation_sum/{address}"] = y.sum(0).to(total)
            result[f"activation_abs_sum/{address}"] = y.abs().sum(0).to(total)
            result[f"activation_square_sum/{address}"] = y.square().sum(0).to(total)
        tokens = captured.tokens
        result["token_count"] = torch.bincount(tokens.flatten(), minlength=config.vocab_size).to(total)
        if not config.rotary:
            count = torch.zeros(config.context, dtype=total, device=tokens.device)
            count[: tokens.shape[1]] = len(tokens)
            result["position_count"] = count
        logits = captured.logits
        result["logit_sum"] = logits.sum(0).to(total)
        result["logit_square_sum"] = logits.square().sum(0).to(total)
        if OUTPUT in self._chosen:
            centred = logits - logits.mean(-1, keepdim=True)
            result["centred_logit_square_sum"] = centred.square().sum(0).to(total)
        result["tokens"] = torch.tensor([tokens.numel()], dtype=total, device=tokens.device)
        return result

    def memory_estimate(self, batch_tokens: int) -> int:
        """Bytes that sums, constants and one batch of ``batch_tokens`` positions take at most."""
        config = self.decomposition.target.config
        item = self.dtype.itemsize
        sums = sum(array.numel() * array.element_size() for array in _empty_like_sums(self))
        abs_elements = sum(
            point.n_rows * (targets.V.shape[1])
            for point in self.layouts
            if (targets := self._abs_targets[point.name]) is not None and point.operation == "norm"
        )
        sites = self.decomposition.topology.sites.values()
        per_token = config.vocab_size * 4 + 3 * self.decomposition.total_components
        if self.decomposition.importance.never_zero:
            # Positions, values and rows of sources, which elsewhere are few.
            per_token += 10 * self.decomposition.total_components
        per_token += sum(site.d_in + 2 * site.d_out for site in sites)
        per_token += 4 * config.n_blocks * config.n_heads * config.context
        widest = max((t.V.shape[1] for t in self._abs_targets.values() if t is not None), default=0)
        per_token += 4 * widest
        if self._needs_cut:
            # The graph of the cut forward, and a batch of cotangents on the way back through it.
            blocks = config.n_blocks * (12 * config.d_model + 8 * config.attention_width + 8 * config.d_ff)
            per_token += blocks + sum(site.d_in + 2 * site.d_out for site in sites)
            abs_elements += 6 * BATCH_ELEMENTS.get(self.device.type, 2**22)
        return sums + item * (abs_elements + per_token * batch_tokens)


def _empty_like_sums(engine: AttributionEngine) -> list[Tensor]:
    """The arrays of new sums without their memory."""
    device, engine.device = engine.device, torch.device("meta")
    try:
        return list(engine.new_sums().arrays.values())
    finally:
        engine.device = device


def _method(method: Method, topology: Topology) -> tuple[Literal["closed_form", "fallback"], str]:
    if method == "fallback":
        return "fallback", "asked for: batched automatic differentiation everywhere"
    obstacle = topology.closed_form_obstacle
    if obstacle is None:
        return "closed_form", "every operation of this model has a closed form"
    points = topology.read_points
    n = sum(topology.obstacle(point) is not None for point in points)
    where = (
        "everywhere"
        if n == len(points)
        else f"into {n} of {len(points)} read points, the rest in closed form"
    )
    return "fallback", f"{obstacle}: batched automatic differentiation {where}"
