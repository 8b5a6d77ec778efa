"""A trained model with all it takes to classify texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spry.data.dataset import Dataset, Text
from spry.data.encoded import encode
from spry.models.load import Backbone
from spry.tasks.adapter_info import AdapterInfo

Progress = Callable[[int], None]
"""Is told how many texts more are done."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A model, its tokenizer and classes; ``notes`` are for its user."""

    info: AdapterInfo
    model: Any
    tokenizer: Any
    device: torch.device
    notes: tuple[str, ...] = ()

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut: as in training, or else what the model takes."""
        backbone = Backbone(name="", model=self.model, tokenizer=self.tokenizer, newly_initialized=())
        return self.info.max_length or backbone.max_length

    @torch.inference_mode()
    def logits(
        self, texts: Sequence[Text], *, batch_size: int = 64, progress: Progress = lambda _: None
    ) -> NDArray[np.float64]:
        """Score texts, or pairs, for each class: shape (N, C), in the order of the texts.

        Batches are made of texts of like length, the longest first, as in a run's evaluation.
        """
        found = np.zeros((len(texts), len(self.info.labels)))
        dataset = Dataset(name="texts", texts=texts, labels=[0] * len(texts), label_names=self.info.labels)
        encoded = encode(dataset, self.tokenizer, max_length=self.max_length, pad=self.tokenizer.pad_token_id)
        order = np.argsort(-encoded.lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = {n: v.to(self.device) for n, v in encoded.batch(places).items() if n != "labels"}
            found[places] = self.model(**batch).logits.double().cpu().numpy()
            progress(len(places))
        return found


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The softmax of scores, shape (N, C)."""
    return torch.from_numpy(logits).softmax(dim=1).numpy()
