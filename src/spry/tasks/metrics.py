"""What an evaluation counts, so that parts can be added up: batches, clients, rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_LOGGED = 100
"""Up to so many classes, a log has the confusion matrix of each evaluation."""


def _nothing() -> NDArray[np.int64]:
    return np.zeros((0, 0), dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassificationMetrics:
    """Counts over evaluated examples; add two to merge them, false if there are none.

    Args:
        confusion: Examples by true (row) and predicted (column) class, shape (C, C); (0, 0) without classes.
    """

    examples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    confusion: NDArray[np.int64] = field(default_factory=_nothing)

    def __bool__(self) -> bool:
        return self.examples > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassificationMetrics):
            return NotImplemented
        same = (self.examples, self.loss_sum, self.correct) == (other.examples, other.loss_sum, other.correct)
        return same and np.array_equal(self.confusion, other.confusion)

    def __add__(self, other: ClassificationMetrics) -> ClassificationMetrics:
        if not self.confusion.size or not other.confusion.size:
            confusion = self.confusion if self.confusion.size else other.confusion
        else:
            confusion = self.confusion + other.confusion
        return ClassificationMetrics(
            examples=self.examples + other.examples,
            loss_sum=self.loss_sum + other.loss_sum,
            correct=self.correct + other.correct,
            confusion=confusion,
        )

    def values(self) -> dict[str, float | None]:
        found = {"accuracy": self.accuracy, "macro_f1": self.macro_f1}
        return {name: None if math.isnan(value) else value for name, value in found.items()}

    def details(self) -> dict[str, Any]:
        """The confusion matrix, which a log keeps beside the score unless there are very many classes."""
        small = 0 < len(self.confusion) <= MAX_LOGGED
        return {"confusion": self.confusion.tolist()} if small else {}

    @property
    def loss(self) -> float:
        """Mean loss; NaN without examples."""
        return self.loss_sum / self.examples if self.examples else math.nan

    @property
    def accuracy(self) -> float:
        """Share of right answers, from 0 to 1; NaN without examples."""
        return self.correct / self.examples if self.examples else math.nan

    @property
    def macro_f1(self) -> float:
        """Mean over classes of ``2 TP / (2 TP + FP + FN)``; a class neither there nor predicted is left out.

        NaN without classes or examples.
        """
        hits = np.diag(self.confusion)
        either = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        seen = either > 0
        return float(np.mean(2 * hits[seen] / either[seen])) if seen.any() else math.nan


def classified(
    losses: NDArray[np.floating], labels: NDArray[np.int64], logits: NDArray[np.floating]
) -> ClassificationMetrics:
    """Count a batch by its losses and true classes, shape (B,), and scores, shape (B, C)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return ClassificationMetrics(
        examples=len(labels),
        loss_sum=math.fsum(losses.tolist()),
        correct=int(np.trace(confusion)),
        confusion=confusion,
    )
