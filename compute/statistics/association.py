"""How strongly two things go together: a component with a token, or with another component.

Both are about positions. *This* (a) is a component, *other* (b) a token or a component; of N
positions a holds at n_a, b at n_b and both at n_ab; E = n_a n_b / N is what chance would give. For
output tokens n_b and n_ab are sums of the target model's probabilities. The words mean the same for
tokens and for components:

=========  ==========================  ==================================================
precision  n_ab / n_b                  share of the other's positions at which this fires
recall     n_ab / n_a                  share of this one's firings with the other
jaccard    n_ab / (n_a + n_b − n_ab)   overlap
lift       (n_ab + ½) / (E + ½)        how much more often than by chance
pmi        ln lift                     the same in nats, 0 by chance
=========  ==========================  ==================================================

Precision, recall and jaccard are plain shares; the first two come with Wilson intervals. Lift is
smoothed towards 1, so that it is finite where two things never meet and near 1 where nothing is
known: it is the posterior mean of λ where n_ab is Poisson with mean λ E and λ is Gamma(½, ½) before
anything is seen. The interval of PMI holds the middle 95 % of that posterior, Gamma(n_ab + ½, E + ½).
It is nominal: positions of a text are not independent draws, and thousands of pairs are compared.

What is *strongest* is ranked by the end of the interval nearer to zero: something seen three times
must be far more extreme than something seen three hundred times, and a pair that never meets is a
strong negative only if chance would have brought it together (two times or more).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final, Literal

import numpy as np

SMOOTHING: Final = 0.5
#: Standard deviations on either side: 95 % of a normal distribution.
Z: Final = 1.959963984540054
#: Below this the low quantile of a gamma distribution is taken from its series.
_SMALL: Final = 4.0


@dataclass(frozen=True)
class Associations:
    """One entry for each other; every array is [n] float64. ``expected`` is n_a n_b / N."""

    joint: np.ndarray
    expected: np.ndarray
    precision: np.ndarray
    precision_low: np.ndarray
    precision_high: np.ndarray
    recall: np.ndarray
    recall_low: np.ndarray
    recall_high: np.ndarray
    jaccard: np.ndarray
    lift: np.ndarray
    pmi: np.ndarray
    pmi_low: np.ndarray
    pmi_high: np.ndarray

    def take(self, which: np.ndarray) -> Associations:
        """Those of some others, in the order of ``which``."""
        return Associations(*(getattr(self, field.name)[which] for field in fields(self)))


def associations(
    joint: np.ndarray, count_a: float | np.ndarray, count_b: np.ndarray, total: float
) -> Associations:
    """Associations of one a with many b, from n_ab [n], n_a, n_b [n] and N.

    Shares of nothing are nan, with the interval 0 to 1. Raises ``ValueError`` for counts that no
    positions can have.
    """
    n_ab = np.asarray(joint, np.float64)
    n_a = np.broadcast_to(np.asarray(count_a, np.float64), n_ab.shape)
    n_b = np.asarray(count_b, np.float64)
    most = np.minimum(n_a, n_b)
    slack = 1e-6 * (1 + float(total)) + 5e-4 * most  # masses are rounded, those of small harvests more
    if (n_ab < 0).any() or (n_ab > most + slack).any():
        raise ValueError("something happens together more often than alone")
    if (np.maximum(n_a, n_b) > total + slack).any() or (n_a + n_b - n_ab > total + slack).any():
        raise ValueError("counts exceed the number of positions")
    n_ab = np.minimum(n_ab, most)
    precision, precision_low, precision_high = wilson(n_ab, n_b)
    recall, recall_low, recall_high = wilson(n_ab, n_a)
    union = n_a + n_b - n_ab
    jaccard = np.divide(n_ab, union, out=np.full(n_ab.shape, np.nan), where=union > 0)
    expected = n_a * n_b / total if total > 0 else np.zeros_like(n_ab)
    shape, rate = n_ab + SMOOTHING, expected + SMOOTHING
    low, high = _gamma_quantiles(shape)
    return Associations(
        joint=n_ab,
        expected=expected,
        precision=precision,
        precision_low=precision_low,
        precision_high=precision_high,
        recall=recall,
        recall_low=recall_low,
        recall_high=recall_high,
        jaccard=jaccard,
        lift=shape / rate,
        pmi=np.log(shape / rate),
        pmi_low=np.log(low / rate),
        pmi_high=np.log(high / rate),
    )


def _gamma_quantiles(shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5 % and 97.5 % quantiles of Gamma(shape, 1) for shapes from ½, within 2 %.

    Wilson and Hilferty's cube; for low quantiles of small shapes, where it fails, the series of the
    incomplete gamma function, solved by iteration.
    """
    centre, spread = 1 - 1 / (9 * shape), Z / (3 * np.sqrt(shape))
    high = shape * (centre + spread) ** 3
    low = shape * np.maximum(centre - spread, 0.0) ** 3
    small = np.flatnonzero(shape < _SMALL)
    if len(small):
        k, inverse = np.unique(shape[small], return_inverse=True)
        first = np.array([math.exp((math.log(0.025) + math.lgamma(x + 1)) / x) for x in k])
        x = first  # of the first term alone; an error shrinks at least fourfold in each round
        for _ in range(8):
            series = np.ones_like(x)
            for term in range(8, 0, -1):
                series = 1 + series * x / (k + term)
            x = first * (np.exp(x) / series) ** (1 / k)
        low[small] = x[inverse]
    return low, high


def _apart(found: Associations, sign: Literal["positive", "negative"]) -> np.ndarray:
    """How far the interval of each is from chance, on the side asked for; not above 0 where it is not."""
    return found.pmi_low if sign == "positive" else -found.pmi_high


def apart(found: Associations, sign: Literal["positive", "negative"]) -> int:
    """How many :func:`strongest` lists at most."""
    return int(np.count_nonzero(_apart(found, sign) > 0))


def strongest(found: Associations, k: int, sign: Literal["positive", "negative"]) -> np.ndarray:
    """Indices of the ``k`` strongest positive or negative ones; fewer where the intervals include 0.

    Ranked by ``pmi_low`` falling or ``pmi_high`` rising, equal ones by their number.
    """
    score = _apart(found, sign)
    chosen = np.flatnonzero(score > 0)
    if len(chosen) > k:
        # All that are no weaker than the k-th: a few, of which equal ones stay in order.
        weakest = np.partition(score[chosen], len(chosen) - k)[len(chosen) - k]
        chosen = chosen[score[chosen] >= weakest]
    return chosen[np.argsort(-score[chosen], kind="stable")][:k]


def wilson(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares, and the two ends of their Wilson intervals; nan, 0 and 1 of no trials."""
    some = trials > 0
    n = np.where(some, trials, 1.0)
    p = np.minimum(successes / n, 1.0)
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return (
        np.where(some, p, np.nan),
        np.where(some, np.maximum(centre - half, 0.0), 0.0),
        np.where(some, np.minimum(centre + half, 1.0), 1.0),
    )
