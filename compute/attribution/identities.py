"""Identities that hold for any model, checked on a real one over one batch.

They need no oracle: the sources of a target must add up to a number that the forward pass knows.
Each is checked at the read points where it holds: sums over all sources need that nothing on the way
was left whole, those over one site need just that site, and none can tell the roles of a fused site
apart. A sample of targets is also compared with the definition itself. Everything here takes seconds and
runs in ``tributary verify``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compute.address import OUTPUT, Address
from compute.attribution.capture import Capture
from compute.attribution.definition import attributions
from compute.attribution.engine import AttributionEngine
from compute.attribution.frozen import frozen_rows
from compute.attribution.sums import AttributionSums, ReadPointLayout, RowBlock, has_frozen
from compute.decomposition.model import Decomposition

#: Largest admissible error, relative to the sum of the absolute values that are added up.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
#: Positions where a sampled target is this close to zero, relative to its largest activation, may
#: have another sign in the definition's forward pass; attr_abs of such a target is not compared.
_SIGN_MARGIN = 1e-4
#: Components of a site whose attr_abs is looked at where it has no closed form.
_SAMPLE = 8


@dataclass(frozen=True)
class IdentityCheck:
    """One identity: the worst ``error`` found, relative, and what is admissible."""

    name: str
    statement: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.error <= self.tolerance  # False for NaN


def check_identities(decomposition: Decomposition, tokens: Tensor, *, seed: int = 0) -> list[IdentityCheck]:
    """Check every identity on ``tokens`` [B, T] (64 to 256 tokens are plenty)."""
    sampled = _sampled_targets(decomposition, seed)
    engine = AttributionEngine(
        decomposition, "node", ("attr", "attr_abs"), ci_weighted=False, abs_targets=sampled
    )
    captured = engine.capture(tokens)
    sums = engine.new_sums()
    engine.accumulate_capture(sums, captured)
    tolerance = TOLERANCE.get(engine.dtype, 1e-4)

    def check(name: str, statement: str, error: float) -> IdentityCheck:
        return IdentityCheck(name, statement, error, tolerance)

    checks = [
        check(
            "exact forward",
            "with delta nodes the attribution forward has the target's logits",
            _forward_error(decomposition, captured),
        )
    ]

    def where_it_holds(
        name: str,
        statement: str,
        points: list[ReadPointLayout],
        error_of: Callable[[ReadPointLayout], float],
    ) -> None:
        if points:
            checks.append(check(name, statement, max(error_of(point) for point in points)))

    if has_frozen(sums.layouts):
        where_it_holds(
            "frozen norm completeness",
            "with the norm's scale held constant, all sources of a target add up to the target",
            [point for point in sums.layouts if point.operation == "norm"],
            lambda point: _frozen_error(decomposition, sums, captured, point),
        )
    where_it_holds(
        "scale-free norm",
        "attributions through a norm add up to Σ y·eps/σ², nearly zero",
        [point for point in sums.layouts if point.operation == "norm" and not point.through],
        lambda point: _scale_free_error(decomposition, sums, captured, point),
    )
    where_it_holds(
        "values",
        "all sources of value sites add up to the target, in attr and in attr_abs",
        _fed_by(sums, "attention", "v"),
        lambda point: _linear_error(decomposition, sums, captured, point, "v"),
    )
    if not decomposition.target.config.qk_norm:
        where_it_holds(
            "queries and keys",
            "all query sources of a target add up to the same as all its key sources",
            _fed_by(sums, "attention", "q", "k"),
            lambda point: _balance_error(decomposition, sums, point),
        )
    if decomposition.target.config.gated:
        where_it_holds(
            "gated MLP",
            "all sources of up sites add up to the target, in attr and in attr_abs",
            _fed_by(sums, "mlp", "up"),
            lambda point: _linear_error(decomposition, sums, captured, point, "up"),
        )
    checks.append(
        check(
            "batches add",
            "a batch gives the sum of its sequences taken alone",
            _additivity_error(decomposition, tokens),
        )
    )
    signed, absolute = _definition_errors(decomposition, tokens, seed)
    checks.append(check("definition, attr", "a sample of targets agrees with autograd in float64", signed))
    checks.append(
        check("definition, attr_abs", "a sample of targets agrees with autograd in float64", absolute)
    )
    return checks


def _sampled_targets(decomposition: Decomposition, seed: int) -> dict[Address, list[int]]:
    """A few components of the sites whose attr_abs takes a backward pass for each target."""
    generator = torch.Generator().manual_seed(seed)
    return {
        reader: torch.randperm(count, generator=generator)[:_SAMPLE].tolist()
        for reader, count in decomposition.n_components.items()
        if decomposition.topology.obstacle(decomposition.topology.read_point_of[reader]) is not None
    }


def _fed_by(sums: AttributionSums, operation: str, *projections: str) -> list[ReadPointLayout]:
    """Read points of an operation whose own block's sites with these projections are all decomposed."""
    return [
        point
        for point in sums.layouts
        if point.operation == operation and all(_blocks(point, projection) for projection in projections)
    ]


def _relative(difference: Tensor, scale: Tensor) -> float:
    """max |difference| / scale over targets; NaN stays NaN."""
    return (difference.abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)).max().item()


def _readers(decomposition: Decomposition, point: ReadPointLayout) -> list[tuple[Address, Tensor]]:
    """Each reader of a read point with its directions V [d_in, n_targets]."""
    output = decomposition.target.unembedding.weight.detach().T
    return [(a, output if a == OUTPUT else decomposition.V(a).detach()) for a in point.readers]


def _values(captured: Capture, reader: Address) -> Tensor:
    return captured.logits if reader == OUTPUT else captured.activations[reader]


