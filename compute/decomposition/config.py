"""Configuration of a decomposition run, as read from a TOML file by ``tributary decompose``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from compute.address import Address
from compute.decomposition.importance_config import IMPORTANCE_KINDS, SITE_KINDS, SiteKind
from compute.schedule import Schedule
from compute.topology import Topology

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
    #: Patterns of the addresses of the matrices that are decomposed, such as ``2.glu.*``; None: all.
    sites: tuple[str, ...] | None = None
    #: Number of components by projection (q, k, v, qkv, o, gate, up, down), or by a pattern of addresses.
    #: A pattern comes before a projection, and the last pattern that fits before those above it.
    components: dict[str, Annotated[int, Field(ge=1)]]
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

    @field_validator("importance_kind", mode="before")
    @classmethod
    def _kind_can_be_trained(cls, kind: object) -> object:
        if kind in IMPORTANCE_KINDS and kind not in SITE_KINDS:
            raise ValueError(
                f"{kind} is read from imported runs, but not trained; choose one of {', '.join(SITE_KINDS)}"
            )
        return kind

    def components_of(self, topology: Topology) -> dict[Address, int]:
        """Which matrices of a model are decomposed, and into how many components each.

        Raises ``ValueError`` for a pattern that fits no matrix, and for a matrix without a number.
        """
        names = {str(address): address for address in topology.modules}
        patterns = [*(self.sites or ()), *(name for name in self.components if "." in name or "*" in name)]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                some = ", ".join([*names][:8])
                raise ValueError(f"{pattern!r} fits no matrix of the model; its first are {some}")
        counts: dict[Address, int] = {}
        for name, address in names.items():
            if self.sites is not None and not any(fnmatchcase(name, pattern) for pattern in self.sites):
                continue
            fitting = [count for pattern, count in self.components.items() if fnmatchcase(name, pattern)]
            if not fitting and address.projection not in self.components:
                raise ValueError(f"[components] has no number for {address.projection} ({name})")
            counts[address] = fitting[-1] if fitting else self.components[address.projection]
        if not counts:
            raise ValueError("sites names no matrix")
        return counts

    @property
    def fingerprint(self) -> str:
        """Tells one decomposition from another; what older versions wrote where ``sites`` is not used."""
        return self.model_dump_json(exclude={"sites"} if self.sites is None else None)

    @model_validator(mode="after")
    def _sequences_fill_the_batch(self) -> Self:
        used = sum(term.sequences for term in self.reconstruction)
        if used != self.batch_size:
            raise ValueError(
                f"the reconstruction terms use {used} sequences, but batch_size is {self.batch_size}"
            )
        return self
