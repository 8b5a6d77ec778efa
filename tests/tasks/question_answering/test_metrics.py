"""Exact match and F1 against torchmetrics; the best threshold against all of them."""

from __future__ import annotations

import math
import string
import sys

import numpy as np
import pytest
from torchmetrics.functional.text import squad

from spry.core.keys import Key
from spry.tasks.question_answering.metrics import (
    Judged,
    QuestionMetrics,
    best_threshold,
    exact_match,
    f1_of_words,
    normalised,
)

SAID = [
    "the Film",
    "",
    "a film, plot",
    "The.",
    "état – plot plot",
    "film film plot",
    "an",
    "U.S.  film",
    "it's",
]
RIGHT = [
    ["film"],
    [],
    ["plot", "the film plot"],
    ["a"],
    ["plot"],
    [""],
    ["etat", "état plot"],
    ["U.S. film!"],
    ["its"],
]


def kept_library(said: str, right: list[str]) -> dict[str, float]:
    # SQuAD 2's own script drops answers without words, and takes "" where none is left
    answers = [answer for answer in right if normalised(answer)] or [""]
    found = squad(
        [{"id": "1", "prediction_text": said}],
        [{"id": "1", "answers": {"text": answers, "answer_start": [0] * len(answers)}}],
    )
    return {name: float(value) / 100 for name, value in found.items()}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("right", RIGHT, ids=str)
def test_exact_match_and_f1_are_torchmetrics(said, right):
    expected = kept_library(said, right)
    assert exact_match(said, right) == expected["exact_match"]
    assert f1_of_words(said, right) == pytest.approx(expected["f1"], abs=1e-6)


def test_they_agree_on_random_texts():
    draw = Key(0).generator("texts")
    letters = np.array([*"abcAB ", "the ", " a ", *string.punctuation[:6], "é"])

    def text() -> str:
        return "".join(draw.choice(letters, size=draw.integers(0, 12)))

    for _ in range(300):
        said, right = text(), [text() for _ in range(draw.integers(0, 3))]
        expected = kept_library(said, right)
        assert exact_match(said, right) == expected["exact_match"]
        assert f1_of_words(said, right) == pytest.approx(expected["f1"], abs=1e-6)


def judged(count: int, *, seed: int = 0) -> list[Judged]:
    draw = Key(seed).generator("judged")
    return [
        Judged(
            answerable=bool(can := draw.integers(2)),
            score=float(draw.integers(-2, 3)) if draw.random() < 0.9 else -math.inf,
            null=float(draw.integers(-2, 3)),
            exact=float(can * draw.integers(2)),
            f1=float(can * draw.random()),
        )
        for _ in range(count)
    ]


def numbered(ones: list[Judged], first: int = 0) -> dict[int, Judged]:
    return dict(enumerate(ones, start=first))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_no_threshold_gives_a_higher_f1_than_the_best_one(seed, count):
    ones = judged(count, seed=seed)
    threshold, f1 = best_threshold(ones)

    def at(t: float) -> float:
        return sum(one.at(t)[1] for one in ones) / count

    assert at(threshold) == pytest.approx(f1)
    assert f1 == pytest.approx(max(at(t / 4) for t in range(-24, 25)))


def test_best_threshold_of_nothing():
    assert best_threshold([]) == (0.0, 0.0)
    assert best_threshold([Judged(answerable=False, score=-math.inf, null=0.0)]) == (0.0, 1.0)


def test_metrics_add_up_and_part_by_answerability():
    ones = judged(40)
    parts = [
        QuestionMetrics(judged=numbered(ones[a:b], a), loss_sum=float(b - a), windows=2 * (b - a))
        for a, b in ((0, 13), (13, 40))
    ]
    whole = parts[0] + parts[1] + QuestionMetrics()
    assert (whole.examples, whole.loss, bool(QuestionMetrics())) == (40, 0.5, False)
    can = [one for one in ones if one.answerable]
    values = whole.values()
    assert values["has_answer_f1"] == pytest.approx(sum(one.f1 * (one.margin > 0) for one in can) / len(can))
    assert values["no_answer_exact_match"] == values["no_answer_f1"]
    shares = len(can) / 40, 1 - len(can) / 40
    assert values["f1"] == pytest.approx(
        shares[0] * values["has_answer_f1"] + shares[1] * values["no_answer_f1"]
    )
    assert whole.details()["best_f1"] >= values["f1"] - 1e-12


def test_nothing_has_no_values():
    assert set(QuestionMetrics().values().values()) == {None}
    assert math.isnan(QuestionMetrics().loss)
    assert QuestionMetrics().details() == {}


def test_always_silent_scores_the_share_of_unanswerable_questions():
    silent = QuestionMetrics(judged=numbered(judged(50)), threshold=sys.float_info.max)
    assert silent.values()["f1"] == sum(not one.answerable for one in silent.judged.values()) / 50


def test_windows_of_one_question_add_up_in_any_order():
    windows = judged(5)
    expected = max(windows, key=lambda one: one.score)
    for order in (windows, windows[::-1]):
        whole = sum((QuestionMetrics(judged={7: one}, windows=1) for one in order), QuestionMetrics())
        assert (whole.examples, whole.windows) == (1, 5)
        assert whole.judged[7].score == expected.score
        assert whole.judged[7].null == min(one.null for one in windows)
