"""Cross-entropy by rows: ``d loss_i = <p_i, t_i> - t_i[label_i]``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual
from spry.forward.fallback import fallback
from spry.forward.lazy.dual import append_op, is_lazy
from spry.forward.registry import RULES, rule


@rule(F.cross_entropy)
def _cross_entropy(
    input: Dual,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    options = {
        "weight": weight,
        "size_average": size_average,
        "ignore_index": ignore_index,
        "reduce": reduce,
        "reduction": reduction,
        "label_smoothing": label_smoothing,
    }
    if not has_class_labels(input, target, **options):
        return fallback(F.cross_entropy, (input, target), options)
    return reduce_losses(
        row_losses(input, target.unsqueeze(-1), ignore_index), target, ignore_index, reduction
    )


def has_class_labels(
    input: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    **_: Any,
) -> bool:
    """Tell whether ``row_losses`` computes a cross-entropy: rows of logits with one label each, all classes alike."""
    if isinstance(target, Dual) or target.is_floating_point() or input.dim() != 2:
        return False
    plain = weight is None and not label_smoothing and size_average is None and reduce is None
    return plain and target.shape == input.shape[:1] and reduction in {"none", "sum", "mean"}


def reduce_losses(losses: Dual, target: Tensor, ignore_index: int, reduction: str) -> Any:
    """Sum up the losses of rows, shape (N, 1), as ``F.cross_entropy`` does: shape (N,) for ``none``, else a scalar."""
    if reduction == "none":
        return losses.squeeze(-1)
    total = losses.sum()
    return total / (target != ignore_index).sum() if reduction == "mean" else total


def row_losses(input: Dual, target: Tensor, ignore_index: int) -> Dual:
    """Compute the loss of each row of logits (N, V) with labels (N, 1): shape (N, 1), zero where a label is ignored.

    Lazy logits are consumed as they are computed.
    """
    if is_lazy(input):
        return append_op(row_losses, (input, target, ignore_index), {}, (0, 1), 1, input.dtype)
    wide: Any = input.float() if input.dtype in {torch.float16, torch.bfloat16} else input
    value, tangents = wide.pair()
    kept = target != ignore_index
    label = target.masked_fill(~kept, 0)
    norm = torch.logsumexp(value, -1, keepdim=True)
    losses = (norm - value.gather(-1, label)).masked_fill_(~kept, 0)
    p = (value - norm).exp_()

    def column(t: Tensor) -> Tensor:
        return ((p * t).sum(-1, keepdim=True) - t.gather(-1, label)).masked_fill_(~kept, 0)

    return Dual(losses.to(input.dtype), [column(t).to(input.dtype) for t in tangents])


RULES[row_losses] = row_losses
