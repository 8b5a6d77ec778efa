"""Regression: one number a text, by its mean squared error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spry.data.dataset import Dataset
from spry.data.encoded import Encoded
from spry.data.target import Target
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.tasks.head_fit import HeadFit
from spry.tasks.kind import Reduction
from spry.tasks.logits import ScoredText, rounded
from spry.tasks.regression.metrics import RegressionMetrics
from spry.tasks.regression.target import NumberTarget

NUMBERS = NumberTarget()
OUTPUTS = ("score",)
"""What the head's only output is called, in the model's configuration, too."""


@dataclass(frozen=True, kw_only=True)
class Regression(ScoredText):
    """One number a text, by mean squared error: ``L(w) = 1/B sum_b (f_w(x_b) - y_b)^2``."""

    name: ClassVar[str] = "regression"
    about: ClassVar[str] = "a number a text"
    model_class: ClassVar[ModelClass] = replace(CLASSIFIER, problem="regression", classes=False)
    pipeline: ClassVar[str] = "text-classification"
    score: ClassVar[str] = "mse"
    higher_is_better: ClassVar[bool] = False
    verb: ClassVar[str] = "predict"
    head_fit: ClassVar[HeadFit | None] = HeadFit.NUMBERS

    @property
    def target(self) -> Target:
        return NUMBERS

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        return OUTPUTS

    def tensor(self, labels: Sequence[float], outputs: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.float64)

    def loss_of(self, logits: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
        return F.mse_loss(logits[:, 0], labels.to(logits.dtype), reduction=reduction)

    def nothing(self) -> RegressionMetrics:
        return RegressionMetrics()

    def count(
        self, losses: NDArray[np.floating], labels: NDArray[Any], logits: NDArray[np.floating]
    ) -> RegressionMetrics:
        pairs = np.stack([logits[:, 0].astype(np.float64), labels], axis=1)
        return RegressionMetrics(loss_sum=float(losses.sum(dtype=np.float64)), pairs=pairs)

    def baseline(self, train: Dataset, test: Dataset) -> float:
        """Mean squared error of always giving the mean of the training labels."""
        return float(np.mean((np.asarray(test.labels) - np.mean(train.labels)) ** 2))

    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        return Dataset(name="texts", texts=texts, labels=[0.0] * len(texts), target=self.target)

    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        labels = draw.normal(size=len(texts)).tolist()
        return Dataset(name="random words", texts=texts, labels=labels, target=self.target)

    def columns(
        self, rows: Sequence[Any], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """The predicted number, under the name ``score``."""
        return {OUTPUTS[0]: rounded(np.stack(rows)[:, 0])}

    def title(self, outputs: tuple[str, ...]) -> str:
        return "A number for a text (regression)"
