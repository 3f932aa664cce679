"""Learning-rate schedules, and random numbers that depend on nothing but a seed and a step."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field


class Schedule(BaseModel):
    """A peak value with linear warm-up from zero, then linear or half-cosine decay, or none.

    ``warmup`` is a share of the steps, ``final_fraction`` the share of ``peak`` that is left at the
    last step. Formula: shared by the public parameter-decomposition code (docs/file-format.md names
    the fields); progress after the warm-up is (step − warm-up steps) / (remaining steps − 1).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    peak: float = Field(ge=0)
    warmup: float = Field(default=0.0, ge=0, le=1)
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_fraction: float = Field(default=0.0, ge=0)

    def at(self, step: int, steps: int) -> float:
        """The value at ``step`` of ``steps`` (counted from 0)."""
        warmup_steps = int(steps * self.warmup)
        if step < warmup_steps:
            return self.peak * step / warmup_steps
        if self.decay == "constant":
            return self.peak
        remaining = steps - warmup_steps
        progress = min(1.0, (step - warmup_steps) / (remaining - 1)) if remaining > 1 else 0.0
        shape = 1 - progress if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * shape)


def generator_at(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """A generator whose numbers depend on seed, step and stream only, so that training resumed at
    any step draws exactly what an uninterrupted one would have drawn."""
    generator = torch.Generator()
    generator.manual_seed((seed * 1_000_003 + step) * 16 + stream)
    return generator


def sample_windows(
    tokens: torch.Tensor, batch_size: int, length: int, generator: torch.Generator
) -> torch.Tensor:
    """``batch_size`` windows of ``length`` + 1 consecutive tokens [batch_size, length + 1], int64."""
    if len(tokens) <= length:
        raise ValueError(f"the text has {len(tokens)} tokens, fewer than one window of {length + 1}")
    starts = torch.randint(len(tokens) - length, (batch_size, 1), generator=generator)
    return tokens[starts + torch.arange(length + 1)].long()
