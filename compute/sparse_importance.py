"""Sparse circuits: the fewest (position, component) pairs that keep one prediction of one prompt.

The causal-importance function of a run says what is needed at every position for everything that
the model predicts there. Here the importances are optimised for a single purpose, the prediction at
one chosen position, so that most of what is alive turns out not to be needed.

**Parameters.** One number z for every pair that is alive in the target model's own pass (importance
above 0) at a position up to the chosen one. z starts at the importance itself, or at 1 if that is
above. Its importance is clamp(z, 0, 1) with the leaky gradients of compute/decomposition/sigmoids.py,
whatever sigmoid the run's own function ends in: so every pair can be turned off, also where that
function never gives 0. A pair that was not alive has no z: its importance is 0, exactly and always,
by construction.

**Objective**, for each coefficient λ of the sweep::

    task(z) + λ · Σ_pairs (upper(z) + 1e-12)^p / positions

where the second term is the importance minimality of compute/decomposition/losses.py and ``positions``
counts those up to the chosen one. The task, at the chosen position only, is ``kl``, the KL of the
target's whole next-token distribution to the model's, ``ce``, −log probability of one token, or
``logit``, −logit of one token. ``kl`` keeps the prediction as it is. ``ce`` and ``logit`` reward what
raises the token, so that the circuit may become surer of it than the target model ever was.

**Masks.** ``stochastic``: g + (1 − g)·U for a pair of importance g, where U is uniform in [0, 1] and
new at every step; what has no z is multiplied by U, and so is the delta of every site and position.
The circuit has to work whatever the rest does, as in training, but it may lean on the half of the
rest that is there on average. ``ci``: the importances are the masks and deltas are off; the circuit
has to work alone, but only under its own exact importances. With ``adversary_steps`` the U of every
pair that has a z is moved that many times by the sign of its gradient of the task, to 0 or to 1,
before z is; what was not alive, and the deltas, stay random, as in the regime ``adversarial`` of
compute/intervention.py.

**Sweep.** A row of the batch is a coefficient. All rows see the same random numbers and share
nothing else, so that each is what a run of its own with the same seed would give.

**The causal cone is kept whole.** Attention carries what happens at earlier positions to the chosen
one, so that a pair at any earlier position, at any depth, can be part of the circuit. Nothing is cut
from the result: every pair that the optimisation left alive at any position up to the chosen one is
returned, not only those at the chosen position or with an edge to it. Positions after it cannot
reach it; they take no part in the computation and their importances are 0. Only an importance
function that looks ahead is given the whole prompt, for where z starts.

The model itself is never touched: gradients are taken with respect to z only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compute.address import Address
from compute.decomposition.losses import MaskAndPenalty
from compute.decomposition.model import Decomposition
from compute.intervention import kl_by_position
from compute.progress import Report, silent
from compute.schedule import generator_at

Loss = Literal["ce", "kl", "logit"]
Masks = Literal["stochastic", "ci"]

#: Keeps the slope of x^p finite at 0, as in training.
EPS = 1e-12
#: Seconds between live snapshots.
SNAPSHOT_INTERVAL = 0.1
#: A history has between this many points and twice as many, or one for each step if these are fewer.
HISTORY_POINTS = 100
#: Draws of stochastic masks over which a finished circuit is judged.
DRAWS = 16
#: Rows of a sweep are computed together up to this many rows × positions, which bounds memory.
ROWS_TIMES_POSITIONS = 1024
_STREAM, _JUDGE_STREAM = 8, 9


@dataclass(frozen=True)
class CircuitSettings:
    """What is optimised; the module says how. Raises ``ValueError`` for what could not work.

    ``position`` is where the prediction is kept, counted from the end if negative. ``token`` is the
    one that is kept, by default the target model's most probable there; ``kl`` keeps the whole
    distribution and reports the probability of the token. ``adversary_steps`` > 0 needs
    ``stochastic`` masks, for there is nothing to move in the others.
    """

    loss: Loss = "kl"
    position: int = -1
    token: int | None = None
    coefficients: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    steps: int = 300
    learning_rate: float = 0.05
    p: float = 1.0
    masks: Masks = "stochastic"
    adversary_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.coefficients:
            raise ValueError("at least one coefficient is needed")
        if not all(math.isfinite(c) and c >= 0 for c in self.coefficients):
            raise ValueError("coefficients must be finite and not negative")
        if self.steps < 1:
            raise ValueError("at least one step is needed")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError("the learning rate must be above 0")
        if not 0 < self.p <= 2:
            raise ValueError("p must be above 0 and at most 2")
        if self.adversary_steps < 0:
            raise ValueError("the number of adversary steps must not be negative")
        if self.adversary_steps and self.masks != "stochastic":
            raise ValueError("an adversary moves stochastic masks; there is nothing to move in masks 'ci'")


@dataclass(frozen=True)
class Snapshot:
    """The sweep after ``step`` steps, one entry per coefficient, under the masks of that step.

    ``loss`` is the task alone, without minimality; ``alive`` counts pairs of importance above 0;
    ``probability`` is the token's, at the chosen position.
    """

    step: int
    loss: list[float]
    alive: list[int]
    probability: list[float]


@dataclass(frozen=True)
class HistoryPoint:
    """One coefficient's part of a :class:`Snapshot`."""

    step: int
    loss: float
    alive: int
    probability: float


