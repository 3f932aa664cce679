"""What an attribution is: gradient of the target times activation of the source, by autograd.

This file is the meaning that everything faster must agree with, written to be read. The forward
pass has every component on, and every component activation is a *cut point*: the activation that
continues into the rest of the network is a fresh leaf, so that a gradient with respect to it counts
only paths that go through no other site's components. For a target t and a component source s::

    attr[t, s]     = Σ_p Σ_p' ∂y_t(p)/∂a_s(p') · a_s(p') · g_s(p')
    attr_abs[t, s] = the same with |y_t(p)| in place of y_t(p)
    attr_frozen    = attr with the scale of every norm held constant

where p, p' run over all positions of all sequences, y is the target's activation (or an output
token's logit) and g the causal importance, which always comes from the target model's own pass.
Other sources are vectors, and their contribution Σ gradient · vector is not weighted: token
embeddings and learned positions (one row per token id and per position), the bias of a site, and,
in mode ``node``, the output of a site's delta.

``delta`` says what happens to the part of a weight that the components leave unexplained:

=========== ================================ ===============================================
mode        forward pass                     gradient
=========== ================================ ===============================================
``node``    exactly the target model's       the delta's output is cut, and is a source
``off``     components (and biases) only     –
``through`` exactly the target model's       flows through the deltas: sources may lie any
                                             number of sites upstream of the target
=========== ================================ ===============================================

A matrix that is not decomposed is left *whole*: it is a part of the path and not a cut, in every mode.
Gradients flow through it, so that a source may lie any number of whole matrices upstream of the target,
and its bias is no source.

``attr_abs`` of an output token uses the centred logit, logit − mean over the vocabulary: the sign
of a raw logit is arbitrary, since a constant added to all of them changes no prediction.

In a *prompt* the same products are kept apart by position, and sources are not weighted: the edge from
source s at p' to target t at p is ∂y_t(p)/∂a_s(p') · a_s(p'). Summed over both positions and weighted by
g_s(p') they are the dataset's attributions of that prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compute.address import EMBED, OUTPUT, POSITION, Address
from compute.attribution.sums import RowKind
from compute.decomposition.model import Decomposition
from compute.targets.model import Trace

DefinitionDelta = Literal["node", "off", "through"]
Metric = Literal["attr", "attr_abs", "attr_frozen"]
#: A source block: the components of a site, its delta, its bias, all tokens, all positions.
Source = tuple[Address, RowKind]
#: Which components of a site (or tokens of ``embed`` and ``output``) to look at; absent: all.
Selection = Mapping[Address, Sequence[int]]


@dataclass(frozen=True)
class Edges:
    """Name of one block of attributions [n_targets, n_sources]."""

    metric: Metric
    target: Address
    source: Address
    kind: RowKind


@dataclass(frozen=True)
class CutPass:
    """A forward pass whose component activations, deltas and biases are leaves of the gradient.

    ``targets`` are the activations y [B, T, C] of every decomposed site (and the logits of
    ``output``) as functions of the leaves upstream; ``inputs`` the vectors [B, T, d_in] that each
    reads; ``outputs`` the values [B, T, d_out] that the sites write.
    """

    tokens: Tensor
    targets: dict[Address, Tensor]
    inputs: dict[Address, Tensor]
    outputs: dict[Address, Tensor]
    leaves: dict[Source, Tensor]


def cut_pass(
    decomposition: Decomposition, tokens: Tensor, delta: DefinitionDelta, *, freeze_norms: bool = False
) -> CutPass:
    """Run the attribution forward on ``tokens`` [B, T] and keep its leaves and targets."""
    target = decomposition.target
    leaves: dict[Source, Tensor] = {}
    activations: dict[Address, Tensor] = {}
    inputs: dict[Address, Tensor] = {}
    outputs: dict[Address, Tensor] = {}

    def leaf(source: Source, value: Tensor) -> Tensor:
        leaves[source] = value.detach().clone().requires_grad_()
        return leaves[source]

    def site(address: Address, x: Tensor) -> Tensor:
        if address not in decomposition.n_components:
            return target.linear(address)(x)
        inputs[address] = x
        activations[address] = x @ decomposition.V(address).detach()
        y = leaf((address, "component"), activations[address]) @ decomposition.U(address).detach()
        if delta != "off":
            unexplained = x @ decomposition.delta(address).detach().T
            y = y + (leaf((address, "delta"), unexplained) if delta == "node" else unexplained)
        bias = decomposition.bias(address)
        y = y if bias is None else y + leaf((address, "bias"), bias.expand_as(y))
        outputs[address] = y.detach()
        return y

    trace = Trace()  # tracing makes the model use elementary operations, which can also be vmapped
    with torch.enable_grad():
        embedded = leaf((EMBED, "embed"), target.token_embedding(tokens))
        positions = None
        if target.position_embedding is not None:
            positions = leaf((POSITION, "position"), target.position_embedding.weight[: tokens.shape[1]])
        activations[OUTPUT] = target(
            tokens,
            site=site,
            token_embedding=embedded,
            position_embedding=positions,
            trace=trace,
            freeze_norms=freeze_norms,
        )
    assert trace.final is not None
    inputs[OUTPUT] = trace.final
    return CutPass(tokens, activations, inputs, outputs, leaves)


def importance_on_target(decomposition: Decomposition, tokens: Tensor) -> dict[Address, Tensor]:
    """Causal importance [B, T, C] of every site, from the target model's own pass."""
    with torch.no_grad():
        return decomposition.causal_importance(decomposition.clean_pass(tokens)[1])


