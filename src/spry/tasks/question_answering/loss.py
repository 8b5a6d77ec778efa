"""What question answering minimises: how unlikely the answer's first and last token are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.data.encoded import Batch


def span_loss(start: Tensor, end: Tensor, batch: Batch, reduction: str = "mean") -> Tensor:
    """Compute ``1/2 (-log softmax(start)[s] - log softmax(end)[e])`` of each window, over its tokens without padding.

    So a window's loss does not depend on what it is padded to. For windows of one length it is the loss of
    transformers' models.

    Args:
        start: Logits of the first token, shape (R, S), plain or dual.
        end: Logits of the last token, shape (R, S).
        batch: Has ``attention_mask``, shape (R, S), and ``start_positions`` and ``end_positions``, shape (R,).
        reduction: ``mean`` or ``none``.

    Returns:
        The mean over windows, or the losses, shape (R,).
    """
    padding = batch["attention_mask"].to(start.device) == 0
    lowest = torch.finfo(start.dtype).min
    losses = [
        F.cross_entropy(
            logits.masked_fill(padding, lowest),
            batch[f"{side}_positions"].to(start.device),
            reduction=reduction,
        )
        for side, logits in (("start", start), ("end", end))
    ]
    return (losses[0] + losses[1]) / 2
