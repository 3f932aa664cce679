"""Target models of the public pretraining code as ours: configuration, tensors and names of sites.

A :class:`TargetSource` says how a model written by another program becomes a
:class:`compute.targets.model.TargetModel`: which of its tensors is which of ours, and which of its
modules is which site. Hugging Face models have theirs in ``backend/importing/huggingface.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from compute.address import Address
from compute.targets.config import TargetConfig
from compute.topology import Topology


@dataclass(frozen=True)
class Parameter:
    """How one of our tensors is got from the source's state dict."""

    #: Its name there, e.g. ``h.0.attn.q_proj.weight``.
    name: str
    #: The source stores [d_in, d_out], as the Conv1D modules of GPT-2 do.
    transpose: bool = False
    #: Our row i is the source's row ``rows[i]`` (after transposing); None: the same order.
    rows: tuple[int, ...] | None = None
    #: Other names of the same values (tied weights); where they are present they must be equal.
    copies: tuple[str, ...] = ()


class Matrix(Protocol):
    """A matrix of a target, [d_out, d_in]."""

    @property
    def d_in(self) -> int: ...
    @property
    def d_out(self) -> int: ...
    @property
    def has_bias(self) -> bool: ...


class Source(Protocol):
    """What a checkpoint is taken apart by: of a language model, or of a toy model (``toys``)."""

    @property
    def class_name(self) -> str: ...
    @property
    def tensors(self) -> Mapping[str, Parameter]: ...
    @property
    def sites(self) -> Mapping[str, Address]: ...
    @property
    def embeddings(self) -> tuple[str, ...]: ...
    @property
    def buffers(self) -> tuple[str, ...]: ...
    @property
    def converted(self) -> tuple[str, ...]: ...
    @property
    def matrices(self) -> Mapping[Address, Matrix]:
        """All matrices in forward order."""
        ...

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of our tensors."""
        ...

    def rows_of(self, address: Address) -> tuple[int, ...] | None:
        """The permutation of a site's outputs, which its U's columns follow; None: the same order."""
        ...


@dataclass(frozen=True)
class TargetSource:
    """A source model's shape, and where our tensors and sites are in it."""

    #: Name of the source's class, e.g. ``LlamaSimpleMLP``.
    class_name: str
    config: TargetConfig
    #: Our tensor (``target.blocks.0.attn.q.weight``) → how it is got.
    tensors: Mapping[str, Parameter]
    #: Concrete module path (``h.0.attn.q_proj``) → address.
    sites: Mapping[str, Address]
    #: Modules that embed tokens or positions or read out logits: matrices, but no sites of ours.
    embeddings: tuple[str, ...] = ()
    #: fnmatch patterns of names in the state dict that are no parameters and may be there or not.
    buffers: tuple[str, ...] = ()
    #: Full sentences about what is stored in another form than it had (topic ``converted``).
    converted: tuple[str, ...] = ()
    #: Dotted paths of settings of the model's configuration that are not used.
    ignored: tuple[str, ...] = field(default=())

    @property
    def matrices(self) -> Mapping[Address, Matrix]:
        """All matrices in forward order."""
        return Topology(self.config).modules

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of our tensors; none of them takes memory."""
        import torch

        from compute.targets.model import TargetModel

        with torch.device("meta"):
            state = TargetModel(self.config).state_dict()
        return {f"target.{name}": tuple(value.shape) for name, value in state.items()}

    def rows_of(self, address: Address) -> tuple[int, ...] | None:
        """The permutation of a site's outputs, which its U's columns follow; None: the same order."""
        module = Topology(self.config).modules[address].module_path
        return self.tensors[f"target.{module}.weight"].rows

    def path_of(self, address: Address) -> str:
        """The concrete module path of a site."""
        return next(path for path, where in self.sites.items() if where == address)


def half_from_adjacent(n_heads: int, width: int) -> tuple[int, ...]:
    """Row order that turns heads rotated in adjacent pairs into heads rotated in halves.

    Adjacent pairs rotate dimensions (2j, 2j + 1) by the angle that halves give (j, j + width/2).
    Scores q·k do not change where both are permuted alike.
    """
    one_head = [*range(0, width, 2), *range(1, width, 2)]
    return tuple(head * width + row for head in range(n_heads) for row in one_head)
