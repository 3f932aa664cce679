"""Attributions of token and position embeddings by forward-mode differentiation.

What is reached from the embeddings through matrices left whole has no closed form, and a backward pass
for every direction of every read point goes back through all those blocks. The embeddings of one
position of all sequences are one direction of the input, and sequences do not meet: one forward
derivative (Σ over the position's embedding of ∂x/∂embedding · embedding) gives what that position
contributes to every vector x that is read anywhere, for ``attr`` and ``attr_abs`` of all its readers
at once. There are as many passes as positions in a window, whatever the number of targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from compute.address import EMBED, OUTPUT, POSITION, Address
from compute.attribution.capture import Capture
from compute.attribution.definition import CutPass
from compute.attribution.read_point import ReadPointSums
from compute.decomposition.model import Decomposition
from compute.targets.model import Trace

#: Tangents are batched up to about this many elements of the widest activation.
_BATCH_ELEMENTS: Final = 2**23


class _Forgetful(dict[Any, Any]):
    """Keeps nothing that is put in."""

    def __setitem__(self, key: object, value: object) -> None:
        pass


@dataclass(frozen=True)
class PseudoTangents:
    """What positions ``positions`` of a pseudo source contribute: to each vector that is read,
    tangents [n, B, T, d_in] by one of its readers."""

    source: Address
    positions: slice
    by_reader: dict[Address, Tensor]


def add_pseudo_sources(
    decomposition: Decomposition, outs: Mapping[Address, ReadPointSums], capture: Capture, cut: CutPass
) -> None:
    """Add the embeddings' share of one batch to read points, given by one of their readers each."""
    wanted = [reader for reader, out in outs.items() if out.layout.has_pseudo_sources]
    for found in _tangents(decomposition, wanted, cut):
        for reader, tangents in found.by_reader.items():
            out = outs[reader]
            rows = out.rows(found.source, "embed" if found.source == EMBED else "position")
            if rows is None:
                continue
            # By position and sequence; what the sequences' positions get is added up.
            out.add_signed(*_by_row(tangents.sum(2), rows.start, found, capture.tokens))
            if out.abs_targets is None:
                continue
            signs = out.abs_targets.activations(capture).sign().unflatten(0, capture.tokens.shape)
            changes = torch.stack([(tangent @ out.abs_targets.V * signs).sum(1) for tangent in tangents])
            out.add_abs(*_by_row(changes, rows.start, found, capture.tokens))


def worthwhile(n_positions: int, n_pseudo_sources: int, n_directions: int) -> bool:
    """Whether passes by position are fewer than backward passes by direction."""
    return n_positions * n_pseudo_sources < n_directions


def _by_row(values: Tensor, first: int, found: PseudoTangents, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Sum values [n, B, k] to rows of the source block: distinct row numbers, and their sums."""
    if found.source == POSITION:
        rows = torch.arange(found.positions.start, found.positions.stop, device=values.device)
        return first + rows, values.sum(1)
    ids, place = torch.unique(tokens[:, found.positions].T, return_inverse=True)
    total = values.new_zeros(len(ids), values.shape[-1])
    return first + ids, total.index_add_(0, place.flatten(), values.flatten(0, 1))


def entering_tangents(decomposition: Decomposition, tokens: Tensor, block: int) -> dict[Address, Tensor]:
    """What each position's embedding contributes to the residual stream that ``block`` reads in a prompt.

    Tangents [T, T, d] by pseudo source: first where the embedding is, then where it is felt. There is
    no decomposed site before ``block``.
    """
    target = decomposition.target
    length = len(tokens)
    leaves = {EMBED: target.token_embedding(tokens)[None].detach()}
    if target.position_embedding is not None:
        leaves[POSITION] = target.position_embedding.weight[:length].detach()

    def read(values: dict[Address, Tensor]) -> Tensor:
        entering = target.enter(
            tokens[None],
            block,
            token_embedding=values[EMBED],
            position_embedding=values.get(POSITION),
            trace=Trace(norms=_Forgetful(), attention=_Forgetful(), mlp=_Forgetful()),
        )
        return entering.residual[0]

    def derivative(tangents: dict[Address, Tensor]) -> Tensor:
        return torch.func.jvp(read, (leaves,), (tangents,))[1]

    config = target.config
    at_once = max(1, _BATCH_ELEMENTS // (length * max(config.d_ff, config.d_model, config.n_heads * length)))
    found: dict[Address, Tensor] = {}
    for source, leaf in leaves.items():
        parts: list[Tensor] = []
        for start in range(0, length, at_once):
            tangents = _seeds(leaves, source, leaf, slice(start, min(start + at_once, length)))
            parts.append(torch.func.vmap(derivative)(tangents))
        found[source] = torch.cat(parts)
    return found


def _seeds(
    leaves: dict[Address, Tensor], source: Address, leaf: Tensor, positions: slice
) -> dict[Address, Tensor]:
    """Tangents [n, …] of all leaves: of ``source`` its own value at one of the positions each, else zero."""
    n = positions.stop - positions.start
    tangents = {other: value.new_zeros(n, *value.shape) for other, value in leaves.items()}
    for i in range(n):
        tangents[source][i, ..., positions.start + i, :] = leaf[..., positions.start + i, :]
    return tangents


def _tangents(decomposition: Decomposition, readers: list[Address], cut: CutPass) -> Iterator[PseudoTangents]:
    target = decomposition.target
    config = target.config
    length = cut.tokens.shape[1]
    leaves = {EMBED: cut.leaves[EMBED, "embed"].detach()}
    if (POSITION, "position") in cut.leaves:
        leaves[POSITION] = cut.leaves[POSITION, "position"].detach()

    def read(values: dict[Address, Tensor]) -> dict[Address, Tensor]:
        """Every vector that ``readers`` read as a function of the embeddings, with all sites cut."""
        inputs: dict[Address, Tensor] = {}

        def site(address: Address, x: Tensor) -> Tensor:
            if address in readers:
                inputs[address] = x
            return cut.outputs[address] if address in cut.outputs else target.linear(address)(x)

        inputs[OUTPUT] = target(
            cut.tokens,
            site=site,
            token_embedding=values[EMBED],
            position_embedding=values.get(POSITION),
            # Traced passes take elementary operations, which have forward derivatives. Nothing is kept.
            trace=Trace(norms=_Forgetful(), attention=_Forgetful(), mlp=_Forgetful()),
            unembed=False,
        )
        return {reader: inputs[reader] for reader in readers}

    def derivative(tangents: dict[Address, Tensor]) -> dict[Address, Tensor]:
        return torch.func.jvp(read, (leaves,), (tangents,))[1]

    widest = cut.tokens.numel() * max(config.d_ff, config.d_model, config.n_heads * length)
    at_once = max(1, _BATCH_ELEMENTS // widest)
    for source, leaf in leaves.items():
        for start in range(0, length, at_once):
            positions = slice(start, min(start + at_once, length))
            tangents = _seeds(leaves, source, leaf, positions)
            yield PseudoTangents(source, positions, torch.func.vmap(derivative)(tangents))