def source_contribution(
    source: Source, gradient: Tensor, leaf: Tensor, tokens: Tensor, importance: Tensor | None, n_rows: int
) -> Tensor:
    """Σ over positions of gradient × leaf, by row of the source block: [n_rows]."""
    address, kind = source
    product = gradient * leaf
    if kind == "component":
        return (product if importance is None else product * importance).sum((0, 1))
    if address == EMBED:
        return product.new_zeros(n_rows).index_add_(0, tokens.flatten(), product.sum(-1).flatten())
    if address == POSITION:
        total = product.new_zeros(n_rows)
        total[: len(product)] = product.sum(-1)
        return total
    return product.sum().reshape(1)


def attributions(
    decomposition: Decomposition,
    tokens: Tensor,
    *,
    delta: DefinitionDelta = "node",
    metrics: Iterable[Metric] = ("attr", "attr_abs"),
    ci_weighted: bool = True,
    targets: Selection | None = None,
    sources: Selection | None = None,
    importance: Mapping[Address, Tensor] | None = None,
) -> dict[Edges, Tensor]:
    """Every attribution on ``tokens`` [B, T], one backward pass per target and metric.

    ``targets``, when given, are the only targets computed; ``sources`` restricts the rows of the
    component and embedding sources that it names. ``importance`` replaces the model's own causal
    importances [B, T, C]. In mode ``through`` the sources of a target are all sites upstream.
    """
    if ci_weighted and importance is None:
        importance = importance_on_target(decomposition, tokens)
    config = decomposition.target.config
    n_rows = {EMBED: config.vocab_size, POSITION: config.context}
    result: dict[Edges, Tensor] = {}
    for metric in metrics:
        cut = cut_pass(decomposition, tokens, delta, freeze_norms=metric == "attr_frozen")
        for target in (*decomposition.addresses, OUTPUT):
            if targets is not None and target not in targets:
                continue
            values = cut.targets[target]
            if metric == "attr_abs" and target == OUTPUT:
                values = values - values.mean(-1, keepdim=True)
            values = (values.abs() if metric == "attr_abs" else values).sum((0, 1))
            reachable = _upstream(decomposition, cut, target, delta)
            chosen = range(len(values)) if targets is None else targets[target]
            rows: dict[Source, list[Tensor]] = {source: [] for source in reachable}
            for t in chosen:
                leaves = [cut.leaves[source] for source in reachable]
                gradients = torch.autograd.grad(
                    values[t], leaves, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                for source, leaf, gradient in zip(reachable, leaves, gradients, strict=True):
                    weight = None if importance is None or not ci_weighted else importance.get(source[0])
                    row = source_contribution(
                        source, gradient, leaf.detach(), tokens, weight, n_rows.get(source[0], 1)
                    )
                    if sources is not None and source[0] in sources and source[1] in ("component", "embed"):
                        row = row[torch.as_tensor(sources[source[0]], dtype=torch.long, device=row.device)]
                    rows[source].append(row)
            for (address, kind), values_by_target in rows.items():
                if values_by_target:
                    result[Edges(metric, target, address, kind)] = torch.stack(values_by_target)
    return result


def _upstream(
    decomposition: Decomposition, cut: CutPass, target: Address, delta: DefinitionDelta
) -> list[Source]:
    """The leaves that ``target`` depends on: its direct sources, or with ``through`` all before it."""
    topology = decomposition.topology
    if delta != "through":
        direct = topology.sources_of(target)
        return [source for source in cut.leaves if source[0] in direct]
    order = {point.name: i for i, point in enumerate(topology.read_points)}
    place = order[topology.read_point_of[target].name]
    return [
        (address, kind)
        for address, kind in cut.leaves
        if not address.is_site or order[topology.read_point_of[address].name] < place
    ]


@dataclass(frozen=True)
class DefinitionTiming:
    """Seconds for one batch by the definition, extrapolated from ``sampled`` of ``n_targets`` targets."""

    seconds: float
    sampled: int
    n_targets: int


def time_definition(
    decomposition: Decomposition,
    tokens: Tensor,
    *,
    metric: Metric,
    delta: DefinitionDelta = "off",
    sample: int = 4,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> DefinitionTiming:
    """Time the loop over targets on ``sample`` of each site's targets, scaled up to all of them.

    The target ``output`` counts d_model backward passes, as the published systems store it in
    residual space, and none for ``attr_abs``. The forward pass is left out, in the loop's favour.
    """
    generator = torch.Generator().manual_seed(seed)
    importance = importance_on_target(decomposition, tokens)
    seconds, sampled, total = 0.0, 0, 0
    for target in (*decomposition.addresses, OUTPUT):
        if target == OUTPUT:
            count = decomposition.target.config.vocab_size
            weight = 0 if metric == "attr_abs" else decomposition.target.config.d_model
        else:
            count = weight = decomposition.n_components[target]
        if not weight:
            continue
        chosen = torch.randperm(count, generator=generator)[:sample].tolist()

        def run(indices: list[int], target: Address = target) -> float:
            started = clock()
            attributions(
                decomposition,
                tokens,
                delta=delta,
                metrics=(metric,),
                targets={target: indices},
                importance=importance,
            )
            return clock() - started

        forward = min(run([]), run([]))
        seconds += max(run(chosen) - forward, 0.0) / len(chosen) * weight
        sampled += len(chosen)
        total += weight
    return DefinitionTiming(seconds, sampled, total)


@dataclass(frozen=True)
class PromptTarget:
    """What is explained in a prompt: Σ weight · y over (site or ``output``, position, index, weight).

    One term for a node; several output tokens for, say, a logit difference.
    """

    terms: tuple[tuple[Address, int, int, float], ...]

    @classmethod
    def node(cls, address: Address, position: int, index: int) -> PromptTarget:
        return cls(((address, position, index, 1.0),))


def prompt_attributions(
    decomposition: Decomposition,
    tokens: Tensor,
    targets: Iterable[PromptTarget],
    *,
    delta: DefinitionDelta = "node",
    metric: Literal["attr", "attr_abs"] = "attr",
) -> Iterator[dict[Source, Tensor]]:
    """For each target of the prompt ``tokens`` [T], its edges from every source at every position.

    Components give [T, C], vectors (embeddings, positions, biases, deltas) [T]. One backward pass per
    target; the forward pass is run once.
    """
    cut = cut_pass(decomposition, tokens[None], delta)
    values = {address: y[0] for address, y in cut.targets.items()}
    if metric == "attr_abs":
        values[OUTPUT] = values[OUTPUT] - values[OUTPUT].mean(-1, keepdim=True)
    leaves = list(cut.leaves.values())
    for target in targets:
        y = sum((w * values[address][p, i] for address, p, i, w in target.terms), tokens.new_zeros(()))
        gradients = torch.autograd.grad(
            y.abs() if metric == "attr_abs" else y,
            leaves,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        result: dict[Source, Tensor] = {}
        for source, leaf, gradient in zip(cut.leaves, leaves, gradients, strict=True):
            product = (gradient * leaf.detach()).view(len(tokens), -1)
            result[source] = product if source[1] == "component" else product.sum(1)
        yield result


def time_prompt_definition(
    decomposition: Decomposition,
    tokens: Tensor,
    targets: Mapping[Address, Sequence[PromptTarget]],
    *,
    delta: DefinitionDelta = "node",
    sample: int = 4,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> DefinitionTiming:
    """Time one backward pass per target, ``attr`` only, on ``sample`` of each address's targets,
    scaled up to all of them. The forward pass is left out, in the loop's favour."""
    generator = torch.Generator().manual_seed(seed)
    seconds, sampled, total = 0.0, 0, 0
    for here in targets.values():
        if not here:
            continue
        chosen = torch.randperm(len(here), generator=generator)[:sample].tolist()
        passes = prompt_attributions(
            decomposition, tokens, [here[0], *(here[i] for i in chosen)], delta=delta
        )
        next(passes)  # the forward pass, and the first backward pass's preparations
        started = clock()
        for _ in passes:
            pass
        seconds += (clock() - started) / len(chosen) * len(here)
        sampled += len(chosen)
        total += len(here)
    return DefinitionTiming(seconds, sampled, total)
