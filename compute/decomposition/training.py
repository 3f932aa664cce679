"""Training of a decomposition: resumable, reproducible, one forward pass for all loss terms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compute.address import Address
from compute.decomposition.config import DecompositionConfig
from compute.decomposition.importance_config import ImportanceConfig
from compute.decomposition.initialisation import initialise_components
from compute.decomposition.losses import (
    MaskAndPenalty,
    draw_masks,
    faithfulness,
    importance_minimality,
    kl_per_sequence,
)
from compute.decomposition.model import Decomposition
from compute.schedule import generator_at, sample_windows
from compute.targets.model import TargetModel

#: Logits of the windows that importances are standardised on, at once.
_LOGITS = 1 << 26


@dataclass(frozen=True)
class StepReport:
    """Losses of one step; ``reconstruction`` has one KL for each configured term."""

    step: int
    reconstruction: tuple[float, ...]
    faithfulness: float
    importance_minimality: float
    p: float


class DecompositionTrainer:
    """Owns the decomposition, both optimisers and the step counter.

    Every random number is drawn from a generator seeded with (seed, step), so :meth:`state` needs
    no RNG state or data position beyond the step, and a resumed run continues exactly.
    """

    def __init__(
        self, target: TargetModel, config: DecompositionConfig, tokens: Tensor, device: str = "cpu"
    ) -> None:
        self.config = config
        self.tokens = tokens
        self.device = torch.device(device)
        self.decomposition = Decomposition(
            target.to(self.device),
            config.components_of(target.topology),
            ImportanceConfig(kind=config.importance_kind, hidden=config.importance_hidden),
        ).to(self.device)
        self.step = 0
        self.warmup_step = 0
        self._initialise()
        decomposition = self.decomposition
        self.components = [f(a) for a in decomposition.addresses for f in (decomposition.V, decomposition.U)]
        self.importance = [
            p for a in decomposition.addresses for p in decomposition.importance_function(a).parameters()
        ]
        groups: list[dict[str, Any]] = [{"params": self.components}, {"params": self.importance}]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=0.0, betas=config.betas, fused=True)
        if config.compile:
            MaskAndPenalty.enable_compilation()

    @torch.no_grad()
    def _initialise(self) -> None:
        config, decomposition = self.config, self.decomposition
        initialise_components(decomposition, config.initialisation, config.seed)
        windows = sample_windows(self.tokens, 64, config.length, generator_at(config.seed, 0, stream=3))
        # A few at a time where their logits, which are not needed, would be large.
        at_once = max(1, _LOGITS // (config.length * decomposition.target.config.vocab_size))
        seen = [decomposition.clean_pass(part.to(self.device))[1] for part in windows[:, :-1].split(at_once)]
        inputs = {address: torch.cat([part[address] for part in seen]) for address in seen[0]}
        del seen
        for number, (address, x) in enumerate(inputs.items()):
            function = decomposition.importance_function(address)
            generator = generator_at(config.seed, number, stream=4)
            function.cpu().initialise(generator, config.importance_bias)
            function.to(self.device)
            function.standardise(x.flatten(0, 1), (x @ decomposition.V(address)).flatten(0, 1))

    def warm_up(self) -> Iterator[float]:
        """The faithfulness warm-up, with an optimiser of its own; yields the loss after each step."""
        warmup = self.config.faithfulness_warmup
        if self.warmup_step >= warmup.steps or self.step:
            return
        optimiser = torch.optim.AdamW(self.components, lr=warmup.learning_rate, weight_decay=0.0)
        for _ in range(warmup.steps):
            loss = faithfulness(self.decomposition)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.warmup_step += 1
            yield loss.item()

    def run(self) -> Iterator[StepReport]:
        """Train from the current step to the last, yielding after every step."""
        while self.step < self.config.steps:
            yield self._train_step()

    def _train_step(self) -> StepReport:
        config, decomposition = self.config, self.decomposition
        rates = (config.components_rate, config.importance_rate)
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate.at(self.step, config.steps)
        generator = generator_at(config.seed, self.step)
        tokens = sample_windows(self.tokens, config.batch_size, config.length, generator)[:, :-1].to(
            self.device
        )
        draw = draw_masks(decomposition, config.reconstruction, config.length, generator)
        minimality = config.importance_minimality
        p = minimality.p_at(self.step, config.steps)

        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=config.autocast_bf16):
            entering = decomposition.enter(tokens)
            target_logits, inputs = decomposition.clean_pass(tokens, entering=entering)
            masks: dict[Address, Tensor] = {}
            powered: dict[Address, Tensor] = {}
            exponent = torch.tensor(p, device=self.device)
            for address, x in inputs.items():
                function = decomposition.importance_function(address)
                needs_activations = config.importance_kind == "mlp"
                z = function(x, x @ decomposition.V(address) if needs_activations else x)
                masks[address], powered[address] = MaskAndPenalty.apply(
                    z.float(), draw.noise[address], exponent, minimality.eps
                )  # type: ignore[misc]
            logits = decomposition.target(
                tokens,
                site=decomposition.site_function(masks, draw.delta_masks, draw.routing),
                entering=entering,
            )
        divergence = kl_per_sequence(target_logits, logits)
        parts = torch.split(divergence, [term.sequences for term in config.reconstruction])
        by_term: list[Tensor] = [part.mean() for part in parts]
        reconstruction = torch.stack(
            [term.coefficient * kl for term, kl in zip(config.reconstruction, by_term, strict=True)]
        ).sum()
        faith = faithfulness(decomposition)
        penalty = importance_minimality(powered, tokens.numel(), minimality.frequency)
        coefficient = minimality.coefficient_at(self.step, config.steps)
        loss = reconstruction + config.faithfulness * faith + coefficient * penalty
        self.optimiser.zero_grad()
        loss.backward()
        if config.components_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.components, config.components_clip)
        if config.importance_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.importance, config.importance_clip)
        self.optimiser.step()
        self.step += 1
        return StepReport(self.step, tuple(kl.item() for kl in by_term), faith.item(), penalty.item(), p)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, besides configuration, target and text."""
        return {
            "step": self.step,
            "warmup_step": self.warmup_step,
            "decomposition": self.decomposition.export_components(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.warmup_step = state["warmup_step"]
        learned = {n: t for n, t in state["decomposition"].items() if not n.startswith("target.")}
        self.decomposition.import_tensors(learned, components_only=True)
        self.optimiser.load_state_dict(state["optimiser"])
