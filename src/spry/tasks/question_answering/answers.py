"""From scores of tokens to answers: the best spans over all windows of a question, and "no answer" beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LONGEST = 30
"""Tokens of an answer at most."""
KEPT = 20
"""Spans that are kept of a question."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A span of the context, empty for "no answer".

    Args:
        text: The span as the context has it.
        start: Its first character in the context, from 0.
        score: The start's logit plus the end's.
        probability: The softmax of the scores over the question's candidates, "no answer" among them.
    """

    text: str
    start: int
    score: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model answers to one question.

    Args:
        candidates: Spans, the best first; none if no window has a token of the context.
        null: "No answer", with the lowest score of its token over the windows: each window says only that itself has
            none.
    """

    candidates: tuple[Candidate, ...]
    null: Candidate

    @property
    def margin(self) -> float:
        """By how much the best span's score exceeds that of "no answer"; -inf without a span."""
        return self.candidates[0].score - self.null.score if self.candidates else -np.inf

    def best(self, threshold: float = 0.0) -> Candidate:
        """Choose the best span if its margin exceeds a threshold, else "no answer"."""
        return self.candidates[0] if self.candidates and self.margin > threshold else self.null


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Logits of one window.

    Args:
        start: How well an answer begins at each token, shape (S,).
        end: How well it ends there, shape (S,).
        spans: Where in the context a token's text is, shape (S, 2); (0, 0) for what is no part of it.
        null: The place of the token that stands for "no answer".
    """

    start: NDArray[np.floating]
    end: NDArray[np.floating]
    spans: NDArray[np.int64]
    null: int


def find_answers(
    windows: Sequence[Scores], context: str, *, kept: int = KEPT, longest: int = LONGEST
) -> Answers:
    """Find the spans with the highest ``start[i] + end[j]``, i <= j < i + ``longest``, over the windows of a question.

    A span that several windows have counts once, with its highest score.

    Args:
        windows: The question's windows, at least one.
        context: The text that answers are cut out of.
        kept: Spans that are kept, >= 1.
        longest: Tokens of a span at most, >= 1.

    Returns:
        The answers, the best first.
    """
    best: dict[tuple[int, int], float] = {}
    for window in windows:
        for place, score in _best_spans(window, kept, longest):
            best[place] = max(score, best.get(place, -np.inf))
    ranked = sorted(best.items(), key=lambda found: -found[1])[:kept]
    null = min(float(window.start[window.null] + window.end[window.null]) for window in windows)
    shares = _softmax([score for _, score in ranked] + [null])
    return Answers(
        candidates=tuple(
            Candidate(text=context[begin:end], start=begin, score=score, probability=share)
            for ((begin, end), score), share in zip(ranked, shares, strict=False)
        ),
        null=Candidate(text="", start=0, score=null, probability=shares[-1]),
    )


def _best_spans(window: Scores, kept: int, longest: int) -> list[tuple[tuple[int, int], float]]:
    """The best spans of one window, by their characters in the context."""
    inside = window.spans[:, 1] > window.spans[:, 0]
    start, end = (
        np.where(inside & np.isfinite(logits), logits, -np.inf).astype(np.float64)
        for logits in (window.start, window.end)
    )
    size = len(start)
    scores = np.full((min(longest, size), size), -np.inf)
    for more in range(len(scores)):  # a row for each length, so that S x S scores never exist
        scores[more, : size - more] = start[: size - more] + end[more:]
    count = min(kept, scores.size)
    places = np.argpartition(-scores, count - 1, axis=None)[:count]
    found = []
    for more, first in (divmod(int(place), size) for place in places):
        if np.isfinite(scores[more, first]):
            characters = int(window.spans[first, 0]), int(window.spans[first + more, 1])
            found.append((characters, float(scores[more, first])))
    return found


def _softmax(scores: Sequence[float]) -> list[float]:
    raised = np.exp(np.asarray(scores) - max(scores))
    return (raised / raised.sum()).tolist()
