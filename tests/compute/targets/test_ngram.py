"""The n-gram yardstick against hand-made cases and the laws of probability."""

import math

import numpy as np
import pytest

from compute.targets.ngram import ngram_cross_entropy


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_after_any_history_sum_to_one(order: int) -> None:
    text = np.random.default_rng(order).integers(0, 6, 300)
    for start in (10, 57, 200):
        history = text[start : start + order - 1]
        losses = [ngram_cross_entropy(text, np.append(history, word), order, 6) for word in range(6)]
        assert math.isclose(sum(math.exp(-loss) for loss in losses), 1.0, rel_tol=1e-12)


def test_a_cycle_is_learned_from_its_contexts() -> None:
    cycle = np.tile([0, 1, 0, 2], 200)
    # A bigram model knows what follows 1 and 2, and must guess after 0; a trigram knows everything.
    assert ngram_cross_entropy(cycle, cycle, 2, 3) == pytest.approx(0.5 * math.log(2), abs=0.02)
    assert ngram_cross_entropy(cycle, cycle, 3, 3) < 0.02


def test_unigram_is_the_entropy_of_the_frequencies_for_much_text() -> None:
    text = np.repeat([0, 1], [6000, 2000])
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert ngram_cross_entropy(text, text, 1, 2) == pytest.approx(expected, abs=1e-3)


def test_too_little_text() -> None:
    with pytest.raises(ValueError, match="at least as many tokens"):
        ngram_cross_entropy(np.arange(3), np.arange(9), 4, 10)
