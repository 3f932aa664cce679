"""What components do on given tokens: causal importance and scaled activation, site by site.

``activity`` is the one pass that everything live shares. ``firings`` reduces it while it runs, so that
a long text on a large model never holds all components at all tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compute.address import Address
from compute.decomposition.model import Decomposition
from compute.progress import Report


@dataclass(frozen=True)
class Columns:
    """Components along T tokens, n of them: ``ci`` and ``activation`` are [T, n] float32.

    ``flat`` [n] counts components over all sites in display order. Activations are scaled by ‖U‖.
    """

    flat: np.ndarray
    ci: np.ndarray
    activation: np.ndarray


@dataclass(frozen=True)
class TextFirings:
    """What components do on one text of T tokens.

    ``asked`` are the components asked for; ``strongest`` those with the largest summed causal
    importance, or with the largest excess of it over what is usual, largest first. ``top`` [T, m] are the flat indices of each token's strongest, −1 pads,
    with ``top_ci`` and ``top_activation``. ``per_token`` [T] is how many fire at each token.
    """

    asked: Columns
    strongest: Columns
    top: np.ndarray
    top_ci: np.ndarray
    top_activation: np.ndarray
    per_token: np.ndarray
    firing: int


@torch.no_grad()
def activity(
    model: Decomposition, tokens: Tensor, sites: Sequence[Address] | None = None
) -> Iterator[tuple[Address, Tensor, Tensor]]:
    """(site, causal importance, scaled activation), both [B, T, C], for tokens [B, T].

    Sites come in display order. Components and delta together are exactly the target model, so what
    is read here is what they do in it.
    """
    _, inputs = model.clean_pass(tokens)
    importance_at = model.importance_at(inputs)
    for address in sorted(model.addresses) if sites is None else sites:
        activation = inputs[address] @ model.V(address)
        yield address, importance_at(address, activation), activation * model.U(address).norm(dim=1)


def firings(
    model: Decomposition,
    tokens: Tensor,
    report: Report,
    *,
    asked: Sequence[int] = (),
    k: int = 10,
    per_token: int = 3,
    threshold: float = 0.0,
    usual: np.ndarray | None = None,
) -> TextFirings:
    """What the components do on ``tokens`` [T]; ``asked`` are flat indices, in any order.

    A component fires where its causal importance is above ``threshold``. With ``usual``, the mean
    causal importance of every component, the strongest are those furthest above it: what is nearly
    always on would else be the strongest on any text.
    """
    length, n_sites = len(tokens), len(model.addresses)
    wanted = np.asarray(asked, np.int64)
    empty = np.zeros((length, len(wanted)), np.float32)
    chosen = Columns(wanted, empty, empty.copy())
    strongest, tops = _Strongest(length, k), _TopOfTokens(length, per_token, threshold)
    counts, firing, start = np.zeros(length, np.int64), 0, 0
    for number, (_, importance, scaled) in enumerate(activity(model, tokens[None])):
        report("components", number, n_sites)
        ci, activation = importance[0].float().cpu().numpy(), scaled[0].float().cpu().numpy()
        flat = np.arange(start, start + ci.shape[1])
        start += ci.shape[1]
        fires = ci > threshold
        counts += fires.sum(1)
        firing += int(fires.any(0).sum())
        here = np.flatnonzero((wanted >= flat[0]) & (wanted <= flat[-1]))
        chosen.ci[:, here] = ci[:, wanted[here] - flat[0]]
        chosen.activation[:, here] = activation[:, wanted[here] - flat[0]]
        base = np.zeros(len(flat), np.float32) if usual is None else usual[flat].astype(np.float32)
        strongest.offer(flat, ci, activation, base)
        tops.offer(flat, ci, activation, base)
    return TextFirings(chosen, strongest.columns, tops.index, tops.ci, tops.activation, counts, firing)


class _Strongest:
    """The k components with the largest summed excess of causal importance, of those offered so far."""

    def __init__(self, length: int, k: int) -> None:
        none = np.empty((length, 0), np.float32)
        self.columns = Columns(np.empty(0, np.int64), none, none)
        self._sums = np.empty(0)
        self._k = k

    def offer(self, flat: np.ndarray, ci: np.ndarray, activation: np.ndarray, usual: np.ndarray) -> None:
        sums = ci.sum(0, dtype=np.float64) - len(ci) * usual.astype(np.float64)
        order = np.argsort(-sums, kind="stable")[: self._k]
        order = order[sums[order] > 0]
        joined = np.concatenate([self._sums, sums[order]])
        # Stable: of equal ones the earlier in display order comes first.
        kept = np.argsort(-joined, kind="stable")[: self._k]
        self._sums = joined[kept]
        self.columns = Columns(
            np.concatenate([self.columns.flat, flat[order]])[kept],
            np.concatenate([self.columns.ci, ci[:, order]], 1)[:, kept],
            np.concatenate([self.columns.activation, activation[:, order]], 1)[:, kept],
        )


class _TopOfTokens:
    """At each token the m firing components of the largest excess of CI, then the largest |activation|."""

    def __init__(self, length: int, m: int, threshold: float) -> None:
        self._threshold = threshold
        self.index = np.full((length, m), -1)
        self.ci = np.zeros((length, m), np.float32)
        self.activation = np.zeros((length, m), np.float32)
        self._rank = np.zeros((length, m), np.uint64)

    def offer(self, flat: np.ndarray, ci: np.ndarray, activation: np.ndarray, usual: np.ndarray) -> None:
        m = self.index.shape[1]
        # What does not fire comes after all that does: a bit above those of the rank, which are 63.
        fires = (ci > self._threshold).astype(np.uint64) << np.uint64(63)
        rank = _rank(np.maximum(ci - usual, 0), activation) | fires
        index = np.broadcast_to(flat, ci.shape)
        if ci.shape[1] > m > 0:
            best = np.argpartition(rank, ci.shape[1] - m, axis=1)[:, -m:]
            best.sort(axis=1)
            rank = np.take_along_axis(rank, best, 1)
            ci, activation, index = (np.take_along_axis(a, best, 1) for a in (ci, activation, index))
        rank = np.concatenate([self._rank, rank], 1)
        ci = np.concatenate([self.ci, ci], 1)
        activation = np.concatenate([self.activation, activation], 1)
        index = np.concatenate([self.index, index], 1)
        order = np.argsort(~rank, axis=1, kind="stable")[:, :m]
        self._rank = np.take_along_axis(rank, order, 1)
        self.ci, self.activation, index = (np.take_along_axis(a, order, 1) for a in (ci, activation, index))
        self.index = np.where(self.ci > self._threshold, index, -1)


def _rank(ci: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """One number that sorts by CI, then by |activation|: the bits of a float ≥ 0 sort as it does."""
    high, low = (np.abs(a).astype(np.float32).view(np.uint32).astype(np.uint64) for a in (ci, activation))
    return (high << np.uint64(32)) | low
