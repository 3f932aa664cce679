"""Forward passes in which something is switched: sets of components, single nodes, one edge.

:func:`intervene` asks whether a selection of components explains the prediction, :func:`change`
what one node does, and :func:`check_edge` whether an edge of a prompt graph says what it claims.
Everything here is about one prompt: tokens [T], masks and logits by position. Token ids are used as
they are given; nothing is tokenised again.

In :func:`intervene` every component at every position is *selected* (always fully on), *alive but
not selected*, or *not alive and not selected*. With U a uniform random number in [0, 1], a new one
for each position and component, the masks that multiply the activations are

============== ======== ===================== ================== ==============================
regime         selected alive, not selected   not alive          delta of each site and position
============== ======== ===================== ================== ==============================
``ci``         1        0                     0                  0 (off)
``stochastic`` 1        U                     U                  U
``adversarial`` 1       worst found in [0, 1] U                  U
``target_sans`` 1       0                     1                  1 (on)
============== ======== ===================== ================== ==============================

so that ``ci`` with everything selected is the components-only model, and ``target_sans`` with
everything alive selected is the target model itself. ``ci`` asks for the selection to work alone,
``stochastic`` and ``adversarial`` for it to work whatever the rest does (on average; at worst), and
``target_sans`` what the rest of what is alive was good for. The four regimes follow the public
parameter-decomposition code.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from compute.address import EMBED, OUTPUT, POSITION, Address, Node, NodeKey
from compute.attribution.definition import CutPass, DefinitionDelta, Source, cut_pass
from compute.attribution.prompt_data import OutputTerm
from compute.decomposition.model import Decomposition
from compute.progress import Report, silent
from compute.schedule import generator_at
from compute.targets.model import Trace

Regime = Literal["ci", "stochastic", "adversarial", "target_sans"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
#: Random numbers of the regimes are independent streams, so that no regime's result depends on
#: which others are asked for.
_STREAM: dict[Regime, int] = {"stochastic": 6, "adversarial": 7}


@dataclass(frozen=True)
class Adversary:
    """Projected signed-gradient ascent in [0, 1]: ``steps`` moves of ``step_size`` per entry.

    A step size of 1 throws each entry to one end of the interval, by the gradient's sign.
    """

    steps: int = 4
    step_size: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("the adversary needs at least one step")
        if not 0 < self.step_size <= 1:
            raise ValueError("the adversary's step size must be above 0 and at most 1")


def kl_by_position(expected: Tensor, logits: Tensor) -> Tensor:
    """KL(softmax expected ‖ softmax logits) in nats, [..., T] from logits [..., T, vocab]."""
    target = torch.log_softmax(expected, -1)
    return (target.exp() * (target - torch.log_softmax(logits, -1))).sum(-1)


# ---- sets of components -------------------------------------------------------------------------


def intervene(
    decomposition: Decomposition,
    tokens: Tensor,
    selected: Mapping[Address, Tensor],
    alive: Mapping[Address, Tensor],
    *,
    regimes: Sequence[Regime] = REGIMES,
    seed: int = 0,
    adversary: Adversary | None = None,
    report: Report = silent,
) -> dict[Regime, Tensor]:
    """Logits [T, vocab] of ``tokens`` [T] under each of ``regimes``; the module's table says which.

    ``selected`` and ``alive`` are boolean [T, C] by site; a site that is absent has none. What is
    random depends on ``seed``, the regime and the place only, neither on the selection nor on the
    other regimes. The adversary starts at random masks, follows the sign of the gradient of
    KL(target ‖ model), summed over the positions, and the worst masks it met are used, so that more
    steps are never a weaker attack.
    """
    chosen = _site_masks(decomposition, tokens, selected, "selected")
    living = _site_masks(decomposition, tokens, alive, "alive")
    adversary = adversary or Adversary()
    total = sum(adversary.steps + 2 if regime == "adversarial" else 1 for regime in regimes)
    done = 0

    def passed() -> None:
        nonlocal done
        done += 1
        report("interventions", done, total)

    report("interventions", done, total)
    result: dict[Regime, Tensor] = {}
    for regime in regimes:
        if regime == "adversarial":
            attack = _Attack(decomposition, tokens, chosen, living, seed)
            passed()
            for _ in range(adversary.steps):
                attack.step(adversary.step_size)
                passed()
            result[regime] = attack.worst
        else:
            masks, deltas = _fixed_masks(decomposition, regime, chosen, living, seed)
            result[regime] = _masked_logits(decomposition, tokens, masks, deltas).detach()
        passed()
    return result


def _site_masks(
    decomposition: Decomposition, tokens: Tensor, given: Mapping[Address, Tensor], what: str
) -> dict[Address, Tensor]:
    """``given`` as [1, T, C] for every site; raises ``ValueError`` for what does not fit."""
    if tokens.dim() != 1 or not len(tokens):
        raise ValueError("one prompt of at least one token is needed, as token ids [T]")
    for address in given:
        if address not in decomposition.n_components:
            raise ValueError(f"{address} is not a decomposed site of this model")
    masks: dict[Address, Tensor] = {}
    for address, count in decomposition.n_components.items():
        shape = (len(tokens), count)
        mask = given.get(address)
        if mask is None:
            mask = torch.zeros(shape, dtype=torch.bool)
        if tuple(mask.shape) != shape:
            raise ValueError(f"{what} of {address} has shape {list(mask.shape)}, expected {list(shape)}")
        masks[address] = mask.to(tokens.device, torch.bool)[None]
    return masks


def _fixed_masks(
    decomposition: Decomposition,
    regime: Regime,
    selected: Mapping[Address, Tensor],
    alive: Mapping[Address, Tensor],
    seed: int,
) -> tuple[dict[Address, Tensor], dict[Address, Tensor] | None]:
    """Masks [1, T, C] and delta masks [1, T, 1] of a regime that needs no gradient; None: no delta."""
    like = decomposition.V(decomposition.addresses[0])
    if regime == "ci":
        return {address: mask.to(like) for address, mask in selected.items()}, None
    if regime == "target_sans":
        kept = {address: (selected[address] | ~alive[address]).to(like) for address in selected}
        return kept, {address: torch.ones_like(mask[..., :1]) for address, mask in kept.items()}
    noise, deltas = _noise(decomposition, selected, seed, _STREAM[regime])
    return {a: torch.where(mask, 1.0, noise[a]) for a, mask in selected.items()}, deltas


def _noise(
    decomposition: Decomposition, shapes: Mapping[Address, Tensor], seed: int, stream: int
) -> tuple[dict[Address, Tensor], dict[Address, Tensor]]:
    """U(0, 1) for every component [1, T, C] and every delta [1, T, 1], in the order of the sites."""
    generator = generator_at(seed, 0, stream)
    like = decomposition.V(decomposition.addresses[0])
    noise: dict[Address, Tensor] = {}
    deltas: dict[Address, Tensor] = {}
    for address in decomposition.addresses:
        shape = shapes[address].shape
        # Drawn as float32 whatever the model is, for the same masks in any precision.
        noise[address] = torch.rand(shape, generator=generator).to(like)
        deltas[address] = torch.rand((*shape[:-1], 1), generator=generator).to(like)
    return noise, deltas


def _masked_logits(
    decomposition: Decomposition,
    tokens: Tensor,
    masks: Mapping[Address, Tensor],
    deltas: Mapping[Address, Tensor] | None,
) -> Tensor:
    """Logits [T, vocab] of the masked model."""
    return decomposition.target(tokens[None], site=decomposition.site_function(masks, deltas))[0]


class _Attack:
    """Ascent of KL(target ‖ model) over the masks of what is alive and not selected."""

    def __init__(
        self,
        decomposition: Decomposition,
        tokens: Tensor,
        selected: Mapping[Address, Tensor],
        alive: Mapping[Address, Tensor],
        seed: int,
    ) -> None:
        self._decomposition = decomposition
        self._tokens = tokens
        self._selected = selected
        self._movable = {address: alive[address] & ~selected[address] for address in selected}
        self._sources, self._deltas = _noise(decomposition, selected, seed, _STREAM["adversarial"])
        with torch.no_grad():
            self._expected = decomposition.target(tokens[None])[0]
        self._kl = -1.0
        self.worst = self._expected
        self._gradients = self._evaluate()

    def step(self, size: float) -> None:
        self._sources = {
            address: torch.where(
                self._movable[address], (source + size * gradient.sign()).clamp(0, 1), source
            )
            for (address, source), gradient in zip(self._sources.items(), self._gradients, strict=True)
        }
        self._gradients = self._evaluate()

    def _evaluate(self) -> tuple[Tensor, ...]:
        """One pass: keeps the logits if they are the worst so far; the gradient by each source."""
        with torch.enable_grad():
            sources = {a: source.detach().requires_grad_() for a, source in self._sources.items()}
            masks = {a: torch.where(self._selected[a], 1.0, source) for a, source in sources.items()}
            logits = _masked_logits(self._decomposition, self._tokens, masks, self._deltas)
            kl = kl_by_position(self._expected, logits).sum()
            gradients = torch.autograd.grad(kl, list(sources.values()))
        if kl.item() > self._kl:
            self._kl, self.worst = kl.item(), logits.detach()
        return gradients


# ---- single nodes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeChange:
    """Multiply what a node contributes by ``factor``: 0 ablates it, 1 changes nothing.

    ``index`` is a component, ``"delta"`` or ``"bias"`` of a site; with the address ``embed`` it is
    the token id at ``position``, and with ``position`` the position itself.
    """

    address: Address
    position: int
    index: int | Node
    factor: float


@torch.no_grad()
def change(decomposition: Decomposition, tokens: Tensor, changes: Sequence[NodeChange]) -> Tensor:
    """Logits [T, vocab] of the target model on ``tokens`` [T] with some nodes scaled.

    Everything else, deltas included, is exactly the target model; everything downstream is computed
    anew, so that the factor of a node that itself lies downstream of another change multiplies the
    activation which that change has left it. Raises ``ValueError`` for a node that does not exist
    or is given twice.
    """
    return _changed_pass(decomposition, tokens, changes, components_only=False)[0]


def _changed_pass(
    decomposition: Decomposition, tokens: Tensor, changes: Sequence[NodeChange], *, components_only: bool
) -> tuple[Tensor, dict[Address, Tensor]]:
    """Logits [T, vocab] and every site's input [T, d_in]; ``components_only``: a model without deltas."""
    target = decomposition.target
    by_address: dict[Address, list[NodeChange]] = {}
    seen: set[tuple[Address, int, int | Node]] = set()
    for edit in changes:
        _check_node(decomposition, tokens, edit.address, edit.position, edit.index)
        node = (edit.address, edit.position, edit.index)
        if node in seen:
            raise ValueError(f"{edit.address}:{edit.position}:{edit.index} is changed twice")
        seen.add(node)
        by_address.setdefault(edit.address, []).append(edit)
    inputs: dict[Address, Tensor] = {}

    def site(address: Address, x: Tensor) -> Tensor:
        linear, bias = target.linear(address), decomposition.bias(address)
        if address not in decomposition.n_components:
            return linear(x)
        inputs[address] = x[0]
        V, U = decomposition.V(address), decomposition.U(address)
        y = linear(x)
        if components_only:
            y = (x @ V) @ U + (0.0 if bias is None else bias)
        for edit in by_address.get(address, ()):
            read = x[:, edit.position]
            if edit.index == "bias":
                assert bias is not None  # checked above
                part = bias
            elif edit.index == "delta":
                part = read @ linear.weight.T - (read @ V) @ U
            else:
                part = (read @ V[:, edit.index])[:, None] * U[edit.index]
            y[:, edit.position] += (edit.factor - 1) * part
        return y

    embedded = target.token_embedding(tokens[None])
    for edit in by_address.get(EMBED, ()):
        embedded[:, edit.position] *= edit.factor
    positions = None
    if target.position_embedding is not None:
        positions = target.position_embedding.weight[: len(tokens)].clone()
        for edit in by_address.get(POSITION, ()):
            positions[edit.position] *= edit.factor
    logits = target(tokens[None], site=site, token_embedding=embedded, position_embedding=positions)
    return logits[0], inputs


