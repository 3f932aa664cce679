"""Wire models of toy runs: decomposed models of features instead of tokens. As in schemas.py.

A matrix is named by its address, like everywhere, and by its path in the code that trained it, which
is what its users know it by.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from backend.request_schemas import Body, Finite
from backend.schemas import Schema

#: ``expected``: the pattern that the known solution has; ``identity``: component i is feature i's own;
#: ``dense``: the most used first; ``index``: as they are stored.
ToyOrder = Literal["expected", "identity", "dense", "index"]
#: The most entries of a matrix that one answer holds.
MAX_CELLS = 500_000
#: The largest input of a feature, so that outputs stay finite.
MAX_INPUT = 1e6


class ToyPattern(Schema):
    """Which importances to single features the known solution has at a matrix."""

    pattern: Literal["identity", "dense"] = Field(
        description="identity: one component for each feature; dense: k components that act, all others never"
    )
    k: int = Field(description="identity: the features; dense: the components that act")


class ToyMatrix(Schema):
    address: str
    path: str = Field(description="The module's name in the code that trained it, e.g. linear1")
    d_in: int
    d_out: int
    has_bias: bool
    reads: Literal["features", "hidden", "residual", "neurons", "outputs"]
    writes: Literal["features", "hidden", "residual", "neurons", "outputs"]
    n_components: int = Field(description="0: left whole")
    expected: ToyPattern | None = Field(description="null where no solution is known")


class ToyInputs(Schema):
    """The inputs that it was trained on; an active feature is uniform between low and high."""

    generation: str
    feature_probability: float
    low: float
    high: float
    synced: list[list[int]] = Field(description="Groups of features that are active together")


class ToyDescription(Schema):
    run: str
    kind: Literal["tms", "resid_mlp"]
    n_features: int
    n_hidden: int | None = Field(description="Hidden dimensions of a tms")
    tied: bool | None = Field(description="Whether a tms's last matrix is its first one transposed")
    d_embed: int | None = Field(description="Residual dimensions of a residual MLP")
    d_mlp: int | None = Field(description="Neurons of each of its blocks")
    activation: str | None = Field(description="Of its neurons: gelu or relu")
    label: Literal["act_plus_resid", "abs"] | None = Field(
        description="What the model was trained to put out: act(c·x) + x or |c·x|; null where not known"
    )
    label_coefficients: list[float] | None = Field(description="c; null: 1 for every feature")
    inputs: ToyInputs | None
    standard_value: float = Field(description="Of a single feature where nothing else is asked for")
    matrices: list[ToyMatrix] = Field(description="In forward order, those left whole included")
    seconds: float


class ToyErrors(Schema):
    tolerance: float
    wrong: int = Field(description="Entries that are off by more than the tolerance")


class ToyResponse(Schema):
    """Importances and activations of a matrix's components when one feature at a time is switched on."""

    run: str
    address: str
    value: float
    order: ToyOrder
    permuted: bool = Field(description="Whether the components are in another order than they are stored in")
    first_feature: int
    components: list[int] = Field(description="Which component each column is")
    total_components: int
    total_features: int
    alive: int = Field(description="Components with CI > 0.1 for some single feature")
    importance: list[list[float]] = Field(description="[features][components], each in [0, 1]")
    activation: list[list[float]] = Field(description="x·V, [features][components]")
    expected: ToyPattern | None
    errors: list[ToyErrors] = Field(description="Against the expected pattern; empty where there is none")
    seconds: float
    peak_bytes: int


class ToyLink(Schema):
    """How strongly one component writes what another reads."""

    key: str
    path: str
    weight: float = Field(
        description="‖V‖ (U · V') ‖U'‖: independent of how each component's size is shared between its V and U"
    )


class ToyComponent(Schema):
    run: str
    key: str
    address: str
    index: int
    path: str
    value: float
    V: list[float] = Field(description="What it reads, [d_in]")
    U: list[float] = Field(description="What it writes, [d_out]")
    V_norm: float
    U_norm: float
    reads_features: list[float] | None = Field(
        description="What it reads of each feature along the linear path; null where none leads there"
    )
    writes_outputs: list[float] | None = Field(
        description="What it writes to each output along the linear path; null where none leads there"
    )
    importance: list[float] = Field(description="To each single feature at the value, [n_features]")
    activation: list[float] = Field(description="x·V for each single feature at the value, [n_features]")
    sources: list[ToyLink] = Field(description="Components that write what it reads, strongest first")
    targets: list[ToyLink] = Field(description="Components that read what it writes, strongest first")
    seconds: float
    peak_bytes: int


class ToyRequest(Body):
    """Any inputs; every row has one number for each feature."""

    inputs: Annotated[
        list[Annotated[list[Annotated[Finite, Field(ge=-MAX_INPUT, le=MAX_INPUT)]], Field(max_length=4096)]],
        Field(min_length=1, max_length=64),
    ]


class ToySiteAnswer(Schema):
    address: str
    importance: list[list[float]] = Field(description="[inputs][components]")
    activation: list[list[float]] = Field(description="[inputs][components]")


class ToyAnswer(Schema):
    run: str
    outputs: list[list[float]] = Field(description="Of the target, [inputs][features]")
    masked: list[list[float]] = Field(description="With every component multiplied by its CI, no delta")
    label: list[list[float]] | None = Field(description="What it was trained to put out")
    sites: list[ToySiteAnswer]
    seconds: float
    peak_bytes: int


class ToyOutputErrors(Schema):
    """Mean squared errors of the outputs against the target's."""

    inputs: Literal["single_features", "sampled"]
    count: int
    value: float | None = Field(description="Of the single features; null for sampled inputs")
    all_on: float = Field(description="All components on, no delta")
    with_deltas: float = Field(description="All components and all deltas on: rounding errors only")
    masked: float = Field(description="Components multiplied by their CI, no delta")
    masked_with_deltas: float = Field(description="Components multiplied by their CI, and all deltas on")
    nothing: float = Field(description="All components off: what the others can be compared with")
    power: float = Field(description="Mean square of the target's outputs")
    l0: dict[str, float] = Field(description="Mean components with CI > 0 by address")


class ToySiteFit(Schema):
    address: str
    faithfulness: float = Field(description="Mean square of the entries of Δ = W − VU")
    relative: float = Field(description="‖Δ‖ / ‖W‖")
    expected: ToyPattern | None
    errors: list[ToyErrors]


class ToyEvaluation(Schema):
    run: str
    faithfulness: float = Field(description="Mean square of the entries of all deltas together")
    outputs: list[ToyOutputErrors]
    sites: list[ToySiteFit]
    errors: list[ToyErrors] = Field(description="Against the known solution, all matrices together")
    seconds: float
    peak_bytes: int