@dataclass
class Circuit:
    """What one coefficient left alive.

    ``importance`` [T, C] of every site, for all positions of the prompt; ``alive`` counts those
    above 0. ``loss`` (the task), ``kl`` (from the target's distribution, in nats) and
    ``probability`` (of the token) are at the chosen position and under the kind of masks that was
    optimised, for stochastic ones the mean over ``DRAWS`` new draws. ``kl_alone`` and
    ``probability_alone`` are those of the circuit by itself: importances as masks, deltas off.
    """

    coefficient: float
    importance: dict[Address, Tensor]
    alive: int
    loss: float
    kl: float
    probability: float
    kl_alone: float
    probability_alone: float
    history: list[HistoryPoint]


@dataclass(frozen=True)
class _Judgement:
    """Task, KL and probability of some rows, each [rows]."""

    loss: Tensor
    kl: Tensor
    probability: Tensor

    @classmethod
    def of(cls, parts: list[_Judgement], joined: Callable[[list[Tensor]], Tensor]) -> _Judgement:
        """Judgements of several groups of rows, or of several draws, made into one."""
        columns = zip(*((part.loss, part.kl, part.probability) for part in parts), strict=True)
        return cls(*(joined(list(column)) for column in columns))


def unheard(snapshot: Snapshot) -> None:
    """A listener to snapshots that does nothing."""