def _check_node(
    decomposition: Decomposition, tokens: Tensor, address: Address, position: int, index: int | Node
) -> None:
    """Raise ``ValueError`` unless the node is one whose contribution can be scaled."""
    name = f"{address}:{position}:{index}"
    if tokens.dim() != 1:
        raise ValueError("one prompt is needed, as token ids [T]")
    if not 0 <= position < len(tokens):
        raise ValueError(f"{name} lies outside the prompt of {len(tokens)} tokens")
    if address == EMBED:
        if index != tokens[position].item():
            raise ValueError(f"the prompt has token {tokens[position].item()} where {name} is")
    elif address == POSITION:
        if decomposition.target.position_embedding is None or index != position:
            raise ValueError(f"{name} is not a learned position of this model")
    elif address not in decomposition.n_components:
        raise ValueError(f"{name} is neither a component nor an embedding of this model")
    elif index == "bias":
        if decomposition.bias(address) is None:
            raise ValueError(f"{name}: the site has no bias")
    elif index != "delta" and not 0 <= index < decomposition.n_components[address]:
        raise ValueError(f"{name}: the site has {decomposition.n_components[address]} components")


# ---- one edge -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class EdgeCheck:
    """What an edge predicts and what happens, in the target's own units (activation or logit).

    The source's activation is multiplied by 1 + ``epsilon`` at its position. ``predicted`` is
    epsilon · attr. ``actual`` is how much the target moves while every other cut point (component,
    bias, embedding and, in mode ``node``, delta) keeps its value, which leaves exactly the paths
    that an attribution counts; it differs from ``predicted`` by curvature only, so their ratio goes
    to 1 with epsilon. ``total`` is how much the target moves when nothing is held. ``before`` is
    the target's value, ``after`` = ``before`` + ``actual``.
    """

    epsilon: float
    predicted: float
    actual: float
    total: float
    before: float
    after: float


