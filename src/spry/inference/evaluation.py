"""What an adapter says of labelled texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from spry.data.dataset import Dataset
from spry.inference.predictor import Predictor, Progress
from spry.tasks.class_scores import ClassScore, class_scores
from spry.tasks.metrics import ClassificationMetrics, classified


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScores:
    """Counts over labelled texts; ``baseline`` is the accuracy of always answering the commonest class."""

    labels: tuple[str, ...]
    metrics: ClassificationMetrics
    baseline: float

    @property
    def classes(self) -> list[ClassScore]:
        return class_scores(self.labels, self.metrics.confusion)

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
    losses = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="none").numpy()
    return LabelledScores(
        labels=predictor.info.labels,
        metrics=classified(losses, labels, logits),
        baseline=commonest(dataset.labels) if baseline is None else baseline,
    )


def commonest(labels: Sequence[int]) -> float:
    """The share of the commonest label."""
    return float(np.bincount(np.asarray(labels)).max() / len(labels))
