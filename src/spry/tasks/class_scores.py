"""What is right and wrong by class, out of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How one class fares; 0 where nothing was there to be right about.

    Args:
        precision: Right answers among those that named the class.
        recall: Right answers among the texts of the class.
        f1: The harmonic mean of both.
        support: Texts of the class.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


def class_scores(labels: Sequence[str], confusion: NDArray[np.int64]) -> list[ClassScore]:
    """Score each class; the matrix counts examples by true (row) and given (column) class."""
    hits, said, there = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    return [
        ClassScore(
            label=label,
            precision=_share(hits[c], said[c]),
            recall=_share(hits[c], there[c]),
            f1=_share(2 * hits[c], said[c] + there[c]),
            support=int(there[c]),
        )
        for c, label in enumerate(labels)
    ]


def most_confused(
    labels: Sequence[str], confusion: NDArray[np.int64], count: int
) -> list[tuple[str, str, int]]:
    """List what was most often taken for what: the true class, the given one, and how often."""
    wrong = confusion * (1 - np.eye(len(labels), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    places = [divmod(int(place), len(labels)) for place in order]
    return [(labels[t], labels[p], int(wrong[t, p])) for t, p in places if wrong[t, p]]


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