def optimise(
    decomposition: Decomposition,
    tokens: Tensor,
    settings: CircuitSettings,
    *,
    report: Report = silent,
    snapshot: Callable[[Snapshot], None] = unheard,
) -> list[Circuit]:
    """One circuit of ``tokens`` [T] per coefficient of ``settings``, in their order.

    ``report`` is called before every pass and may cancel; ``snapshot`` ten times a second at most, and
    once at the end. Raises ``ValueError`` for a position or token that does not exist, and where
    nothing is alive.
    """
    sweep = _Sweep(decomposition, tokens, settings)
    optimiser = torch.optim.AdamW([sweep.z], lr=settings.learning_rate, weight_decay=0.0)
    history: list[Snapshot] = []
    every = max(1, settings.steps // HISTORY_POINTS)
    shown = -math.inf
    losses, probabilities = sweep.z.new_zeros(2, len(settings.coefficients))
    gradient = torch.zeros_like(sweep.z)
    sweep.z.grad = gradient
    for step in range(settings.steps):
        noise = sweep.noise(step)
        for rows in sweep.groups:
            report("searching", step, settings.steps)
            own_noise = noise.of_pairs
            for _ in range(settings.adversary_steps):
                own_noise = sweep.attack(noise, own_noise, rows)
                report("searching", step, settings.steps)
            losses[rows], probabilities[rows], gradient[:, rows] = sweep.gradient(noise, own_noise, rows)
        live = time.monotonic() - shown >= SNAPSHOT_INTERVAL
        if live or step % every == 0:
            now = Snapshot(step, losses.tolist(), sweep.alive(), probabilities.tolist())
            if step % every == 0:
                history.append(now)
            if live:
                snapshot(now)
                shown = time.monotonic()
        optimiser.step()
    report("searching", settings.steps, settings.steps)
    own, alone = _judge(sweep, settings, report)
    last = Snapshot(settings.steps, own.loss.tolist(), sweep.alive(), own.probability.tolist())
    history.append(last)
    snapshot(last)
    return [
        Circuit(
            coefficient,
            sweep.importance(row),
            last.alive[row],
            last.loss[row],
            own.kl[row].item(),
            last.probability[row],
            alone.kl[row].item(),
            alone.probability[row].item(),
            [HistoryPoint(s.step, s.loss[row], s.alive[row], s.probability[row]) for s in history],
        )
        for row, coefficient in enumerate(settings.coefficients)
    ]


def _judge(sweep: _Sweep, settings: CircuitSettings, report: Report) -> tuple[_Judgement, _Judgement]:
    """The finished circuits under the kind of masks that was optimised, and alone."""
    nothing = sweep.no_noise()
    alone = _Judgement.of([sweep.judge(nothing, nothing.of_pairs, rows) for rows in sweep.groups], torch.cat)
    if settings.masks == "ci":
        return alone, alone
    draws: list[_Judgement] = []
    for draw in range(DRAWS):
        noise = sweep.noise(draw, _JUDGE_STREAM)
        parts: list[_Judgement] = []
        for rows in sweep.groups:
            report("judging", draw, DRAWS)
            own_noise = noise.of_pairs
            for _ in range(settings.adversary_steps):
                own_noise = sweep.attack(noise, own_noise, rows)
            parts.append(sweep.judge(noise, own_noise, rows))
        draws.append(_Judgement.of(parts, torch.cat))
    report("judging", DRAWS, DRAWS)
    return _Judgement.of(draws, lambda tensors: torch.stack(tensors).mean(0)), alone


@dataclass(frozen=True)
class _Noise:
    """The random numbers of one draw, the same for all rows; zeros, and no deltas, for masks ``ci``.

    U of every component [1, positions · C] and of every delta [1, positions, 1]; ``of_pairs`` [n, 1]
    repeats those of what has a z, where an adversary starts.
    """

    components: dict[Address, Tensor]
    deltas: dict[Address, Tensor] | None
    of_pairs: Tensor


class _Sweep:
    """The parameters of all coefficients (K rows), and the passes that they are judged by.

    Passes take some rows, ``groups`` of which hold as many as bounded memory and a quick answer to a
    wish to stop allow; rows share nothing but the random numbers.
    """

    def __init__(self, decomposition: Decomposition, tokens: Tensor, settings: CircuitSettings) -> None:
        if tokens.dim() != 1:
            raise ValueError("one prompt is needed, as token ids [T]")
        length = len(tokens)
        if not -length <= settings.position < length:
            raise ValueError(f"position {settings.position} is outside the prompt of {length} tokens")
        self._decomposition = decomposition
        self._settings = settings
        self._length = length
        self._positions = settings.position % length + 1
        self._tokens = tokens[: self._positions]
        rows, together = len(settings.coefficients), max(1, ROWS_TIMES_POSITIONS // self._positions)
        self.groups = [slice(first, min(first + together, rows)) for first in range(0, rows, together)]
        with torch.no_grad():
            logits, inputs = decomposition.clean_pass(tokens[None, : self._positions])
            if decomposition.importance.sees_later_tokens:
                inputs = decomposition.clean_pass(tokens[None])[1]
            importance = decomposition.causal_importance(inputs)
        self._expected = logits[0, -1]
        token = int(self._expected.argmax()) if settings.token is None else settings.token
        if not 0 <= token < len(self._expected):
            raise ValueError(f"token {token} is outside the vocabulary of {len(self._expected)}")
        self._token = token

        # All z of a row in one column; a site's are consecutive.
        self._places: dict[Address, Tensor] = {}
        self._parts: dict[Address, slice] = {}
        start: list[Tensor] = []
        first = 0
        for address in decomposition.addresses:
            flat = importance[address][0, : self._positions].flatten().clamp(max=1)
            place = (flat > 0).nonzero()[:, 0]
            self._places[address] = place
            self._parts[address] = slice(first, first + len(place))
            first += len(place)
            start.append(flat[place])
        if not first:
            raise ValueError("no component is alive at any position up to the chosen one")
        self.z = torch.cat(start)[:, None].repeat(1, rows)
        self._p = self.z.new_tensor(settings.p)
        self._coefficients = self.z.new_tensor(settings.coefficients)

    # ---- masks ----

    def noise(self, step: int, stream: int = _STREAM) -> _Noise:
        if self._settings.masks == "ci":
            return self.no_noise()
        generator = generator_at(self._settings.seed, step, stream)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator).to(self.z)

        counts = self._decomposition.n_components
        components = {address: uniform(1, self._positions * count) for address, count in counts.items()}
        deltas = {address: uniform(1, self._positions, 1) for address in counts}
        of_pairs = torch.cat([components[a][:, place] for a, place in self._places.items()], 1).T
        return _Noise(components, deltas, of_pairs)

    def no_noise(self) -> _Noise:
        """Importances as masks, deltas off."""
        counts = self._decomposition.n_components
        zeros = {address: self.z.new_zeros(1, self._positions * count) for address, count in counts.items()}
        return _Noise(zeros, None, torch.zeros_like(self.z[:, :1]))

    def _logits(self, values: Tensor, noise: _Noise) -> Tensor:
        """Logits [rows, vocab] at the chosen position; ``values`` [n, rows] are the masks of what has a z."""
        rows = values.shape[1]
        masks: dict[Address, Tensor] = {}
        for address, place in self._places.items():
            rest = noise.components[address].expand(rows, -1)
            mask = rest.index_copy(1, place, values[self._parts[address]].T)
            masks[address] = mask.view(rows, self._positions, -1)
        site = self._decomposition.site_function(masks, noise.deltas)
        return self._decomposition.target(self._tokens.expand(rows, -1), site=site)[:, -1]

    # ---- objective ----

    def _task(self, logits: Tensor) -> Tensor:
        """The loss [rows]."""
        if self._settings.loss == "kl":
            return kl_by_position(self._expected, logits)
        if self._settings.loss == "logit":
            return -logits[:, self._token]
        return -torch.log_softmax(logits, -1)[:, self._token]

    def _probability(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, -1)[:, self._token]

    def gradient(self, noise: _Noise, own_noise: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Task and probability [rows], and the objective's gradient by z [n, rows].

        ``own_noise`` [n, 1 or rows] is the U of what has a z, ``noise`` that of everything else.
        """
        with torch.enable_grad():
            z = self.z[:, rows].detach().requires_grad_()
            masks, powered = MaskAndPenalty.apply(z, own_noise.expand_as(z), self._p, EPS)
            logits = self._logits(masks, noise)
            task = self._task(logits)
            # Rows share no parameter, so that the gradient of the sum is every row's own.
            objective = (task + self._coefficients[rows] * powered / self._positions).sum()
            (gradient,) = torch.autograd.grad(objective, [z])
        return task.detach(), self._probability(logits.detach()), gradient

    def attack(self, noise: _Noise, own_noise: Tensor, rows: slice) -> Tensor:
        """``own_noise`` [n, rows] after one step of size 1 up the gradient of the task, each row its own."""
        g = self.z[:, rows].clamp(0, 1)
        with torch.enable_grad():
            moving = own_noise.expand_as(g).detach().requires_grad_()
            task = self._task(self._logits(g + (1 - g) * moving, noise)).sum()
            (gradient,) = torch.autograd.grad(task, [moving])
        return (moving.detach() + gradient.sign()).clamp(0, 1)

    # ---- results ----

    def alive(self) -> list[int]:
        return (self.z > 0).sum(0).tolist()

    def importance(self, row: int) -> dict[Address, Tensor]:
        """[T, C] of every site for all positions of the prompt: zero wherever there is no z."""
        result: dict[Address, Tensor] = {}
        for address, place in self._places.items():
            count = self._decomposition.n_components[address]
            flat = self.z.new_zeros(self._length * count)
            flat[place] = self.z[self._parts[address], row].clamp(0, 1)
            result[address] = flat.view(self._length, count)
        return result

    @torch.no_grad()
    def judge(self, noise: _Noise, own_noise: Tensor, rows: slice) -> _Judgement:
        g = self.z[:, rows].clamp(0, 1)
        logits = self._logits(g + (1 - g) * own_noise, noise)
        return _Judgement(
            self._task(logits), kl_by_position(self._expected, logits), self._probability(logits)
        )
