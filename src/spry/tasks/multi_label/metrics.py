"""How well sets of labels are found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spry.tasks.class_scores import ClassScore


def _nothing() -> NDArray[np.int64]:
    return np.zeros((3, 0), dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelMetrics:
    """Counts over evaluated examples; add two to merge them.

    Args:
        exact: Examples whose labels were all found, and no others.
        counts: True positives, false positives and false negatives of each label, shape (3, C).
    """

    examples: int = 0
    loss_sum: float = 0.0
    exact: int = 0
    counts: NDArray[np.int64] = field(default_factory=_nothing)

    def __bool__(self) -> bool:
        return self.examples > 0

    def __add__(self, other: MultiLabelMetrics) -> MultiLabelMetrics:
        if not self.counts.size or not other.counts.size:
            counts = self.counts if self.counts.size else other.counts
        else:
            counts = self.counts + other.counts
        return MultiLabelMetrics(
            examples=self.examples + other.examples,
            loss_sum=self.loss_sum + other.loss_sum,
            exact=self.exact + other.exact,
            counts=counts,
        )

    @property
    def loss(self) -> float:
        """Mean loss; NaN without examples."""
        return self.loss_sum / self.examples if self.examples else math.nan

    def values(self) -> dict[str, float | None]:
        """F1 over all labels of all examples, ``2 TP / (2 TP + FP + FN)``, its mean over labels, and exact matches.

        In the mean, a label that is neither there nor said counts as 0, as in scikit-learn. All are None without
        examples.
        """
        if not self.examples:
            return {"micro_f1": None, "macro_f1": None, "exact_match": None}
        each = [f1(*map(int, column)) for column in self.counts.T]
        return {
            "micro_f1": f1(*map(int, self.counts.sum(axis=1))),
            "macro_f1": float(np.mean(each)),
            "exact_match": self.exact / self.examples,
        }

    def by_class(self, labels: tuple[str, ...]) -> list[ClassScore]:
        """How each label fares."""
        found = []
        for label, column in zip(labels, self.counts.T, strict=True):
            hits, wrong, missed = map(int, column)
            found.append(
                ClassScore(
                    label=label,
                    precision=_share(hits, hits + wrong),
                    recall=_share(hits, hits + missed),
                    f1=f1(hits, wrong, missed),
                    support=hits + missed,
                )
            )
        return found


def f1(hits: int, wrong: int, missed: int) -> float:
    return _share(2 * hits, 2 * hits + wrong + missed)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def counted(
    losses: NDArray[np.floating], true: NDArray[np.bool_], said: NDArray[np.bool_]
) -> MultiLabelMetrics:
    """Count a batch by its losses, shape (B,), and which labels are there and said, shape (B, C)."""
    counts = [(true & said).sum(axis=0), (~true & said).sum(axis=0), (true & ~said).sum(axis=0)]
    return MultiLabelMetrics(
        examples=len(true),
        loss_sum=math.fsum(losses.tolist()),
        exact=int((true == said).all(axis=1).sum()),
        counts=np.stack(counts).astype(np.int64),
    )
