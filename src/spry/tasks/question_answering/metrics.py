"""SQuAD's measures: exact match and F1 of words, over questions with and without an answer."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Small letters without punctuation, articles and double spaces, as SQuAD compares answers."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(said: str, right: Sequence[str]) -> float:
    """1 if an answer is one of the right ones but for spelling, else 0; without a right one "" is right."""
    return _best(lambda one, other: float(one == other), said, right)


def f1_of_words(said: str, right: Sequence[str]) -> float:
    """``2 common / (words said + words right)``, the best over the right answers; in [0, 1].

    Source:
        Rajpurkar et al. 2018, arXiv 1806.03822.
    """
    return _best(_f1, said, right)


def _best(measure: Callable[[str, str], float], said: str, right: Sequence[str]) -> float:
    answers = [answer for answer in map(normalised, right) if answer] or [""]
    return max(measure(normalised(said), answer) for answer in answers)


def _f1(said: str, right: str) -> float:
    one, other = said.split(), right.split()
    if not one or not other:
        return float(one == other)
    return 2 * (Counter(one) & Counter(other)).total() / (len(one) + len(other))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One question with the best span of the windows that were seen, and "no answer" beside it; add two to merge them.

    Args:
        answerable: Whether it has a right answer.
        score: Of the best span; -inf without one.
        null: Of "no answer", the lowest of the windows.
        exact: Exact match of the best span, 0 or 1.
        f1: F1 of the best span.
    """

    answerable: bool
    score: float
    null: float
    exact: float = 0.0
    f1: float = 0.0

    def __add__(self, other: Judged) -> Judged:
        best = self if self.score >= other.score else other
        return replace(best, null=min(self.null, other.null))

    @property
    def margin(self) -> float:
        """By how much the best span's score exceeds that of "no answer"."""
        return self.score - self.null

    def at(self, threshold: float) -> tuple[float, float]:
        """Exact match and F1 if spans are given whose margin exceeds a threshold."""
        if self.margin > threshold:
            return self.exact, self.f1
        silent = float(not self.answerable)
        return silent, silent


def _none() -> NDArray[np.int64]:
    return np.zeros((2, 2), dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuestionMetrics:
    """Judged questions; add two to merge them, windows of one question that came in two batches too.

    Args:
        judged: By the question's number.
        loss_sum: Over windows.
        windows: How many there were.
        threshold: The margin that a span must exceed to be given.
        counted: Questions that are not judged one by one, for they stay with a client, and how many of them are exact
            matches (columns), without an answer and with one (rows), shape (2, 2).
        counted_f1: The sum of F1 of those with an answer; without one it is exact match.
    """

    judged: Mapping[int, Judged] = field(default_factory=dict)
    loss_sum: float = 0.0
    windows: int = 0
    threshold: float = 0.0
    counted: NDArray[np.int64] = field(default_factory=_none)
    counted_f1: float = 0.0

    def __bool__(self) -> bool:
        return self.examples > 0

    def __add__(self, other: QuestionMetrics) -> QuestionMetrics:
        both = self.judged.keys() & other.judged.keys()
        merged = {number: self.judged[number] + other.judged[number] for number in both}
        return QuestionMetrics(
            judged={**self.judged, **other.judged, **merged},
            loss_sum=self.loss_sum + other.loss_sum,
            windows=self.windows + other.windows,
            threshold=self.threshold if self else other.threshold,
            counted=self.counted + other.counted,
            counted_f1=self.counted_f1 + other.counted_f1,
        )

    @property
    def examples(self) -> int:
        return len(self.judged) + int(self.counted[:, 0].sum())

    @property
    def loss(self) -> float:
        """Mean loss over windows; NaN without any."""
        return self.loss_sum / self.windows if self.windows else math.nan

    def values(self) -> dict[str, float | None]:
        """Shares in [0, 1]; None where there is no such question."""
        counted, answered_f1 = self._counts()
        (silent, silent_exact), (answered, answered_exact) = counted.tolist()
        sums = {
            "": (silent + answered, silent_exact + answered_f1, silent_exact + answered_exact),
            "has_answer_": (answered, answered_f1, answered_exact),
            "no_answer_": (silent, silent_exact, silent_exact),
        }
        found: dict[str, float | None] = {}
        for prefix, (count, f1, exact) in sums.items():
            found |= {f"{prefix}f1": _share(f1, count), f"{prefix}exact_match": _share(exact, count)}
        return found

    def sums(self) -> QuestionMetrics:
        """The same without single questions."""
        counted, f1 = self._counts()
        return replace(self, judged={}, counted=counted, counted_f1=f1)

    def _counts(self) -> tuple[NDArray[np.int64], float]:
        """``counted`` and ``counted_f1`` of all questions."""
        counted, f1 = self.counted.copy(), [self.counted_f1]
        for one in self.judged.values():
            exact, overlap = one.at(self.threshold)
            counted[int(one.answerable)] += (1, int(exact))
            f1 += [overlap] if one.answerable else []
        return counted, math.fsum(f1)

    def details(self) -> dict[str, Any]:
        """What the best thresholds would give, which a log keeps beside the score."""
        if not self.judged:
            return {}
        ones = [*self.judged.values()]
        threshold, f1 = best_threshold(ones)
        _, exact = best_threshold(ones, lambda one: one.exact)
        return {"best_threshold": threshold, "best_f1": f1, "best_exact_match": exact}


def best_threshold(
    judged: Sequence[Judged], measure: Callable[[Judged], float] = lambda one: one.f1
) -> tuple[float, float]:
    """Find the threshold of the highest mean, of F1 unless told otherwise, and that mean; the lowest of several.

    Both are 0 without a question. All thresholds between two margins give the same answers; the middle is taken.
    """
    if not judged:
        return 0.0, 0.0
    ranked = sorted((one for one in judged if math.isfinite(one.margin)), key=lambda one: -one.margin)
    margins = np.asarray([one.margin for one in ranked])
    silence = sum(not one.answerable for one in judged)
    answered = silence + np.cumsum([0.0, *(measure(one) - (not one.answerable) for one in ranked)])
    edges = np.concatenate([margins[:1] + 2, margins, margins[-1:] - 2])
    apart = np.flatnonzero(edges[:-1] > edges[1:])  # how many of the ranked questions can be answered
    if not len(apart):
        return 0.0, silence / len(judged)
    chosen = apart[len(apart) - 1 - int(np.argmax(answered[apart][::-1]))]
    return float(edges[chosen] + edges[chosen + 1]) / 2, float(answered[chosen]) / len(judged)


def _share(part: float, count: int) -> float | None:
    return part / count if count else None
