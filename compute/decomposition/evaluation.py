"""How good a decomposition is: one pass over held-out text, every figure from the same tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from compute.address import Address
from compute.decomposition.losses import faithfulness, kl_per_sequence
from compute.decomposition.model import Decomposition
from compute.schedule import generator_at
from compute.targets.model import Entering

THRESHOLDS = (0.0, 0.01, 0.1, 0.5)


@dataclass
class EvaluationResult:
    """Cross-entropies and KL(target ‖ ·) in nats per token, keyed by kind of masking.

    Kinds: ``target``, ``components`` (all on, no delta), ``ci`` (importances as masks, no delta),
    ``rounded`` (every importance above 0 set to 1), ``stochastic`` (ci + (1 − ci)·U(0, 1), delta
    by U(0, 1)), ``zero`` (every site's product zero) and ``block:<n>`` (importances as masks in
    block n, every other site the target's own).
    """

    tokens: int
    faithfulness: float
    unigram_cross_entropy: float
    cross_entropy: dict[str, float] = field(default_factory=dict)
    kl: dict[str, float] = field(default_factory=dict)
    #: Mean components per position with CI above each threshold.
    l0: dict[Address, dict[float, float]] = field(default_factory=dict)
    #: Largest CI of every component seen on the tokens, [C] per site.
    max_ci: dict[Address, Tensor] = field(default_factory=dict)

    def share_recovered(self, kind: str, baseline: float) -> float:
        """(baseline − CE_kind) / (baseline − CE_target)."""
        return (baseline - self.cross_entropy[kind]) / (baseline - self.cross_entropy["target"])


@torch.no_grad()
def evaluate(
    decomposition: Decomposition,
    batches: Iterable[Tensor],
    unigram: Tensor,
    seed: int = 0,
) -> EvaluationResult:
    """Evaluate on ``batches`` of windows [B, T + 1]; ``unigram`` [vocab] are training token frequencies.

    The stochastic masks depend on ``seed`` and the batch number only, so results are reproducible.
    """
    blocks = sorted({a.block for a in decomposition.addresses if a.block is not None})
    sums: dict[str, float] = {}
    divergences: dict[str, float] = {}
    counts = {
        a: torch.zeros(len(THRESHOLDS), device=decomposition.V(a).device) for a in decomposition.addresses
    }
    largest = {a: torch.zeros_like(decomposition.U(a)[:, 0]) for a in decomposition.addresses}
    log_unigram = unigram.float().log()
    tokens, unigram_sum = 0, 0.0
    for number, windows in enumerate(batches):
        inputs_tokens, expected = windows[:, :-1], windows[:, 1:]
        n = expected.numel()
        tokens += n
        unigram_sum -= log_unigram[expected].sum().item()
        entering = decomposition.enter(inputs_tokens)
        target_logits, inputs = decomposition.clean_pass(inputs_tokens, entering=entering)
        ci = decomposition.causal_importance(inputs)
        for address, value in ci.items():
            counts[address] += torch.stack([(value > t).sum() for t in THRESHOLDS])
            largest[address] = torch.maximum(largest[address], value.flatten(0, -2).amax(0))
        for kind, logits in _masked_logits(decomposition, inputs_tokens, entering, ci, blocks, seed, number):
            sums[kind] = sums.get(kind, 0.0) + _cross_entropy_sum(logits, expected)
            kl = kl_per_sequence(target_logits, logits).sum().item() * expected.shape[1]
            divergences[kind] = divergences.get(kind, 0.0) + kl
        sums["target"] = sums.get("target", 0.0) + _cross_entropy_sum(target_logits, expected)
    if not tokens:
        raise ValueError("there are no tokens to evaluate on")
    return EvaluationResult(
        tokens=tokens,
        faithfulness=faithfulness(decomposition).item(),
        unigram_cross_entropy=unigram_sum / tokens,
        cross_entropy={kind: value / tokens for kind, value in sums.items()},
        kl={kind: value / tokens for kind, value in divergences.items()},
        l0={a: dict(zip(THRESHOLDS, (c / tokens).tolist(), strict=True)) for a, c in counts.items()},
        max_ci=largest,
    )


def _masked_logits(
    decomposition: Decomposition,
    tokens: Tensor,
    entering: Entering,
    ci: Mapping[Address, Tensor],
    blocks: list[int],
    seed: int,
    batch: int,
) -> Iterable[tuple[str, Tensor]]:
    model = partial(decomposition.target, tokens, entering=entering)
    generator = generator_at(seed, batch, stream=5)

    def uniform(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=generator).to(like)

    yield "components", model(site=decomposition.site_function())
    yield "ci", model(site=decomposition.site_function(ci))
    rounded = {address: (value > 0).to(value) for address, value in ci.items()}
    yield "rounded", model(site=decomposition.site_function(rounded))
    stochastic = {address: value + (1 - value) * uniform(value) for address, value in ci.items()}
    deltas = {address: uniform(value[..., :1]) for address, value in ci.items()}
    yield "stochastic", model(site=decomposition.site_function(stochastic, deltas))
    zero = {address: torch.zeros_like(value) for address, value in ci.items()}
    yield "zero", model(site=decomposition.site_function(zero))
    for block in blocks:
        inside = {a: value for a, value in ci.items() if a.block == block}
        here = {a: torch.ones_like(value[..., :1]) for a, value in inside.items()}
        yield f"block:{block}", model(site=decomposition.site_function(inside, None, here))


def _cross_entropy_sum(logits: Tensor, expected: Tensor) -> float:
    return F.cross_entropy(logits.float().flatten(0, 1), expected.flatten(), reduction="sum").item()