def check_edge(
    decomposition: Decomposition,
    tokens: Tensor,
    source: NodeKey,
    target: NodeKey,
    *,
    delta: DefinitionDelta = "node",
    epsilon: float = 0.01,
    terms: Sequence[OutputTerm] | None = None,
) -> EdgeCheck:
    """Perturb ``source`` in the attribution forward on ``tokens`` [T] and compare with the edge.

    Sources are components, token embeddings, learned positions, biases and, in mode ``node``,
    deltas; targets are components, output tokens and custom targets, for which ``terms`` are given.
    ``delta`` means what it means in compute/attribution/definition.py. Computed in float64 on a
    copy of the model, because the change of a logit by a weak edge is below what float32 resolves.
    Raises ``ValueError`` for nodes that cannot be the ends of an edge.
    """
    if not epsilon:
        raise ValueError("epsilon must not be 0: nothing would be perturbed")
    _check_node(decomposition, tokens, source.address, source.position, source.index)
    if source.index == "delta" and delta != "node":
        raise ValueError(f"{source}: deltas are nodes in mode node only, not in mode {delta}")
    read = _Reading(decomposition, tokens, target, terms)
    precise = decomposition
    if precise.V(precise.addresses[0]).dtype != torch.float64:
        precise = copy.deepcopy(decomposition).to(torch.float64)

    cut = cut_pass(precise, tokens[None], delta)
    leaf_name: Source = (source.address, _leaf_kind(source))
    leaf = cut.leaves[leaf_name]
    value = read(precise, cut.targets[OUTPUT][0], {a: x[0] for a, x in cut.inputs.items()})
    (gradient,) = torch.autograd.grad(value, [leaf], allow_unused=True, materialize_grads=True)
    place = _entry(source)
    attr = (gradient[place] * leaf[place]).sum().item()
    with torch.no_grad():
        moved = leaf.clone()
        moved[place] *= 1 + epsilon
        held = read(precise, *_held_pass(precise, cut, delta, leaf_name, moved))
        off = delta == "off"
        edit = NodeChange(source.address, source.position, source.index, 1 + epsilon)
        free = read(precise, *_changed_pass(precise, tokens, [edit], components_only=off))
        still = read(precise, *_changed_pass(precise, tokens, [], components_only=off))
    before = value.item()
    actual = held.item() - before
    return EdgeCheck(epsilon, epsilon * attr, actual, (free - still).item(), before, before + actual)


