"""Configuration of a decomposition run, as read from a TOML file by ``tributary decompose``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compute.decomposition.importance_config import SiteKind
from compute.schedule import Schedule

Routing = Literal["all", "subset", "layerwise", "block"]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReconstructionTerm(_Config):
    """One reconstruction loss, KL(target ‖ masked model) in nats per position.

    ``masks``: ``ci`` uses the importances themselves and no delta; ``stochastic`` draws
    ci + (1 − ci)·U(0, 1) and, with ``delta``, lets the delta through by U(0, 1).
    ``routing`` says where the masked output is used: at ``all`` sites, at a random ``subset``
    (per position k ~ U{1…n_sites} of them), at one site (``layerwise``), or at all sites of one
    random block (``block``); elsewhere the site is the target's own. The term is estimated on
    ``sequences`` of every batch, so that all terms share one forward pass.
    """

    masks: Literal["ci", "stochastic"]
    routing: Routing
    sequences: int = Field(ge=1)
    coefficient: float = Field(gt=0)
    delta: bool = True


class ImportanceMinimality(_Config):
    """Σ_c mean(ci_upper^p) + frequency · mean · log2(1 + Σ ci_upper^p); p anneals linearly.

    ``anneal`` are the shares of training between which p goes from ``p_start`` to ``p_end``.
    """

    coefficient: float = Field(ge=0)
    p_start: float = Field(default=2.0, gt=0)
    p_end: float = Field(default=2.0, gt=0)
    anneal: tuple[float, float] = (0.0, 1.0)
    frequency: float = Field(default=0.0, ge=0)
    eps: float = Field(default=1e-12, gt=0)
    #: Share of the steps over which the coefficient rises linearly from zero.
    warmup: float = Field(default=0.0, ge=0, le=1)

    def p_at(self, step: int, steps: int) -> float:
        start, end = self.anneal
        done = step / steps
        progress = min(1.0, max(0.0, (done - start) / (end - start))) if end > start else float(done >= end)
        return self.p_start + (self.p_end - self.p_start) * progress

    def coefficient_at(self, step: int, steps: int) -> float:
        warmup_steps = int(steps * self.warmup)
        return self.coefficient * (step / warmup_steps if step < warmup_steps else 1.0)


class FaithfulnessWarmup(_Config):
    """Steps on the faithfulness loss alone, before the main training."""

    steps: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=3e-3, gt=0)


class DecompositionConfig(_Config):
    """All that determines a decomposition, given a target model and its text."""

    seed: int = 0
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    length: int = Field(ge=2)
    #: Components of each projection (q, k, v, o, gate, up, down), the same in every block.
    components: dict[str, int]
    importance_kind: SiteKind
    importance_hidden: tuple[int, ...]
    importance_bias: float = 0.5
    #: ``exact`` starts with W = Σ U_c V_cᵀ, ``random`` with N(0, 1/d_in), N(0, 1/C).
    initialisation: Literal["exact", "random"] = "exact"
    faithfulness: float = Field(ge=0)
    faithfulness_warmup: FaithfulnessWarmup = FaithfulnessWarmup()
    importance_minimality: ImportanceMinimality
    reconstruction: tuple[ReconstructionTerm, ...] = Field(min_length=1)
    components_rate: Schedule
    importance_rate: Schedule
    betas: tuple[float, float] = (0.9, 0.99)
    components_clip: float | None = Field(default=1.0, gt=0)
    importance_clip: float | None = Field(default=1.0, gt=0)
    autocast_bf16: bool = False
    #: Compile the element-wise kernels; needs a C++ compiler, falls back with a warning.
    compile: bool = False

    @model_validator(mode="after")
    def _sequences_fill_the_batch(self) -> Self:
        used = sum(term.sequences for term in self.reconstruction)
        if used != self.batch_size:
            raise ValueError(
                f"the reconstruction terms use {used} sequences, but batch_size is {self.batch_size}"
            )
        return self
