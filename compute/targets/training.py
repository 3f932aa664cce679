"""Training of a target model on next-token prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from compute.schedule import Schedule, generator_at, sample_windows
from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel


class TargetTrainingConfig(BaseModel):
    """How to train a target model; a step sees ``batch_size`` × ``length`` tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    length: int = Field(ge=2)
    learning_rate: Schedule
    weight_decay: float = Field(default=0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    gradient_clip: float = Field(default=1.0, gt=0)


@dataclass(frozen=True)
class TrainingProgress:
    step: int
    loss: float


class TargetTrainer:
    """Holds model, optimiser and step; :meth:`run` trains on, :meth:`state` can be saved and loaded."""

    def __init__(
        self, model_config: TargetConfig, config: TargetTrainingConfig, tokens: Tensor, device: str = "cpu"
    ) -> None:
        self.config = config
        self.tokens = tokens
        self.device = torch.device(device)
        self.model = TargetModel(model_config)
        self.model.initialise(generator_at(config.seed, 0, stream=1))
        self.model.to(self.device)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            betas=config.betas,
            fused=True,
        )
        self.step = 0

    def run(self) -> Iterator[TrainingProgress]:
        """Train from the current step to the last, yielding after every step."""
        config = self.config
        while self.step < config.steps:
            for group in self.optimiser.param_groups:
                group["lr"] = config.learning_rate.at(self.step, config.steps)
            windows = sample_windows(
                self.tokens, config.batch_size, config.length, generator_at(config.seed, self.step)
            ).to(self.device)
            loss = next_token_loss(self.model, windows)
            self.optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
            self.optimiser.step()
            self.step += 1
            yield TrainingProgress(self.step, loss.item())

    def state(self) -> dict[str, object]:
        return {"step": self.step, "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: dict[str, object]) -> None:
        self.step = int(state["step"])  # type: ignore[call-overload]
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.optimiser.load_state_dict(state["optimiser"])  # type: ignore[arg-type]


def next_token_loss(model: TargetModel, windows: Tensor) -> Tensor:
    """Mean cross-entropy in nats of predicting tokens 1… of each window [B, T + 1] from those before."""
    logits = model(windows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def validation_loss(model: TargetModel, tokens: Tensor, length: int, batch_size: int = 16) -> float:
    """Mean cross-entropy in nats per token over all of ``tokens`` in consecutive windows.

    Every token but the first is predicted exactly once; the first of a window has only the last
    token of the window before as its context.
    """
    device = next(model.parameters()).device
    total, count = 0.0, 0
    full = (len(tokens) - 1) // length
    starts = torch.arange(full) * length
    windows = tokens[starts[:, None] + torch.arange(length + 1)].long() if full else tokens.new_empty(0, 1)
    batches: list[Tensor] = list(torch.split(windows, batch_size)) if full else []
    if (len(tokens) - 1) % length:
        batches.append(tokens[full * length :].long()[None])
    for batch in batches:
        n = batch[:, 1:].numel()
        total += next_token_loss(model, batch.to(device)).item() * n
        count += n
    if not count or not math.isfinite(total):
        raise ValueError("the validation text is too short, or the model's loss is not finite")
    return total / count
