"""Tasks whose model gives a few scores a text, as sequence classifiers do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spry.data.dataset import Dataset
from spry.data.encoded import Batch, Encoded, encode
from spry.data.tokens import Tokenizer
from spry.tasks.kind import Reduction, TaskKind
from spry.tasks.model_call import ModelCall
from spry.tasks.task import Metrics

DIGITS = 6
"""Digits behind the point of what is written to a file."""


@dataclass(frozen=True, kw_only=True)
class ScoredText(TaskKind):
    """One row of scores a text, shape (B, C), and a loss of scores and labels."""

    @abstractmethod
    def tensor(self, labels: Sequence[Any], outputs: int) -> Tensor:
        """The labels of N examples, shape (N,) or (N, C)."""

    @abstractmethod
    def loss_of(self, logits: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
        """The loss of scores, shape (B, C): a scalar, or shape (B,)."""

    @abstractmethod
    def count(
        self, losses: NDArray[np.floating], labels: NDArray[Any], logits: NDArray[np.floating]
    ) -> Metrics:
        """Count a batch by its losses, shape (B,), labels and scores."""

    def encode(
        self, dataset: Dataset, tokenizer: Tokenizer, *, max_length: int | None, most: int, pad: int
    ) -> Encoded:
        labels = self.tensor(dataset.labels, len(self.outputs(dataset)))
        return encode(dataset, tokenizer, max_length=max_length, most=most, pad=pad, labels=labels)

    def loss(self, call: ModelCall, batch: Batch, reduction: Reduction) -> Tensor:
        return self.loss_of(call.logits(batch), call.on_device(batch, "labels"), reduction)

    def measure(self, call: ModelCall, batch: Batch, data: Encoded | None) -> Metrics:
        logits = call.logits(batch).cpu()
        losses = self.loss_of(logits, batch["labels"], "none")
        return self.count(losses.numpy(), batch["labels"].numpy(), logits.numpy())

    def answer(self, call: ModelCall, batch: Batch, data: Encoded) -> Sequence[Any]:
        return list(call(batch).logits.double().cpu().numpy())


def rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]
