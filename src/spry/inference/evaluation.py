"""What an adapter says of labelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from spry.data.batches import EvaluationBatches
from spry.data.dataset import Dataset
from spry.inference.predictor import Predictor, Progress
from spry.tasks.classification import Classification
from spry.tasks.kind import TaskKind

_CLASSES = Classification()


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScores:
    """Sums over labelled examples; ``baseline`` is the score of an answer that needs no model."""

    labels: tuple[str, ...]
    metrics: Any
    baseline: float | None
    kind: TaskKind = _CLASSES

    def to_json(self) -> dict[str, Any]:
        return {
            "examples": self.metrics.examples,
            **self.metrics.values(),
            "loss": self.metrics.loss,
            "baseline": self.baseline,
            "labels": list(self.labels),
            **self.kind.document(self.metrics, self.labels),
        }


@torch.inference_mode()
def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    baseline: float | None = None,
    batch_size: int = 64,
    progress: Progress = lambda _: None,
) -> LabelledScores:
    """Compare what a model says with labels; classes must be numbered as the predictor's are.

    Args:
        baseline: None takes the best that an answer without a model scores on these very labels.
    """
    kind, call = predictor.kind, predictor.call()
    assert set(dataset.label_names) <= set(predictor.info.labels)
    encoded, total = predictor.encode(dataset), kind.nothing()
    for batch in EvaluationBatches(data=encoded, batch_size=batch_size):
        total += kind.measure(call, batch, encoded)
        progress(len(batch["attention_mask"]))
    return LabelledScores(
        labels=predictor.info.labels,
        metrics=total,
        baseline=kind.baseline(dataset, dataset) if baseline is None else baseline,
        kind=kind,
    )
