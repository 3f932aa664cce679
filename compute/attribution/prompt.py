"""Position-resolved attributions of one prompt (docs/mathematics.md, section 9).

graph = prompt_graph(decomposition, tokens, PromptSettings(delta="node"))
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from compute.address import Address
from compute.attribution.prompt_data import (
    BIAS_INDEX,
    DELTA_INDEX,
    CustomTarget,
    EdgeColumns,
    Estimate,
    NodeTable,
    Omitted,
    OutputTerm,
    PromptGraph,
    PromptSettings,
    TooLargeError,
)
from compute.decomposition.model import Decomposition
from compute.progress import Report, silent

__all__ = [
    "BIAS_INDEX",
    "DELTA_INDEX",
    "CustomTarget",
    "EdgeColumns",
    "Estimate",
    "NodeTable",
    "Omitted",
    "OutputTerm",
    "PromptGraph",
    "PromptSettings",
    "TooLargeError",
    "estimate",
    "prompt_graph",
]


def estimate(
    decomposition: Decomposition,
    tokens: Tensor,
    settings: PromptSettings,
    importance: Mapping[Address, Tensor] | None = None,
) -> Estimate:
    """Nodes, edges and bytes that the graph of ``tokens`` [T] would take at most."""
    raise NotImplementedError


def prompt_graph(
    decomposition: Decomposition,
    tokens: Tensor,
    settings: PromptSettings,
    *,
    importance: Mapping[Address, Tensor] | None = None,
    memory_limit: int | None = None,
    report: Report = silent,
) -> PromptGraph:
    """The graph of ``tokens`` [T]. ``importance`` [T, C] by site replaces the model's own."""
    raise NotImplementedError
