"""The best spans, against trying all pairs of tokens."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from spry.core.keys import Key
from spry.tasks.question_answering.answers import Window, find_answers, read_window

CONTEXT = "a good film and a bad plot and the actor"
SPANS = [(0, 1), (2, 6), (7, 11), (12, 15), (16, 17), (18, 21), (22, 26), (27, 30), (31, 34), (35, 40)]


@dataclass
class Scores:
    start: np.ndarray
    end: np.ndarray
    spans: np.ndarray
    null: int = 0

    def read(self, **options) -> Window:
        return read_window(self.start, self.end, self.spans, self.null, **options)


def window(seed: int, first: int, count: int) -> Scores:
    """CLS, two tokens of the question, SEP, some of the context's words, SEP."""
    draw = Key(seed).generator("logits")
    inside = SPANS[first : first + count]
    spans = np.asarray([(0, 0)] * 4 + inside + [(0, 0)])
    return Scores(
        start=3 * draw.standard_normal(len(spans)),
        end=3 * draw.standard_normal(len(spans)),
        spans=spans,
        null=0,
    )


def every(windows, longest):
    """All spans by trying all pairs."""
    found: dict[str, float] = {}
    for w in windows:
        for i, j in itertools.product(range(len(w.start)), repeat=2):
            if 4 <= i <= j < len(w.start) - 1 and j - i < longest:
                place = (int(w.spans[i, 0]), int(w.spans[j, 1]))
                found[place] = max(found.get(place, -np.inf), w.start[i] + w.end[j])
    return sorted(found.items(), key=lambda one: -one[1])


@pytest.mark.parametrize("longest", [1, 3, 30])
@pytest.mark.parametrize("kept", [1, 4, 100])
@pytest.mark.parametrize("seed", range(5))
def test_spans_are_the_best_of_all(seed, kept, longest):
    windows = [window(seed, 0, 6), window(seed + 50, 4, 6)]
    found = find_answers([w.read(kept=kept, longest=longest) for w in windows], CONTEXT, kept=kept)
    expected = every(windows, longest)[:kept]
    assert [(c.text, c.start) for c in found.candidates] == [(CONTEXT[b:e], b) for (b, e), _ in expected]
    assert [c.score for c in found.candidates] == pytest.approx([score for _, score in expected])


def test_no_answer_has_the_lowest_score_of_the_windows_and_probabilities_add_up():
    windows = [window(0, 0, 6), window(1, 4, 6)]
    found = find_answers([w.read() for w in windows], CONTEXT)
    assert found.null.score == min(w.start[0] + w.end[0] for w in windows)
    scores = torch.tensor([c.score for c in (*found.candidates, found.null)], dtype=torch.float64)
    assert [c.probability for c in found.candidates] == pytest.approx(scores.softmax(0)[:-1].tolist())
    assert found.null.probability == pytest.approx(float(scores.softmax(0)[-1]))


def test_a_threshold_decides_between_the_best_span_and_no_answer():
    found = find_answers([window(0, 0, 6).read()], CONTEXT)
    assert found.best(found.margin - 1e-9) == found.candidates[0]
    assert found.best(found.margin) == found.null
    assert found.null.text == ""


def test_a_window_without_context_has_no_answer():
    found = find_answers([window(0, 0, 0).read()], CONTEXT)
    assert (found.candidates, found.margin, found.best(-1e9).text) == ((), -np.inf, "")
    assert found.null.probability == pytest.approx(1)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_numbers_that_are_none_are_never_answers(odd):
    made = window(0, 0, 6)
    made.start[5] = odd
    assert all(np.isfinite(c.score) for c in find_answers([made.read()], CONTEXT).candidates)
