"""The loss behind a language model's head, by tiles of positions: the logits of all positions never exist at once.

    L = sum_i -log softmax(head(h_i))[y_i]

A tile's logits give its loss, its tangents and its gradient, and are gone before the next tile's are made. So autograd
keeps none, and the backward pass multiplies a known gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from spry.forward.chunking import WORKSPACE, by_device
from spry.forward.dual import Dual, primal

LogitsOf = Callable[[Tensor], Tensor]
"""``(n, d) -> (n, V)``: the logits of some rows of hidden states, each row by itself."""

FEWEST_ROWS = 16
"""Rows of a tile at least: each tile reads the head's weight once."""
COPIES = 3
"""Values of the logits' shape that live at the same time: the logits, their softmax and what the head leaves behind."""


def row_tiles(rows: int, vocabulary: int, device: torch.device, num_tangents: int = 0) -> Iterator[slice]:
    """Cut rows into tiles of one size whose logits fit into the engine's workspace, >= 16 rows each but the last.

    Args:
        rows: N.
        vocabulary: V.
        device: Where the logits are computed.
        num_tangents: Derivatives that travel with them.
    """
    row_bytes = COPIES * 4 * vocabulary * (1 + num_tangents)
    most = max(FEWEST_ROWS, by_device(WORKSPACE, device) // row_bytes)
    step = -(-rows // max(1, -(-rows // most)))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, max(1, step)))


def tiled_cross_entropy(
    head: LogitsOf, hidden: Tensor, labels: Tensor, weights: Sequence[Tensor], *, vocabulary: int
) -> Tensor:
    """Sum the cross-entropies of rows of hidden states.

    Args:
        head: Gives the logits of some rows.
        hidden: Shape (N, d), N >= 0; plain, or dual numbers, whose value may carry autograd's graph.
        labels: Shape (N,), each from 0 to V - 1.
        weights: What the head may depend on, plain or dual; those that require grad get their gradient.
        vocabulary: V, to choose the tiles by.

    Returns:
        The sum, a scalar of float32 or wider, with tangents and autograd's graph where ``hidden`` or weights have them.
    """
    value, tangents = hidden.pair() if isinstance(hidden, Dual) else (hidden, ())
    total = _Total(value, [end for end in map(primal, weights) if end.requires_grad])
    for part in row_tiles(len(labels), vocabulary, labels.device, len(tangents)):
        known = (
            total.by_hidden is not None
        )  # else nothing is cut off, so that torch.func differentiates it, too
        leaf = rows = value[part].detach().requires_grad_() if known else value[part]
        if isinstance(hidden, Dual):
            rows = Dual(leaf, [tangent[part] for tangent in tangents])
        total.add(F.cross_entropy(_wide(head(rows)), labels[part], reduction="sum"), leaf, part)
    return total.result()


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x


class _Total:
    """A sum of losses with its tangents, and its gradients by hidden states and weights."""

    def __init__(self, hidden: Tensor, weights: Sequence[Tensor]) -> None:
        on = torch.is_grad_enabled()
        self.hidden, self.weights = hidden, weights if on else ()
        self.by_hidden = torch.zeros_like(hidden) if on and hidden.requires_grad else None
        self.by_weight: list[Tensor | None] = [None] * len(self.weights)
        self.losses: list[Tensor] = []

    def add(self, loss: Tensor, leaf: Tensor, part: slice) -> None:
        """Add the loss of one tile, whose rows are a leaf."""
        value = primal(loss)
        if value.requires_grad:
            own = [leaf] if leaf.requires_grad else []
            found = list(torch.autograd.grad(value, [*own, *self.weights], allow_unused=True))
            if self.by_hidden is not None and (gradient := found.pop(0)) is not None:
                self.by_hidden[part] = gradient
            self.by_weight = [_sum(old, new) for old, new in zip(self.by_weight, found, strict=True)]
        value = value.detach() if value.requires_grad else value
        self.losses.append(Dual(value, loss.tangents) if isinstance(loss, Dual) else value)

    def result(self) -> Tensor:
        """Sum up, and bind the gradients to the tensors that they are of."""
        total: Any = reduce(add, self.losses, _wide(self.hidden.detach()).new_zeros(()))
        pairs = zip([self.hidden, *self.weights], [self.by_hidden, *self.by_weight], strict=True)
        known = [(end, gradient) for end, gradient in pairs if gradient is not None]
        if not known:
            return total
        ends, gradients = zip(*known, strict=True)
        value: Any = _Known.apply(primal(total), gradients, *ends)
        return Dual(value, total.tangents) if isinstance(total, Dual) else value


def _sum(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    if old is None or new is None:
        return new if old is None else old
    return old.add_(new)


class _Known(torch.autograd.Function):
    """A scalar whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        """Pass the value on."""
        ctx.gradients = gradients
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Scale the gradients by that of the scalar."""
        return None, None, *(gradient * grads[0].to(gradient.dtype) for gradient in ctx.gradients)
