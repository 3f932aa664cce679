"""An n-gram model with interpolated modified Kneser–Ney smoothing: the yardstick for a target model.

Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", section 3.
"""

from __future__ import annotations

import numpy as np


def ngram_cross_entropy(train: np.ndarray, held_out: np.ndarray, order: int, vocab_size: int) -> float:
    """Mean cross-entropy in nats per token of ``held_out`` [m] under a model counted on ``train`` [n].

    Tokens whose n-gram would reach across the start of ``held_out`` are left out.
    """
    if order < 1 or len(train) < order or len(held_out) < order:
        raise ValueError("both texts need at least as many tokens as the order of the model")
    text = np.concatenate([train, held_out]).astype(np.int64)
    counted = slice(order - 1, len(train))
    scored = slice(len(train) + order - 1, len(text))
    # grams[n][i] numbers the n-gram that ends at position i; equal numbers mean equal n-grams.
    grams = [np.zeros(len(text), np.int64), np.unique(text, return_inverse=True)[1].astype(np.int64)]
    for n in range(2, order + 1):
        context = np.concatenate([[0], grams[n - 1][:-1]])
        pair = context * (int(grams[1].max()) + 1) + grams[1]
        pair[: n - 1] = -1 - np.arange(n - 1)  # too short a history: like nothing else
        grams.append(np.unique(pair, return_inverse=True)[1].astype(np.int64))

    probability = np.full(len(text[scored]), 1.0 / vocab_size)
    for n in range(1, order + 1):
        probability = _interpolate(grams, n, order, counted, scored, probability)
    return float(-np.log(probability).mean())


def _interpolate(
    grams: list[np.ndarray], n: int, order: int, counted: slice, scored: slice, lower: np.ndarray
) -> np.ndarray:
    """The order-n probability of every scored position, given the order n − 1 probability there."""
    gram = grams[n]
    context = np.concatenate([[0], grams[n - 1][:-1]])
    size, contexts = int(gram.max()) + 1, int(context.max()) + 1
    if n == order:
        counts = np.bincount(gram[counted], minlength=size)
    else:  # in how many different histories the n-gram was seen, not how often
        _, first = np.unique(grams[n + 1][counted], return_index=True)
        counts = np.bincount(gram[counted][first], minlength=size)
    _, first = np.unique(gram[counted], return_index=True)
    seen, its_context = gram[counted][first], context[counted][first]
    total = np.bincount(its_context, weights=counts[seen], minlength=contexts)

    n1, n2, n3, n4 = (max(1, int((counts == c).sum())) for c in (1, 2, 3, 4))
    ratio = n1 / (n1 + 2 * n2)
    discount = np.array([0.0, 1 - 2 * ratio * n2 / n1, 2 - 3 * ratio * n3 / n2, 3 - 4 * ratio * n4 / n3])
    discount = np.clip(discount, 0.0, [0, 1, 2, 3])
    removed = discount[np.minimum(counts, 3)]
    backoff_mass = np.bincount(its_context, weights=removed[seen], minlength=contexts)

    here, before = gram[scored], context[scored]
    kept = counts[here] - removed[here]
    known = total[before] > 0
    denominator = np.where(known, total[before], 1.0)
    return np.where(known, (kept + backoff_mass[before] * lower) / denominator, lower)
