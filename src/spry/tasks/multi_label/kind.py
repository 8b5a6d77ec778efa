"""Multi-label classification: any number of labels a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from spry.data.dataset import Dataset
from spry.data.encoded import Encoded
from spry.data.target import Target
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.tasks.head_fit import HeadFit
from spry.tasks.kind import Reduction
from spry.tasks.logits import ScoredText, rounded
from spry.tasks.multi_label.metrics import MultiLabelMetrics, counted, f1
from spry.tasks.multi_label.target import LabelSetTarget


@dataclass(frozen=True, kw_only=True)
class MultiLabel(ScoredText):
    """Any number of labels a text, by binary cross-entropy, the mean over C labels:
    ``L(w) = -1/(BC) sum_bc [y log s(f) + (1 - y) log(1 - s(f))]`` with the logistic function s."""

    name: ClassVar[str] = "multi-label"
    about: ClassVar[str] = "any number of labels a text"
    model_class: ClassVar[ModelClass] = replace(CLASSIFIER, problem="multi_label_classification")
    pipeline: ClassVar[str] = "text-classification"
    score: ClassVar[str] = "micro_f1"
    head_fit: ClassVar[HeadFit | None] = HeadFit.LABELS

    separator: Annotated[
        str | None,
        Field(description="What stands between labels that are written as text; found if unset."),
    ] = None
    threshold: Annotated[
        float, Field(gt=0, lt=1, description="Probability from which on a label is said.")
    ] = 0.5

    @property
    def target(self) -> Target:
        return LabelSetTarget(separator=self.separator)

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        return dataset.label_names

    def tensor(self, labels: Sequence[tuple[int, ...]], outputs: int) -> Tensor:
        return torch.from_numpy(_hot(labels, outputs))

    def loss_of(self, logits: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
        return losses.mean() if reduction == "mean" else losses.mean(dim=1)

    def nothing(self) -> MultiLabelMetrics:
        return MultiLabelMetrics()

    def count(
        self, losses: NDArray[np.floating], labels: NDArray[Any], logits: NDArray[np.floating]
    ) -> MultiLabelMetrics:
        return counted(losses, labels.astype(bool), self._said(logits))

    def baseline(self, train: Dataset, test: Dataset) -> float:
        """Micro F1 of always giving the same labels: those commonest ones that score best on the training part."""
        classes = len(train.label_names)
        true = _hot(train.labels, classes)
        order = np.argsort(-true.sum(axis=0), kind="stable")
        tried = [np.isin(np.arange(classes), order[: count + 1]) for count in range(classes)]
        best = max(tried, key=lambda said: _micro_f1(true, said))
        return _micro_f1(_hot(test.labels, classes), best)

    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        labels = [()] * len(texts)
        return Dataset(name="texts", texts=texts, labels=labels, label_names=outputs, target=self.target)

    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        hot = draw.integers(2, size=(len(texts), outputs))
        return Dataset(
            name="random words",
            texts=texts,
            labels=[tuple(np.flatnonzero(row).tolist()) for row in hot],
            label_names=tuple(map(str, range(outputs))),
            target=self.target,
        )

    def columns(
        self, rows: Sequence[Any], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """The list of likely labels; of ``every`` label its probability, too."""
        logits = np.stack(rows)
        said, shares = self._said(logits), torch.from_numpy(logits).sigmoid().numpy()
        columns: dict[str, Sequence[Any]] = {
            "labels": [[outputs[number] for number in np.flatnonzero(row)] for row in said]
        }
        if every:
            columns |= {f"probability_{name}": rounded(shares[:, c]) for c, name in enumerate(outputs)}
        return columns

    def document(self, metrics: MultiLabelMetrics, outputs: tuple[str, ...]) -> Mapping[str, Any]:
        return {"classes": [asdict(score) for score in metrics.by_class(outputs)]}

    def title(self, outputs: tuple[str, ...]) -> str:
        return f"Text classification by {len(outputs)} labels, any number a text"

    def example(self, info: Any) -> str:
        return super().example(info)[:-1] + ", top_k=None)"

    def _said(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        return logits >= np.log(self.threshold / (1 - self.threshold))


def _hot(labels: Sequence[tuple[int, ...]], classes: int) -> NDArray[np.int8]:
    """A row of 0 and 1 for each example, shape (N, C)."""
    hot = np.zeros((len(labels), classes), dtype=np.int8)
    for row, some in enumerate(labels):
        hot[row, list(some)] = 1
    return hot


def _micro_f1(true: NDArray[np.int8], said: NDArray[np.bool_]) -> float:
    """Micro F1 of giving the same labels to every example."""
    hits = int(true[:, said].sum())
    return f1(hits, len(true) * int(said.sum()) - hits, int(true.sum()) - hits)
