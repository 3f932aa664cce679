"""What a prompt graph is asked for and what it is: settings, nodes and edges as columns.

A *node* is a component, token embedding, learned position, delta, bias, output token or custom
target at one position of the prompt. An *edge* leads from a source node to a target node and
carries two numbers, with a_s the source and y_t the target (definition in
compute/attribution/definition.py; sources are not weighted by causal importance)::

    attr     = ∂y_t/∂a_s · a_s
    attr_abs = ∂|y_t|/∂a_s · a_s      (for output tokens and custom targets: of the centred logits)

Both are in the units of y_t. Multiplied by the target's ``scale`` (‖U_c‖ of a component, otherwise
1) they are in units of the target's shown activation, y_c ‖U_c‖; thresholds and ranks are about
that product. Nothing here holds an object per node or edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from compute.attribution.definition import DefinitionDelta

#: ``NodeTable.index`` of a site's delta and bias.
DELTA_INDEX: Final = -1
BIAS_INDEX: Final = -2

Floats = NDArray[Any]
PromptMethod = Literal["closed_form", "fallback"]


@dataclass(frozen=True)
class OutputTerm:
    """``weight`` times the logit of ``token`` (an id) at ``position``."""

    position: int
    token: int
    weight: float


@dataclass(frozen=True)
class CustomTarget:
    """A named sum of logits; a logit difference has the weights 1 and −1."""

    name: str
    terms: tuple[OutputTerm, ...]

    @property
    def position(self) -> int:
        """Where the target's node stands: the largest position of its terms."""
        return max(term.position for term in self.terms)


@dataclass(frozen=True)
class PromptSettings:
    """What to compute.

    A component is a node where its causal importance is above ``alive_above``. An output token is a
    node at the ``output_positions`` where the target model's next-token probability is at least
    ``output_probability``, the ``outputs_at_most`` most probable of each position. Edges with
    |attr · scale[target]| below ``threshold`` are left out, and of the rest all but the
    ``max_edges`` strongest.
    """

    delta: DefinitionDelta = "node"
    alive_above: float = 0.0
    output_probability: float = 0.01
    outputs_at_most: int = 5
    output_positions: Literal["all", "last"] | tuple[int, ...] = "last"
    targets: tuple[CustomTarget, ...] = ()
    threshold: float = 0.0
    max_edges: int | None = None
    method: Literal["auto", "closed_form", "fallback"] = "auto"


@dataclass(frozen=True)
class Estimate:
    """An upper bound of what a graph takes: nodes (exact), edges and bytes of memory."""

    nodes: int
    edges: int
    bytes: int


class TooLargeError(ValueError):
    """A graph that would need more memory than allowed; the message says how much and what would fit."""

    def __init__(self, message: str, estimate: Estimate, limit: int) -> None:
        super().__init__(message)
        self.estimate = estimate
        self.limit = limit


@dataclass
class NodeTable:
    """All nodes, as columns of length n, ordered by address (forward order), position and index.

    ``site`` [int16] counts into ``addresses``; ``position`` [int16]; ``index`` [int32] is the
    component, the token id, the position, the number of the custom target, −1 for a delta, −2 for a
    bias. The rest is float32: ``ci`` (NaN where there is none); ``activation``, a component's
    y ‖U‖, the logit of an output token or custom target (of the pass that was attributed), the
    norm of any other vector; ``scale``. For output tokens only, NaN elsewhere: ``probability`` and
    ``logit`` of the target model, ``ci_probability`` and ``ci_logit`` of the model whose components
    are masked by their causal importance, each pair from one forward pass.
    """

    addresses: list[str]
    site: NDArray[np.int16]
    position: NDArray[np.int16]
    index: NDArray[np.int32]
    ci: NDArray[np.float32]
    activation: NDArray[np.float32]
    scale: NDArray[np.float32]
    probability: NDArray[np.float32]
    logit: NDArray[np.float32]
    ci_probability: NDArray[np.float32]
    ci_logit: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.site)

    def keys(self) -> list[str]:
        """The node keys, in order (grammar in compute/address.py)."""
        names = {DELTA_INDEX: "delta", BIAS_INDEX: "bias"}
        return [
            f"{self.addresses[site]}:{position}:{names.get(index, index)}"
            for site, position, index in zip(
                self.site.tolist(), self.position.tolist(), self.index.tolist(), strict=True
            )
        ]


@dataclass
class EdgeColumns:
    """Edges as columns of length m, sorted by target, then source.

    ``source`` and ``target`` [uint32] are node numbers; ``attr`` and ``attr_abs`` [float32, or
    float64 where the model is].
    """

    source: NDArray[np.uint32]
    target: NDArray[np.uint32]
    attr: Floats
    attr_abs: Floats

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Omitted:
    """Edges left out by the threshold or the cap: how many, and their share (0 to 1) of
    Σ|attr · scale| and of Σ|attr_abs · scale| over all edges."""

    edges: int
    share: float
    share_abs: float


@dataclass
class PromptGraph:
    """Nodes and edges of one prompt.

    ``tokens`` [T] int64; ``method`` says how the edges were computed and ``method_reason`` why;
    ``peak_bytes`` is the most memory seen above what the process held at the start.
    """

    tokens: NDArray[np.int64]
    settings: PromptSettings
    nodes: NodeTable
    edges: EdgeColumns
    omitted: Omitted
    method: PromptMethod
    method_reason: str
    seconds: float
    peak_bytes: int
