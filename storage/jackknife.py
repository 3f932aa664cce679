"""Normalisation of raw sums, and standard errors over groups of documents.

    value = X / N / √(S / n)

X: raw sum of an edge, N: its source's denominator, S: the target's sum of squares, n: tokens. Every
denominator is clamped at 1e-10. Importances that may be negative (sigmoid ``swish_hard``) can make N
negative: such a source is never clearly on, and its value is 0. The standard error is the delete-one-group jackknife of that value
over the K groups that hold any text: with θ_(g) the value without group g,
SE² = (K−1)/K · Σ_g (θ_(g) − mean θ)² (Efron and Stein 1981, Annals of Statistics 9, 586). For raw sums
the same formula reduces to SE² = K · var(x_g).
"""

from __future__ import annotations

import numpy as np

CLAMP = 1e-10
#: Standard errors that fewer groups support are not shown.
MIN_SUPPORT = 5


def normalise(
    raw: np.ndarray, source: np.ndarray, squares: np.ndarray, tokens: np.ndarray | float
) -> np.ndarray:
    """X / N / √(S / n), elementwise with broadcasting; the square root is clamped, not its inside."""
    rms = np.sqrt(np.maximum(squares, 0.0) / np.maximum(tokens, CLAMP))
    divisor = np.where(source < 0, np.inf, np.maximum(source, CLAMP))
    return raw / divisor / np.maximum(rms, CLAMP)


def standard_errors(
    raw: np.ndarray, source: np.ndarray, squares: np.ndarray, tokens: np.ndarray, *, normalised: bool
) -> np.ndarray:
    """Standard errors [n] of n edges from group values ``raw``, ``source``, ``squares`` [G, n] and
    ``tokens`` [G]; NaN where fewer than :data:`MIN_SUPPORT` groups hold the source."""
    used = tokens > 0
    raw, source, squares, counts = raw[used], source[used], squares[used], tokens[used, None]
    k = len(raw)
    if k < MIN_SUPPORT:
        return np.full(raw.shape[1], np.nan)
    if normalised:
        theta = normalise(
            raw.sum(0) - raw, source.sum(0) - source, squares.sum(0) - squares, counts.sum(0) - counts
        )
        errors = np.sqrt((k - 1) / k * np.square(theta - theta.mean(0)).sum(0))
    else:
        errors = np.sqrt(k * raw.var(0, ddof=1))
    shown: np.ndarray = np.where(supports(source) >= MIN_SUPPORT, errors, np.nan)
    return shown


def supports(source: np.ndarray) -> np.ndarray:
    """Groups [n] in which each source occurs, from its denominators [G, n]."""
    return np.count_nonzero(source > 0, axis=0)
