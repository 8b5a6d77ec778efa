"""Classifying texts, or pairs of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spry.data.class_target import CLASSES
from spry.data.dataset import Dataset
from spry.data.encoded import Encoded
from spry.data.target import Target
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.tasks.class_scores import class_scores
from spry.tasks.head_fit import HeadFit
from spry.tasks.kind import Reduction, TaskKind
from spry.tasks.logits import ScoredText, rounded
from spry.tasks.metrics import ClassificationMetrics, classified
from spry.tasks.model_task import ModelTask


@dataclass(frozen=True, kw_only=True)
class Classification(ScoredText):
    """One class a text, by cross-entropy: ``L(w) = 1/B sum_b -log softmax(f_w(x_b))[y_b]``."""

    name: ClassVar[str] = "classification"
    about: ClassVar[str] = "one class a text"
    model_class: ClassVar[ModelClass] = CLASSIFIER
    pipeline: ClassVar[str] = "text-classification"
    score: ClassVar[str] = "accuracy"
    head_fit: ClassVar[HeadFit | None] = HeadFit.CLASSES

    @property
    def target(self) -> Target:
        return CLASSES

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        return dataset.label_names

    def tensor(self, labels: Sequence[int], outputs: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.int32)

    def loss_of(self, logits: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
        return F.cross_entropy(logits, labels, reduction=reduction)

    def nothing(self) -> ClassificationMetrics:
        return ClassificationMetrics()

    def count(
        self, losses: NDArray[np.floating], labels: NDArray[Any], logits: NDArray[np.floating]
    ) -> ClassificationMetrics:
        return classified(losses, labels, logits)

    def baseline(self, train: Dataset, test: Dataset) -> float:
        """Accuracy of always giving the training part's commonest answer."""
        commonest, _ = Counter(train.labels).most_common(1)[0]
        return sum(label == commonest for label in test.labels) / len(test.labels)

    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        return Dataset(name="texts", texts=texts, labels=[0] * len(texts), label_names=outputs)

    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        return Dataset(
            name="random words",
            texts=texts,
            labels=draw.integers(outputs, size=len(texts)).tolist(),
            label_names=tuple(map(str, range(outputs))),
        )

    def columns(
        self, rows: Sequence[Any], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """The likeliest class and its probability; of ``every`` class its probability, too."""
        return class_columns(torch.from_numpy(np.stack(rows)).softmax(dim=1).numpy(), outputs, every=every)

    def document(self, metrics: ClassificationMetrics, outputs: tuple[str, ...]) -> Mapping[str, Any]:
        scores = class_scores(outputs, metrics.confusion)
        return {
            "classes": [asdict(score) for score in scores],
            "confusion": metrics.confusion.tolist(),
        }

    def title(self, outputs: tuple[str, ...]) -> str:
        return f"Text classification into {len(outputs)} classes"


def class_columns(
    shares: NDArray[np.float64], labels: Sequence[str], *, every: bool = False
) -> dict[str, Sequence[Any]]:
    """Name the likeliest class and its probability of each example; ``shares`` are probabilities, shape (N, C)."""
    columns: dict[str, Sequence[Any]] = {
        "label": [labels[number] for number in shares.argmax(axis=1)],
        "probability": rounded(shares.max(axis=1)),
    }
    if every:
        columns |= {f"probability_{name}": rounded(shares[:, number]) for number, name in enumerate(labels)}
    return columns


class ClassificationTask(ModelTask):
    """One classifier with trainable PEFT weights and head; its own weights never change.

    Its arguments are those of ``ModelTask``, with the names or number of the classes as ``labels``.
    """

    usual_kind: ClassVar[TaskKind | None] = Classification()
