"""Which causal-importance function a decomposition has, as written into ``run.json``; needs no torch.

Kinds and sigmoids are named as in the public parameter-decomposition code. The per-site kinds look at
one site at a time; the global ones at the inputs of all sites together, in the order that ``order``
says. compute/decomposition/importance.py has the formulas.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compute.address import parse_address

SiteKind = Literal["mlp", "vector_mlp", "shared_mlp"]
ImportanceKind = Literal[
    "mlp",
    "vector_mlp",
    "shared_mlp",
    "global_shared_mlp",
    "global_shared_transformer",
    "global_reverse_residual",
]
SITE_KINDS: tuple[SiteKind, ...] = get_args(SiteKind)
IMPORTANCE_KINDS: tuple[ImportanceKind, ...] = get_args(ImportanceKind)

#: ``leaky_hard`` gives what ``lower_leaky_hard`` gives; they differ in training only.
SigmoidKind = Literal[
    "leaky_hard", "lower_leaky_hard", "upper_leaky_hard", "hard", "normal", "swish_hard", "half_sin"
]
SIGMOID_KINDS: tuple[SigmoidKind, ...] = get_args(SigmoidKind)


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AttentionImportance(_Config):
    """Bidirectional attention with rotary positions, inside a global importance function."""

    n_heads: int = Field(ge=1)
    #: Longest sequence that it was made for, in tokens; longer ones are computed by the same formula.
    max_length: int = Field(default=2048, ge=1)
    rope_base: float = Field(default=10000.0, gt=0)


class TransformerImportance(AttentionImportance):
    """Sizes of ``global_shared_transformer``."""

    d_model: int = Field(ge=1)
    n_blocks: int = Field(ge=1)
    #: Hidden widths of the blocks' MLPs; the public default is one of 4 · d_model.
    mlp_hidden: tuple[int, ...]
    #: Whether the stream is normalised before the output, as newer versions may.
    final_norm: bool = False

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.d_model % (2 * self.n_heads):
            raise ValueError(f"{self.n_heads} heads of an even width do not divide d_model {self.d_model}")
        return self


class ReverseResidualGroup(_Config):
    """Sites whose importances are read together."""

    name: str
    sites: tuple[str, ...] = Field(min_length=1)


class ReverseResidualImportance(_Config):
    """Sizes of ``global_reverse_residual``; the groups are in the order in which they are read."""

    groups: tuple[ReverseResidualGroup, ...] = Field(min_length=1)
    d_residual: int = Field(ge=1)
    reader_hidden: tuple[int, ...]
    transition_hidden: tuple[int, ...]
    attention: AttentionImportance | None = None


class ImportanceConfig(_Config):
    """A causal-importance function without its weights.

    ``hidden`` are the hidden widths of the MLPs of every kind that is one. ``order`` are the addresses
    of all sites in the order in which a global kind takes its inputs.
    """

    kind: ImportanceKind
    hidden: tuple[int, ...] = ()
    sigmoid: SigmoidKind = "leaky_hard"
    order: tuple[str, ...] = ()
    transformer: TransformerImportance | None = None
    reverse_residual: ReverseResidualImportance | None = None

    @model_validator(mode="after")
    def _members_of_the_kind(self) -> Self:
        if (self.transformer is not None) != (self.kind == "global_shared_transformer"):
            raise ValueError("sizes of a transformer belong to global_shared_transformer, and to it alone")
        if (self.reverse_residual is not None) != (self.kind == "global_reverse_residual"):
            raise ValueError("groups of sites belong to global_reverse_residual, and to it alone")
        if bool(self.order) != self.is_global:
            raise ValueError("an order of sites belongs to global kinds, and to them alone")
        for name in self.order:
            if not parse_address(name).is_site:
                raise ValueError(f"{name} in the order of sites is not a site")
        if len(set(self.order)) < len(self.order):
            raise ValueError("the order of sites names one twice")
        return self

    @property
    def is_global(self) -> bool:
        """Whether one function gives the importances of all sites from the inputs of all of them."""
        return self.kind not in SITE_KINDS

    @property
    def never_off(self) -> bool:
        """Whether practically all importances are above 0, so that every component is alive everywhere."""
        return self.sigmoid in ("normal", "half_sin")

    @property
    def never_zero(self) -> bool:
        """Whether practically no importance is exactly 0, so that nothing weighted by them is sparse."""
        return self.never_off or self.sigmoid == "swish_hard"

    @property
    def leaves_unit_interval(self) -> bool:
        """Whether importances, and with them masks, may be above 1 or below 0."""
        return self.sigmoid in ("upper_leaky_hard", "swish_hard")

    @property
    def sees_later_tokens(self) -> bool:
        """Whether importances may depend on later tokens, so that they change where a text is cut."""
        return self.kind == "global_shared_transformer" or (
            self.reverse_residual is not None and self.reverse_residual.attention is not None
        )
