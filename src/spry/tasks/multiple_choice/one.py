"""Questions with options of which one is right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from spry.data.dataset import Dataset
from spry.data.encoded import Batch, Encoded
from spry.data.target import Target
from spry.data.tokens import Tokenizer
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.tasks.adapter_info import AdapterInfo
from spry.tasks.kind import Reduction, TaskKind
from spry.tasks.logits import rounded
from spry.tasks.metrics import ClassificationMetrics
from spry.tasks.model_call import ModelCall
from spry.tasks.multiple_choice.options import encode_options
from spry.tasks.multiple_choice.target import CHOICES, ChoiceTarget

SCORER = replace(CLASSIFIER, problem=None, classes=False)
"""One score a text. transformers' own class for multiple choice does the same, for fewer architectures."""


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(TaskKind):
    """Each option gets one score, and a question one softmax: ``L = 1/B sum_b -log softmax(z_b)[y_b]``."""

    choices: Annotated[str, Field(description="The column of lists of options.")] = "choices"

    name: ClassVar[str] = "multiple-choice"
    about: ClassVar[str] = "which option answers a question"
    model_class: ClassVar[ModelClass] = SCORER
    pipeline: ClassVar[str] = "multiple-choice"
    score: ClassVar[str] = "accuracy"
    piped: ClassVar[bool] = False
    unread: ClassVar[frozenset[str]] = frozenset({"labels", "options"})

    @property
    def target(self) -> Target:
        return ChoiceTarget(choices=self.choices)

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        return ("score",)

    def encode(
        self, dataset: Dataset, tokenizer: Tokenizer, *, max_length: int | None, most: int, pad: int
    ) -> Encoded:
        return encode_options(dataset, tokenizer, max_length=max_length, most=most, pad=pad)

    def loss(self, call: ModelCall, batch: Batch, reduction: Reduction) -> Tensor:
        return F.cross_entropy(_scores(call, batch), call.on_device(batch, "labels"), reduction=reduction)

    def nothing(self) -> ClassificationMetrics:
        return ClassificationMetrics()

    def measure(self, call: ModelCall, batch: Batch, data: Encoded | None) -> ClassificationMetrics:
        scores = _scores(call, batch).cpu()
        losses = F.cross_entropy(scores, batch["labels"], reduction="none")
        return ClassificationMetrics(
            examples=len(scores),
            loss_sum=math.fsum(losses.tolist()),
            correct=int((scores.argmax(dim=1) == batch["labels"]).sum()),
        )

    def baseline(self, train: Dataset, test: Dataset) -> float:
        """Accuracy of always choosing the place where the training part has most right options."""
        commonest, _ = Counter(train.labels).most_common(1)[0]
        return sum(label == commonest for label in test.labels) / len(test)

    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        return Dataset(name="questions", texts=texts, labels=[0] * len(texts), target=CHOICES)

    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        """Each question has its own text and the next one as options."""
        others = [*texts[1:], *texts[:1]]
        return Dataset(
            name="random words",
            texts=[((text, text), (text, other)) for text, other in zip(texts, others, strict=True)],
            labels=draw.integers(2, size=len(texts)).tolist(),
            target=CHOICES,
        )

    def answer(self, call: ModelCall, batch: Batch, data: Encoded) -> Sequence[Any]:
        shares = _scores(call, batch).double().softmax(dim=1).cpu().numpy()
        return [row[:count] for row, count in zip(shares, batch["options"].tolist(), strict=True)]

    def columns(
        self, rows: Sequence[Any], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """The likeliest option's place, from 0, and its probability; with ``every`` those of all options."""
        found: dict[str, Sequence[Any]] = {
            "choice": [int(row.argmax()) for row in rows],
            "probability": rounded(np.asarray([row.max() for row in rows])),
        }
        return {**found, "probabilities": [rounded(row) for row in rows]} if every else found

    def title(self, outputs: tuple[str, ...]) -> str:
        return "Multiple choice: which option answers a question"

    def example(self, info: AdapterInfo) -> str:
        cut = f"truncation=True, max_length={info.max_length}, " if info.max_length else "truncation=True, "
        return "\n".join([
            'inputs = tokenizer(["a question"] * 2, ["an option", "another"], padding=True, '
            f'{cut}return_tensors="pt")',
            "choice = int(model(**inputs).logits[:, 0].argmax())",
        ])


def _scores(call: ModelCall, batch: Batch) -> Tensor:
    """Scores of the options, shape (B, C); the lowest number there is for those that a question lacks."""
    count, most = batch["input_ids"].shape[:2]
    scores = call.logits(batch).view(count, most)
    missing = torch.arange(most) >= batch["options"][:, None]
    return scores.masked_fill(missing.to(scores.device), torch.finfo(scores.dtype).min)