def _forward_error(decomposition: Decomposition, captured: Capture) -> float:
    with torch.no_grad():
        expected = decomposition.target(captured.tokens).flatten(0, 1)
    return _relative(captured.logits - expected, expected.abs().max())


def _frozen_error(
    decomposition: Decomposition, sums: AttributionSums, captured: Capture, point: ReadPointLayout
) -> float:
    Z = frozen_rows(decomposition, sums, point)
    shift = decomposition.target.norm_of(point.name).bias
    worst = 0.0
    for reader, V in _readers(decomposition, point):
        found = (Z @ V).sum(0)
        if shift is not None:
            found = found + captured.n_positions * (shift.detach() @ V)
        worst = max(worst, _relative(found - _values(captured, reader).sum(0), (Z @ V).abs().sum(0)))
    return worst


def _scale_free_error(
    decomposition: Decomposition, sums: AttributionSums, captured: Capture, point: ReadPointLayout
) -> float:
    Z = sums.arrays[f"signed/{point.name}"]
    norm = decomposition.target.norm_of(point.name)
    scale = captured.trace.norms[point.name].inverse_scale.flatten()
    worst = 0.0
    for reader, V in _readers(decomposition, point):
        y = _values(captured, reader)
        unshifted = y if norm.bias is None else y - norm.bias.detach() @ V
        expected = norm.eps * (scale.square() @ unshifted)
        parts = Z @ V
        worst = max(worst, _relative(parts.sum(0) - expected, parts.abs().sum(0)))
    return worst


def _blocks(point: ReadPointLayout, projection: str) -> list[RowBlock]:
    """Components, delta and bias of the site with this projection in the read point's own block."""
    block = point.readers[0].block
    return [b for b in point.blocks if b.address.projection == projection and b.address.block == block]


def _part(point: ReadPointLayout, projection: str) -> slice:
    """The rows of all sources of that site."""
    blocks = _blocks(point, projection)
    return slice(blocks[0].offset, blocks[-1].offset + blocks[-1].count)


def _linear_error(
    decomposition: Decomposition,
    sums: AttributionSums,
    captured: Capture,
    point: ReadPointLayout,
    projection: str,
) -> float:
    reader = point.readers[0]
    rows = _part(point, projection)
    parts = sums.arrays[f"signed/{point.name}"][rows] @ decomposition.V(reader).detach()
    y = captured.activations[reader]
    signed = _relative(parts.sum(0) - y.sum(0), parts.abs().sum(0))
    absolute = sums.arrays[f"abs/{reader}"][:, rows]
    if reader in sums.abs_targets:
        y = y[:, list(sums.abs_targets[reader])]
    return max(signed, _relative(absolute.sum(1) - y.abs().sum(0), absolute.abs().sum(1)))


def _balance_error(decomposition: Decomposition, sums: AttributionSums, point: ReadPointLayout) -> float:
    V = decomposition.V(point.readers[0]).detach()
    Z = sums.arrays[f"signed/{point.name}"]
    q, k = (Z[_part(point, projection)] @ V for projection in "qk")
    return _relative(q.sum(0) - k.sum(0), q.abs().sum(0) + k.abs().sum(0))


def _additivity_error(decomposition: Decomposition, tokens: Tensor) -> float:
    engine = AttributionEngine(decomposition, "node", ("attr",))
    whole, parts = engine.new_sums(), engine.new_sums()
    engine.accumulate(whole, tokens)
    for sequence in tokens:
        engine.accumulate(parts, sequence[None])
    return max(
        _relative(whole.arrays[name] - parts.arrays[name], array.abs().max())
        for name, array in whole.arrays.items()
        if array.numel()
    )


def _definition_errors(decomposition: Decomposition, tokens: Tensor, seed: int) -> tuple[float, float]:
    """Worst error in attr and attr_abs over one component of each site, against float64 autograd.

    Errors are relative to the target's largest attribution; where gradients pass through matrices left
    whole, to the sum of its activations if that is larger: all of its attributions may then be zero
    (what a norm makes scale-free stays so behind a matrix). Both sides use the same importances.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = {
        address: [int(torch.randint(0, count, (1,), generator=generator))]
        for address, count in decomposition.n_components.items()
    }
    engine = AttributionEngine(decomposition, "node", ("attr", "attr_abs"), abs_targets=chosen)
    sums = engine.new_sums()
    captured = engine.capture(tokens)
    engine.accumulate_capture(sums, captured)
    assert captured.importance is not None
    expected = attributions(
        copy.deepcopy(decomposition).double(),
        captured.tokens,
        targets=chosen,
        importance={a: g.double().unflatten(0, tokens.shape) for a, g in captured.importance.items()},
    )
    points = {reader: point for point in sums.layouts for reader in point.readers}
    worst = {"attr": 0.0, "attr_abs": 0.0}
    for edges, values in expected.items():
        point = points[edges.target]
        block = point.block_of(edges.source, edges.kind)
        assert block is not None
        rows = slice(block.offset, block.offset + block.count)
        Z = sums.arrays[f"signed/{point.name}"]
        V = decomposition.V(edges.target).detach()[:, chosen[edges.target]]
        y = captured.activations[edges.target][:, chosen[edges.target]].abs()
        least = y.sum() if decomposition.topology.read_point_of[edges.target].through else y.new_zeros(())
        if edges.metric == "attr":
            found, largest = (Z[rows] @ V).T, (Z @ V).abs().max()
        elif y.min() < _SIGN_MARGIN * y.max():
            continue
        else:
            array = sums.arrays[f"abs/{edges.target}"]
            found, largest = array[:, rows], array.abs().max()
        worst[edges.metric] = max(
            worst[edges.metric], _relative(found - values, torch.maximum(largest, least))
        )
    return worst["attr"], worst["attr_abs"]
