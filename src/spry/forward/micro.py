"""Slopes of a batch too large for one pass: a slope is one number, so micro-batches add up and no memory does."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from spry.core.params import Params
from spry.forward.functional import jvp
from spry.forward.loss import Loss


def micro_jvp(loss: Loss, params: Params, directions: Sequence[Params]) -> tuple[Tensor, Tensor]:
    """Compute a loss and its slopes micro-batch by micro-batch: ``s_k = sum_i c_i <grad L_i(w), v_k>``.

    One part's values and derivatives exist at a time.

    Args:
        loss: The loss of a batch and the parts ``(c_i, L_i)`` it consists of.
        params: The weights.
        directions: K mappings of names to tensors shaped like those of ``params``.

    Returns:
        The loss, a scalar without a graph, and the slopes, shape (K,).
    """
    parts = ((share, *jvp(part, params, directions)) for share, part in loss.parts())
    share, value, slopes = next(parts)
    total, sums = share * value.detach(), share * slopes
    for share, value, slopes in parts:
        total, sums = total + share * value.detach(), sums + share * slopes
    return total, sums
