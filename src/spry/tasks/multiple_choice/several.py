"""Options that are right or wrong one by one: MultiRC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from spry.data.dataset import Dataset
from spry.data.encoded import Batch, Encoded
from spry.data.target import Target
from spry.data.tokens import Tokenizer
from spry.tasks.class_scores import class_scores
from spry.tasks.classification import Classification
from spry.tasks.logits import rounded
from spry.tasks.model_call import ModelCall
from spry.tasks.multiple_choice.metrics import OptionMetrics, count_options
from spry.tasks.multiple_choice.target import OPTIONS, QUESTION, RIGHT, WRONG


@dataclass(frozen=True, kw_only=True)
class MultiAnswer(Classification):
    """Each option with its passage and question is classified as true or false, by cross-entropy."""

    threshold: Annotated[
        float, Field(ge=0, le=1, description="Probability from which on an option is called right.")
    ] = 0.5

    name: ClassVar[str] = "multi-answer"
    about: ClassVar[str] = "whether each option answers a question on a passage, as in MultiRC"
    score: ClassVar[str] = "f1a"
    unread: ClassVar[frozenset[str]] = frozenset({"labels", QUESTION})

    @property
    def target(self) -> Target:
        return OPTIONS

    def encode(
        self, dataset: Dataset, tokenizer: Tokenizer, *, max_length: int | None, most: int, pad: int
    ) -> Encoded:
        encoded = super().encode(dataset, tokenizer, max_length=max_length, most=most, pad=pad)
        numbers = dataset.more.get(QUESTION, range(len(dataset)))
        return replace(encoded, per_row={QUESTION: torch.tensor(numbers, dtype=torch.int32)})

    def nothing(self) -> Any:
        return OptionMetrics()

    def measure(self, call: ModelCall, batch: Batch, data: Encoded | None) -> OptionMetrics:
        logits, labels = call.logits(batch).cpu(), batch["labels"]
        right = _right(() if data is None or data.dataset is None else data.dataset.label_names)
        return count_options(
            F.cross_entropy(logits, labels, reduction="none").tolist(),
            (labels == right).numpy(),
            logits.double().softmax(dim=1)[:, right].numpy(),
            batch[QUESTION].tolist(),
            self.threshold,
        )

    def baseline(self, train: Dataset, test: Dataset) -> float:
        """F1 over all options of saying that every one is right."""
        share = test.counts[RIGHT] / len(test)
        return 2 * share / (1 + share)

    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        return replace(super().unlabelled(texts, outputs), target=OPTIONS)

    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        return replace(super().probe(texts, outputs, draw), target=OPTIONS, label_names=(WRONG, RIGHT))

    def columns(
        self, rows: Sequence[Any], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """Whether the option is right, and its probability of it."""
        shares = torch.from_numpy(np.stack(rows)).softmax(dim=1).numpy()[:, _right(outputs)]
        return {
            "label": [RIGHT if share >= self.threshold else WRONG for share in shares],
            "probability": rounded(shares),
        }

    def document(self, metrics: Any, outputs: tuple[str, ...]) -> Mapping[str, Any]:
        scores = class_scores((WRONG, RIGHT), metrics.confusion)
        told = {**metrics.details(), "questions": len(metrics.wrong)}
        return {"classes": [asdict(score) for score in scores], **told}

    def title(self, outputs: tuple[str, ...]) -> str:
        return "Multiple choice: whether an option answers a question on a passage"


def _right(labels: Sequence[str]) -> int:
    """The number of the class of right options, which a checkpoint may number in its own way."""
    return list(labels).index(RIGHT) if RIGHT in labels else 1
