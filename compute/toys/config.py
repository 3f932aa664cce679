"""The shape of a toy model, as stored in ``run.json``; needs no torch.

Two models of the public parameter-decomposition code. ``tms``, the toy model of superposition
(Elhage et al. 2022, arXiv:2209.10652): matrices one after another and a ReLU at the very end.
``resid_mlp``: features embedded in a residual stream, to which one MLP after another adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from compute.address import Address

#: What a vector inside a toy model is over.
Space = Literal["features", "hidden", "residual", "neurons", "outputs"]
#: How many features are active in an input: ``at_least_zero_active`` each with a probability.
Generation = Literal[
    "at_least_zero_active",
    "exactly_one_active",
    "exactly_two_active",
    "exactly_three_active",
    "exactly_four_active",
    "exactly_five_active",
]
#: The most features, and the widest hidden vectors, that a toy model may have here.
MAX_FEATURES = 4096
MAX_WIDTH = 65536
#: Input of a single feature where nothing else is asked for, as in the public code's figures.
STANDARD_VALUE = 0.75


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ToyData(_Model):
    """The inputs that a decomposition was trained on; an active feature is uniform in [low, high]."""

    generation: Generation = "at_least_zero_active"
    feature_probability: float = Field(ge=0, le=1)
    low: float
    high: float
    #: Groups of features that are active together.
    synced: tuple[tuple[int, ...], ...] = ()


class ExpectedPattern(_Model):
    """Which importances to single features the known solution has at a site.

    ``identity``: one component for each feature, and one feature for each component. ``dense``: ``k``
    components that are needed by some features, all others by none.
    """

    address: str
    pattern: Literal["identity", "dense"]
    k: int = Field(ge=1)


@dataclass(frozen=True)
class ToyModule:
    """One matrix, x ↦ x Wᵀ + b with W [d_out, d_in]; ``path`` is its name in the public code."""

    address: Address
    path: str
    d_in: int
    d_out: int
    has_bias: bool
    reads: Space
    writes: Space


class _Toy(_Model):
    n_features: int = Field(ge=1, le=MAX_FEATURES)
    data: ToyData | None = None
    expected: tuple[ExpectedPattern, ...] = ()

    @model_validator(mode="after")
    def _data_fits(self) -> Self:
        groups = self.data.synced if self.data is not None else ()
        named = [index for group in groups for index in group]
        if len(set(named)) < len(named) or any(not 0 <= index < self.n_features for index in named):
            raise ValueError(
                f"groups of features that go together must be distinct and below {self.n_features}"
            )
        return self


class TmsConfig(_Toy):
    """outputs = ReLU(… hidden matrices … (x W₁ᵀ) W₂ᵀ + b)."""

    kind: Literal["tms"] = "tms"
    n_hidden: int = Field(ge=1, le=MAX_WIDTH)
    n_hidden_layers: int = Field(default=0, ge=0, le=1000)
    #: The last matrix is the first one transposed.
    tied: bool = False

    @property
    def modules(self) -> tuple[ToyModule, ...]:
        """All matrices in forward order."""
        n, h, last = self.n_features, self.n_hidden, self.n_hidden_layers
        first = ToyModule(Address(0, "mlp", "up"), "linear1", n, h, False, "features", "hidden")
        hidden = (
            ToyModule(Address(i + 1, "mlp", "up"), f"hidden_layers.{i}", h, h, False, "hidden", "hidden")
            for i in range(last)
        )
        final = ToyModule(Address(last, "mlp", "down"), "linear2", h, n, True, "hidden", "outputs")
        return (first, *hidden, final)


class ResidualMlpConfig(_Toy):
    """outputs = (x W_E + Σ_i act(r_i W_inᵀ + b_in) W_outᵀ + b_out) W_U, with r_i the sum so far."""

    kind: Literal["resid_mlp"] = "resid_mlp"
    d_embed: int = Field(ge=1, le=MAX_WIDTH)
    d_mlp: int = Field(ge=1, le=MAX_WIDTH)
    n_layers: int = Field(ge=1, le=1000)
    activation: Literal["gelu", "relu"]
    in_bias: bool = False
    out_bias: bool = False
    #: What the target was trained to put out: ``act_plus_resid`` act(c·x) + x, ``abs`` |c·x|.
    label: Literal["act_plus_resid", "abs"] | None = None
    #: c, one number for each feature.
    label_coefficients: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if self.label_coefficients is not None and len(self.label_coefficients) != self.n_features:
            raise ValueError(
                f"there are {len(self.label_coefficients)} label coefficients for {self.n_features} features"
            )
        return self

    @property
    def modules(self) -> tuple[ToyModule, ...]:
        """All matrices in forward order."""
        found: list[ToyModule] = []
        for i in range(self.n_layers):
            up, down = Address(i, "mlp", "up"), Address(i, "mlp", "down")
            d, m = self.d_embed, self.d_mlp
            found += [
                ToyModule(up, f"layers.{i}.mlp_in", d, m, self.in_bias, "residual", "neurons"),
                ToyModule(down, f"layers.{i}.mlp_out", m, d, self.out_bias, "neurons", "residual"),
            ]
        return tuple(found)


ToyConfig = Annotated[TmsConfig | ResidualMlpConfig, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[TmsConfig | ResidualMlpConfig] = TypeAdapter(ToyConfig)


def read_config(target: dict[str, Any]) -> TmsConfig | ResidualMlpConfig:
    """The ``target`` of a toy run's ``run.json``; raises ``pydantic.ValidationError``, a ValueError."""
    return _ADAPTER.validate_python(target)
