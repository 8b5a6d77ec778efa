"""What is right and wrong by class, out of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spry.data.dataset import Dataset
from spry.inference.predictor import Predictor, Progress
from spry.tasks.metrics import ClassificationMetrics, classified


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


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScores:
    """Counts over labelled texts; ``baseline`` is the accuracy of always answering the commonest class."""

    labels: tuple[str, ...]
    metrics: ClassificationMetrics
    baseline: float

    @property
    def classes(self) -> list[ClassScore]:
        confusion = self.metrics.confusion
        hits, said, there = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
        return [
            ClassScore(
                label=label,
                precision=_share(hits[c], said[c]),
                recall=_share(hits[c], there[c]),
                f1=_share(2 * hits[c], said[c] + there[c]),
                support=int(there[c]),
            )
            for c, label in enumerate(self.labels)
        ]

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """List what was most often taken for what: the true class, the given one, and how often."""
        wrong = self.metrics.confusion * (1 - np.eye(len(self.labels), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        places = [divmod(int(place), len(self.labels)) for place in order]
        return [(self.labels[t], self.labels[p], int(wrong[t, p])) for t, p in places if wrong[t, p]]

    def to_json(self) -> dict[str, Any]:
        return {
            "examples": self.metrics.examples,
            "accuracy": self.metrics.accuracy,
            "macro_f1": self.metrics.macro_f1,
            "loss": self.metrics.loss,
            "baseline": self.baseline,
            "labels": list(self.labels),
            "classes": [asdict(score) for score in self.classes],
            "confusion": self.metrics.confusion.tolist(),
        }


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    baseline: float | None = None,
    batch_size: int = 64,
    progress: Progress = lambda _: None,
) -> LabelledScores:
    """Classify texts and compare with their labels, which must be numbered as the predictor's are."""
    assert dataset.label_names == predictor.info.labels
    logits = predictor.logits(dataset.texts, batch_size=batch_size, progress=progress)
    labels = np.asarray(dataset.labels, dtype=np.int64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return LabelledScores(
        labels=predictor.info.labels,
        metrics=classified(losses, labels, logits),
        baseline=commonest(dataset.labels) if baseline is None else baseline,
    )


def commonest(labels: Sequence[int]) -> float:
    """The share of the commonest label."""
    return float(np.bincount(np.asarray(labels)).max() / len(labels))


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
