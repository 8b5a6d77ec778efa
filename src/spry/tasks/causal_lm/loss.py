"""What a language model minimises: how unlikely each learnt token is after those before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.data.encoded import NOT_LEARNT, Batch
from spry.forward.tiled_loss import row_tiles, tiled_cross_entropy
from spry.models.language_head import LanguageHead
from spry.tasks.model_call import ModelCall, widened


class Targets(NamedTuple):
    """Which tokens of a batch are predicted: from which position of which row, shape (N,) each, and what they are."""

    rows: Tensor
    positions: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> Targets:
        """Find them in labels, shape (B, S), as transformers has them: position t predicts the label of t + 1."""
        rows, positions = (labels[:, 1:] != NOT_LEARNT).nonzero(as_tuple=True)
        return cls(rows, positions, labels[:, 1:][rows, positions])


def token_loss(head: LanguageHead, call: ModelCall, batch: Batch) -> tuple[Tensor, Targets]:
    """Sum ``-log softmax(z_t)[y_{t+1}]`` over the learnt tokens of a batch, without the logits of all positions.

    Returns:
        The sum, a scalar, with tangents and autograd's graph as the weights have them; and what was predicted.
    """
    targets = Targets.of(call.on_device(batch, "labels"))
    hidden = _hidden(head, call, batch)[targets.rows, targets.positions]
    weights = list(call.params.values())
    total = tiled_cross_entropy(
        lambda rows: head.logits(call.params, rows),
        hidden,
        targets.tokens,
        weights,
        vocabulary=head.vocabulary,
    )
    return total, targets


def row_losses_of(head: LanguageHead, call: ModelCall, batch: Batch) -> Tensor:
    """Each row's mean over its learnt tokens, shape (B,); 0 for a row without any."""
    targets = Targets.of(call.on_device(batch, "labels"))
    hidden = _hidden(head, call, batch)
    weights = list(call.params.values())
    found = []
    for row in range(len(batch["labels"])):
        own = targets.rows == row
        total = tiled_cross_entropy(
            lambda rows: head.logits(call.params, rows),
            hidden[row, targets.positions[own]],
            targets.tokens[own],
            weights,
            vocabulary=head.vocabulary,
        )
        found.append(total / max(1, int(own.sum())))
    return torch.stack(found)


def tokens_and_hits(head: LanguageHead, call: ModelCall, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Losses of learnt tokens, and whether each has the highest score of all, some at a time, shape (n,) each."""
    targets = Targets.of(call.on_device(batch, "labels"))
    hidden = _hidden(head, call, batch)[targets.rows, targets.positions]
    for part in row_tiles(len(hidden), head.vocabulary, hidden.device):
        logits = widened(head.logits(call.params, hidden[part]))
        tokens = targets.tokens[part]
        yield F.cross_entropy(logits, tokens, reduction="none"), logits.argmax(-1) == tokens


def _hidden(head: LanguageHead, call: ModelCall, batch: Batch) -> Tensor:
    with call.guard():
        return head.hidden(call.params, **call.inputs(batch))
