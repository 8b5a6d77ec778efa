"""A trained model with all it takes to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spry.data.dataset import Dataset
from spry.data.encoded import Encoded
from spry.models.load import Backbone
from spry.tasks.adapter_info import AdapterInfo
from spry.tasks.kind import TaskKind
from spry.tasks.kinds import make_task
from spry.tasks.model_call import ModelCall, floating

Progress = Callable[[int], None]
"""Is told how many texts more are done."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A model, its tokenizer and what its outputs are; ``notes`` are for its user."""

    info: AdapterInfo
    model: Any
    tokenizer: Any
    device: torch.device
    notes: tuple[str, ...] = ()

    @cached_property
    def kind(self) -> TaskKind:
        return make_task(self.info.task_name, self.info.task_options)

    @property
    def most_tokens(self) -> int:
        """The most tokens that the model takes."""
        return Backbone(name="", model=self.model, tokenizer=self.tokenizer, newly_initialized=()).max_length

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut: as in training, or else what the model takes."""
        return self.info.max_length or self.most_tokens

    def call(self) -> ModelCall:
        return ModelCall(module=self.model, device=self.device, params={}, unread=self.kind.unread)

    def encode(self, dataset: Dataset) -> Encoded:
        return self.kind.encode(
            dataset,
            self.tokenizer,
            max_length=self.max_length,
            most=self.most_tokens,
            pad=self.tokenizer.pad_token_id,
        )

    @torch.inference_mode()
    def answers(
        self, texts: Sequence[Any], *, batch_size: int = 64, progress: Progress = lambda _: None
    ) -> tuple[list[Any], Encoded]:
        """What the model says of each row of tokens that texts, or pairs, are turned into, in their order; and these.

        Batches are made of rows of like length, the longest first, as in a run's evaluation.
        """
        encoded = self.encode(self.kind.unlabelled(texts, self.info.labels))
        found: list[Any] = [None] * len(encoded)
        order, call = np.argsort(-encoded.lengths, kind="stable"), self.call()
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            for place, answer in zip(
                places, self.kind.answer(call, encoded.batch(places), encoded), strict=True
            ):
                found[place] = answer
            progress(len(places))
        return found, encoded

    def predict(
        self,
        texts: Sequence[Any],
        *,
        every: bool = False,
        batch_size: int = 64,
        progress: Progress = lambda _: None,
    ) -> dict[str, Sequence[Any]]:
        """Answer texts, or pairs: columns of predictions, a cell a text; of ``every`` output its score, too."""
        rows, encoded = self.answers(texts, batch_size=batch_size, progress=progress)
        return self.kind.columns(rows, encoded, self.info.labels, every=every)

    @torch.inference_mode()
    def raw(self, texts: Sequence[Any]) -> NDArray[np.float64]:
        """All numbers that the model gives for a few texts, to compare it with another by."""
        encoded = self.encode(self.kind.unlabelled(texts, self.info.labels))
        return floating(self.call()(encoded.batch(range(len(encoded))))).cpu().numpy()
