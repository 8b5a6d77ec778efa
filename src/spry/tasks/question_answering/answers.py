"""From scores of tokens to answers: the best spans over all windows of a question, and "no answer" beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a model says of one window.

    Args:
        spans: Its best spans by their first character in the context and the one after their last, with their scores.
        null: The score of "no answer".
    """

    spans: Mapping[tuple[int, int], float]
    null: float


def read_window(
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    places: NDArray[np.integer],
    null: int,
    *,
    kept: int = KEPT,
    longest: int = LONGEST,
) -> Window:
    """Find the spans of a window with the highest ``start[i] + end[j]``, i <= j < i + ``longest``.

    Args:
        start: How well an answer begins at each token, a logit, shape (S,).
        end: How well it ends there, shape (S,).
        places: Where in the context a token's text is, shape (S, 2); (0, 0) for what is no part of it.
        null: The place of the token that stands for "no answer".
        kept: Spans that are kept, >= 1.
        longest: Tokens of a span at most, >= 1.
    """
    inside = places[:, 1] > places[:, 0]
    begins, ends = (
        np.where(inside & np.isfinite(logits), logits, -np.inf).astype(np.float64) for logits in (start, end)
    )
    size = len(begins)
    scores = np.full((min(longest, size), size), -np.inf)
    for more in range(len(scores)):  # a row for each length, so that S x S scores never exist
        scores[more, : size - more] = begins[: size - more] + ends[more:]
    count = min(kept, scores.size)
    best = np.argpartition(-scores, count - 1, axis=None)[:count]
    found = [(*divmod(int(place), size), float(scores.flat[place])) for place in best]
    return Window(
        spans={
            (int(places[first, 0]), int(places[first + more, 1])): score
            for more, first, score in found
            if np.isfinite(score)
        },
        null=float(start[null]) + float(end[null]),
    )


def find_answers(windows: Sequence[Window], context: str, *, kept: int = KEPT) -> Answers:
    """Rank the spans of all windows of a question; one that several windows have counts once, with its best score.

    Args:
        windows: The question's windows, at least one.
        context: The text that answers are cut out of.
        kept: Spans that are kept, >= 1.
    """
    best: dict[tuple[int, int], float] = {}
    for window in windows:
        for place, score in window.spans.items():
            best[place] = max(score, best.get(place, -np.inf))
    ranked = sorted(best.items(), key=lambda found: -found[1])[:kept]
    null = min(window.null for window in windows)
    shares = _softmax([score for _, score in ranked] + [null])
    return Answers(
        candidates=tuple(
            Candidate(text=context[begin:end], start=begin, score=score, probability=share)
            for ((begin, end), score), share in zip(ranked, shares, strict=False)
        ),
        null=Candidate(text="", start=0, score=null, probability=shares[-1]),
    )


def _softmax(scores: Sequence[float]) -> list[float]:
    raised = np.exp(np.asarray(scores) - max(scores))
    return (raised / raised.sum()).tolist()
