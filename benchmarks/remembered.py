"""The lower blocks of a frozen BERT, run once for each text: what trains the last block alone takes seconds then."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from spry.experiment.build import Experiment, build
from spry.experiment.config import Config
from spry.experiment.given import Given
from spry.runtime import client_runner

Known = dict[tuple[int, ...], Tensor]
"""What is remembered: a text's tokens, and the last block's input, shape (T, D)."""


_KNOWN: Known = {}


class Remembered(nn.Module):
    """Stands for a BERT's embeddings, and gives what its blocks but the last make of them.

    Texts are known by their tokens. Padding, whose states nothing reads, has zeros.
    """

    def __init__(self, embeddings: nn.Module, blocks: nn.ModuleList, padding: int, known: Known) -> None:
        super().__init__()
        self._below, self._padding, self._known = (embeddings, blocks), padding, known

    @torch.no_grad()
    def forward(self, input_ids: Tensor, **_: Any) -> Tensor:
        """Give the last block's input, shape (B, T, D)."""
        texts = [tuple(row[row != self._padding].tolist()) for row in input_ids]
        for text in dict.fromkeys(texts):
            if text not in self._known:
                self._known[text] = self._states(torch.tensor([text]))[0].clone()
        longest = input_ids.shape[1]
        rows = [nn.functional.pad(self._known[t], (0, 0, 0, longest - len(t))) for t in texts]
        return torch.stack(rows)

    def _states(self, ids: Tensor) -> Tensor:
        embeddings, blocks = self._below
        hidden = embeddings(input_ids=ids)
        for block in blocks:
            hidden = _first(block(hidden))
        return hidden


class Passing(nn.Module):
    """Stands for a block whose work is remembered."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Give what came."""
        return hidden


def remember(bert: Any, known: Known) -> None:
    """Let a BERT run all but its last block once for each text; nothing below it may be trained.

    Args:
        bert: The model inside a classifier; it is changed.
        known: What is remembered, for models that are alike below the last block.
    """
    layers = bert.encoder.layer
    assert not any(weight.requires_grad for block in layers[:-1] for weight in block.parameters())
    below = nn.ModuleList(layers[:-1])
    bert.embeddings = Remembered(bert.embeddings, below, bert.config.pad_token_id, known)
    bert.encoder.layer = nn.ModuleList([*(Passing() for _ in layers[:-1]), layers[-1]])


@contextmanager
def remembering() -> Generator[None]:
    """Let runs of one model run all but its last block once for each text; their memory is not measured."""

    def built(config: Config, given: Given) -> Experiment:
        experiment = build(config, given)
        remember(experiment.task.module.get_base_model().bert, _KNOWN)
        return experiment

    with (
        patch("spry.experiment.run.build", built),
        patch.object(client_runner, "peak_of", lambda step, device: step() or 0),
    ):
        yield


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
