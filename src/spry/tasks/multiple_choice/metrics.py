"""MultiRC's measures: F1 over all options, and the share of questions all of whose options are judged right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 100
"""Steps in which thresholds are tried."""


def _no_options() -> NDArray[np.int64]:
    return np.zeros((2, BINS), dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class OptionMetrics:
    """Counts over options; add two to merge them, false if there are none.

    Args:
        loss_sum: Over options.
        confusion: Options by whether they are right (row) and called right (column), shape (2, 2).
        wrong: How many options of a question were misjudged, by the question's number.
        shares: Options by whether they are right (row) and their probability of being right in hundredths (column).
        questions: Questions that are not told one by one, for they stay with a client.
        exact: How many of these have no misjudged option.
    """

    loss_sum: float = 0.0
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), dtype=np.int64))
    wrong: Mapping[int, int] = field(default_factory=dict)
    shares: NDArray[np.int64] = field(default_factory=_no_options)
    questions: int = 0
    exact: int = 0

    def __bool__(self) -> bool:
        return self.examples > 0

    def __add__(self, other: OptionMetrics) -> OptionMetrics:
        wrong = Counter(dict(self.wrong))
        wrong.update(other.wrong)
        return OptionMetrics(
            loss_sum=self.loss_sum + other.loss_sum,
            confusion=self.confusion + other.confusion,
            wrong=dict(wrong),
            shares=self.shares + other.shares,
            questions=self.questions + other.questions,
            exact=self.exact + other.exact,
        )

    def sums(self) -> OptionMetrics:
        """The same without single questions."""
        questions, exact = self._questions()
        return replace(self, wrong={}, questions=questions, exact=exact)

    def _questions(self) -> tuple[int, int]:
        """How many there are, and how many without a misjudged option."""
        exact = sum(not wrong for wrong in self.wrong.values())
        return self.questions + len(self.wrong), self.exact + exact

    @property
    def examples(self) -> int:
        return int(self.confusion.sum())

    @property
    def loss(self) -> float:
        """Mean loss; NaN without options."""
        return self.loss_sum / self.examples if self else math.nan

    def values(self) -> dict[str, float | None]:
        """Shares in [0, 1]; None without options."""
        if not self:
            return {"f1a": None, "exact_match": None, "accuracy": None}
        questions, exact = self._questions()
        return {
            "f1a": _f1(self.confusion[1, 1], self.confusion[0, 1], self.confusion[1, 0]),
            "exact_match": exact / questions if questions else None,
            "accuracy": float(np.trace(self.confusion)) / self.examples,
        }

    def details(self) -> dict[str, Any]:
        """The confusion matrix, and what the best threshold in hundredths would give, beside the score in a log."""
        if not self:
            return {}
        wrong, right = (
            row[::-1].cumsum()[::-1] for row in self.shares
        )  # called right from each threshold on
        scores = [_f1(hits, false, right[0] - hits) for hits, false in zip(right, wrong, strict=True)]
        best = int(np.argmax(scores))
        return {
            "confusion": self.confusion.tolist(),
            "best_threshold": best / BINS,
            "best_f1a": float(scores[best]),
        }


def count_options(
    losses: Sequence[float],
    labels: NDArray[np.bool_],
    shares: NDArray[np.floating],
    questions: Sequence[int],
    threshold: float,
) -> OptionMetrics:
    """Count options by their losses, whether they are right, their probabilities of it and their questions.

    A probability that is no number, as of a model that diverged, calls an option wrong.
    """
    shares = np.nan_to_num(shares, nan=0.0)
    said = shares >= threshold
    wrong = Counter(dict.fromkeys(questions, 0))
    wrong.update(question for question, hit in zip(questions, said == labels, strict=True) if not hit)
    bins = np.minimum((shares * BINS + 1e-9).astype(np.int64), BINS - 1)
    return OptionMetrics(
        loss_sum=math.fsum(losses),
        confusion=np.bincount(2 * labels + said, minlength=4).reshape(2, 2),
        wrong=dict(wrong),
        shares=np.stack([np.bincount(bins[labels == right], minlength=BINS) for right in (False, True)]),
    )


def _f1(hits: int, false: int, missed: int) -> float:
    return float(2 * hits / (2 * hits + false + missed)) if hits else 0.0
