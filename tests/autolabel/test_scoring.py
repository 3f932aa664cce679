"""Questions that a label is scored by, and the intervals of their answers; all counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.autolabel.facts import Window
from backend.autolabel.scoring import ImpossibleError, Question, question, score, set_score, wilson
from compute.statistics import association
from storage.label_records import Trial, TrialKind

KEY = "0.attn.q:0"


def window(position: int, ci: tuple[float, ...] = (0.0, 0.9, 0.0, 0.0), centre: int = 1) -> Window:
    tokens = tuple(f"{position}.{i} " for i in range(len(ci)))
    return Window(position, tokens, ci, tuple(ci), centre)


class Texts:
    """Firings at every tenth position, silent texts far away."""

    threshold = 0.0

    def __init__(self, firing: list[Window], silent: int = 40) -> None:
        self._firing = firing
        self._silent = [window(10_000 + 10 * i, (0.0,) * 4) for i in range(silent)]

    def firing(self, key: str) -> list[Window]:
        assert key == KEY
        return self._firing

    def silent(self, key: str) -> list[Window]:
        assert key == KEY
        return self._silent


MANY = Texts([window(10 * i) for i in range(60)])


def ask(texts: Texts, kind: TrialKind, number: int = 0, shown: list[list[int]] | None = None) -> Question:
    return question(texts, KEY, kind, number, shown or [], seed=0)


def test_detection_shows_as_many_silent_texts_as_firing_ones() -> None:
    asked = ask(MANY, "detection")
    assert sum(asked.truth) == 5
    assert len(asked.truth) == 10
    for text, fires in zip(asked.windows, asked.truth, strict=True):
        assert (text.position < 10_000) == fires
    assert asked == ask(MANY, "detection")  # the same for the same seed
    assert asked.truth != (True,) * 5 + (False,) * 5 or asked.windows[0].position != 0
    message = asked.messages("commas")[1].content
    assert "Description: commas" in message
    assert "<<" not in message
    assert message.count("\n") >= 10


def test_questions_share_no_text_with_each_other_or_with_the_label() -> None:
    # Everything up to position 100 was shown; the window at 99 begins at 98 and ends at 102.
    shown = [[0, 100]]
    texts = Texts([window(99), *[window(10 * i) for i in range(60)]])
    used: set[int] = set()
    for number in range(4):
        for text, fires in zip(*_pairs(ask(texts, "detection", number, shown)), strict=True):
            assert text.start >= 100 or not fires
            assert text.position not in used
            used.add(text.position)
    # Two firings one token apart show the same text: only one of them is asked about.
    close = Texts([window(200), window(201), *[window(10 * i) for i in range(30, 33)]])
    assert {200, 201} & {w.position for w in ask(close, "detection").windows} == {200}


def test_silent_texts_share_no_word_with_the_label_or_with_a_firing_one() -> None:
    texts = Texts([window(10 * i) for i in range(20)], silent=20)
    # Silent, but two tokens of them were shown, or are asked about as part of a firing text.
    beside = [window(998, (0.0,) * 4), window(12, (0.0,) * 4)]
    texts._silent = beside + texts._silent
    used = [
        text.position
        for number in range(4)
        for text in ask(texts, "detection", number, [[999, 1010]]).windows
    ]
    assert len(used) == len(set(used)) == 40
    assert not {998, 12} & set(used)


def _pairs(asked: Question) -> tuple[tuple[Window, ...], tuple[bool, ...]]:
    return asked.windows, asked.truth


def test_fuzzing_marks_firing_tokens_or_as_many_silent_ones() -> None:
    texts = Texts([window(10 * i, (0.0, 0.9, 0.0, 0.4, 0.0, 0.0)) for i in range(30)])
    asked = ask(texts, "fuzzing")
    assert sum(asked.truth) == 5
    assert len(asked.truth) == 10
    for text, marks, right in zip(asked.windows, asked.marks, asked.truth, strict=True):
        assert sum(marks) == 2
        assert all((ci > 0) == right for ci, mark in zip(text.ci, marks, strict=True) if mark)
    assert asked.messages("commas")[1].content.count("<<") == 20


def test_a_text_in_which_almost_every_token_fires_is_not_marked_wrongly() -> None:
    dense = [window(10 * i, (0.5, 0.9, 0.5, 0.0)) for i in range(30)]
    with pytest.raises(ImpossibleError, match="only 10 more texts in which it fires, 0 of them"):
        ask(Texts(dense), "fuzzing")
    mixed = Texts(dense[:7] + [window(1000 + 10 * i) for i in range(3)])
    asked = ask(mixed, "fuzzing")
    assert (len(asked.truth), sum(asked.truth)) == (6, 3)
    assert all(w.position >= 1000 for w, right in zip(*_pairs(asked), strict=True) if not right)


def test_importances_below_the_threshold_are_neither_marked_nor_silent() -> None:
    texts = Texts([window(10 * i, (0.05, 0.9, 0.05, 0.0)) for i in range(30)])
    texts.threshold = 0.1
    asked = ask(texts, "fuzzing")
    for marks, right in zip(asked.marks, asked.truth, strict=True):
        assert marks == ((False, True, False, False) if right else (False, False, False, True))


def test_too_few_texts_are_a_reason_and_not_a_score() -> None:
    few = Texts([window(10 * i) for i in range(2)])
    with pytest.raises(ImpossibleError, match="only 2 more texts in which it fires; 3 are needed"):
        ask(few, "detection")
    with pytest.raises(ImpossibleError, match="only 2 more texts in which it is silent"):
        ask(Texts([window(10 * i) for i in range(30)], silent=2), "detection")
    assert len(ask(Texts([window(10 * i) for i in range(4)]), "detection").truth) == 8
    with pytest.raises(ImpossibleError):
        ask(Texts([window(10 * i) for i in range(8)]), "detection", number=2)


def test_judging() -> None:
    asked = ask(MANY, "detection")
    right = [i for i, truth in enumerate(asked.truth, 1) if truth]
    wrong = [i for i, truth in enumerate(asked.truth, 1) if not truth]
    trial = asked.judged(KEY, "commas", [*right[:4], wrong[0], wrong[0]])
    assert (trial.positives, trial.negatives, trial.hits, trial.rejections) == (5, 5, 4, 4)
    assert trial.details is not None
    assert trial.details["chosen"] == sorted([*right[:4], wrong[0]])
    nothing = asked.judged(KEY, "commas", [])
    assert (nothing.hits, nothing.rejections) == (0, 5)
    for bad in ([0], [11], [-1]):
        with pytest.raises(ValueError, match="there is not"):
            asked.judged(KEY, "commas", bad)


def trial(key: str, hits: int, rejections: int, kind: TrialKind = "detection", number: int = 0) -> Trial:
    return Trial(key, kind, number, "done", "x", 5, 5, hits, rejections)


def test_a_failure_is_no_score_of_zero() -> None:
    failed = Trial("a", "detection", 1, "failed", "x", error="status 500")
    impossible = Trial("a", "detection", 2, "impossible", "x", error="too few")
    found = score([trial("a", 5, 4), failed, impossible, trial("a", 0, 0, "fuzzing")], "detection")
    assert (found.right, found.judged, found.accuracy) == (9, 10, 0.9)
    assert (found.failed, found.impossible) == (1, 1)
    nothing = score([failed], "detection")
    assert (nothing.accuracy, nothing.interval) == (None, None)
    whole = set_score([trial("a", 5, 4), failed, Trial("b", "detection", 0, "failed", "x")], "detection")
    assert (whole.components, whole.mean, whole.failed) == (1, 0.9, 2)


def test_the_score_of_a_set_counts_labels_and_not_judgements() -> None:
    trials = [trial("a", 5, 5), trial("b", 3, 2), trial("b", 3, 2, number=1), trial("c", 4, 5)]
    found = set_score(trials, "detection")
    assert found.mean == pytest.approx((1.0 + 0.5 + 0.9) / 3)
    assert found.interval is not None
    # As wide as three tosses, not as forty judgements; and never of no width.
    assert found.interval.high - found.interval.low > 0.5
    perfect = set_score([trial("a", 5, 5), trial("b", 5, 5)], "detection").interval
    assert perfect is not None
    assert perfect.low == pytest.approx(2 / (2 + 1.959963984540054**2))
    assert perfect.high == 1


def test_wilson_by_hand() -> None:
    # 8 of 10: (0.8 + z²/20 ± z √(0.016 + z²/400)) / (1 + z²/10) with z² = 3.8415.
    found = wilson(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.49016, abs=1e-5), pytest.approx(0.94331, abs=1e-5))
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_agrees_with_the_one_of_the_statistics(successes: int, n: int) -> None:
    successes = min(successes, n)
    mine = wilson(successes, n)
    _, low, high = association.wilson(np.array([float(successes)]), np.array([float(n)]))
    assert mine.low == pytest.approx(float(low[0]), abs=1e-9)
    assert mine.high == pytest.approx(float(high[0]), abs=1e-9)
    assert mine.low <= successes / n <= mine.high