def _leaf_kind(source: NodeKey) -> Literal["component", "delta", "bias", "embed", "position"]:
    if source.address == EMBED:
        return "embed"
    if source.address == POSITION:
        return "position"
    return source.index if isinstance(source.index, str) else "component"


def _entry(source: NodeKey) -> tuple[int, ...]:
    """Where the node is in its leaf [1, T, …] ([T, d] for learned positions)."""
    if source.address == POSITION:
        return (source.position,)
    if isinstance(source.index, str) or source.address == EMBED:
        return (0, source.position)
    return (0, source.position, source.index)


class _Reading:
    """The target's value, a scalar, from the logits [T, vocab] and the sites' inputs [T, d_in]."""

    def __init__(
        self,
        decomposition: Decomposition,
        tokens: Tensor,
        target: NodeKey,
        terms: Sequence[OutputTerm] | None,
    ) -> None:
        self._terms: tuple[OutputTerm, ...] = ()
        self._target = target
        vocab, length = decomposition.target.config.vocab_size, len(tokens)
        if target.address.kind == "target":
            if not terms:
                raise ValueError(f"{target}: the terms of the custom target are needed")
            self._terms = tuple(terms)
        elif target.address == OUTPUT and isinstance(target.index, int):
            self._terms = (OutputTerm(target.position, target.index, 1.0),)
        elif target.address not in decomposition.n_components or isinstance(target.index, str):
            raise ValueError(f"{target} is not a target: neither a component nor an output token")
        else:
            _check_node(decomposition, tokens, target.address, target.position, target.index)
        for term in self._terms:
            if not (0 <= term.position < length and 0 <= term.token < vocab):
                raise ValueError(
                    f"{target}: token {term.token} at position {term.position} is outside the "
                    f"vocabulary of {vocab} or the prompt of {length} tokens"
                )

    def __call__(
        self, decomposition: Decomposition, logits: Tensor, inputs: Mapping[Address, Tensor]
    ) -> Tensor:
        if self._terms:
            return torch.stack([t.weight * logits[t.position, t.token] for t in self._terms]).sum()
        V = decomposition.V(self._target.address).detach()
        assert isinstance(self._target.index, int)
        return inputs[self._target.address][self._target.position] @ V[:, self._target.index]


def _held_pass(
    decomposition: Decomposition, cut: CutPass, delta: DefinitionDelta, changed: Source, value: Tensor
) -> tuple[Tensor, dict[Address, Tensor]]:
    """The attribution forward with every leaf at the value it had in ``cut``, but for ``changed``.

    Logits [T, vocab] and what every site reads, [T, d_in].
    """
    leaves = cut.leaves | {changed: value}
    inputs: dict[Address, Tensor] = {}

    def site(address: Address, x: Tensor) -> Tensor:
        if address not in decomposition.n_components:
            return decomposition.target.linear(address)(x)
        inputs[address] = x[0]
        y = leaves[address, "component"] @ decomposition.U(address)
        if delta == "node":
            y = y + leaves[address, "delta"]
        elif delta == "through":
            y = y + x @ decomposition.delta(address).T
        return y if decomposition.bias(address) is None else y + leaves[address, "bias"]

    logits = decomposition.target(
        cut.tokens,
        site=site,
        token_embedding=leaves[EMBED, "embed"],
        position_embedding=leaves.get((POSITION, "position")),
        trace=Trace(),  # the same elementary operations as the pass that the gradient is taken of
    )
    return logits[0], inputs
