"""What turns the slopes of tapped outputs into a gradient: each example's trace, or the factors that make it up."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Trace(NamedTuple):
    """``V = U' X`` of each direction, example, of the shape (R, D) of a map.

    M is the number of rows that were moved apart from each other. Where it is small the factors are smaller than their
    product; where it is not, U is the identity and X the product.

    Args:
        moved: U, shape (K, B, M, R).
        inputs: X, shape (K, B, M, D), or (1, B, M, D) if all directions share it.
    """

    moved: Tensor
    inputs: Tensor

    @staticmethod
    def of(product: Tensor) -> Trace:
        """Keep a product V, shape (K, B, R, D); its U takes no memory beyond (R, R)."""
        *rest, rows, _ = product.shape
        one = torch.eye(rows, dtype=product.dtype, device=product.device)
        return Trace(one.expand(*rest, rows, rows), product)

    def product(self) -> Tensor:
        """Multiply the factors: V, shape (K, B, R, D)."""
        return self.moved.mT @ self.inputs

    def smaller(self) -> Trace:
        """Keep the product instead if it takes no more memory; V is the same."""
        whole = self.moved.shape[:2].numel() * self.moved.shape[-1] * self.inputs.shape[-1]
        return self if self.moved.numel() + self.inputs.numel() < whole else Trace.of(self.product())

    def plus(self, other: Trace) -> Trace:
        """Add the trace of another use of the same map: ``V + V'``."""
        count = max(len(self.inputs), len(other.inputs))
        inputs = [t.inputs.expand(count, *t.inputs.shape[1:]) for t in (self, other)]
        return Trace(torch.cat([self.moved, other.moved], 2), torch.cat(inputs, 2)).smaller()

    def weighted(self, slopes: Tensor) -> Tensor:
        """Sum the traces, each times its slope (K, B): ``sum_kb s_kb V_kb``, shape (R, D)."""
        moved = slopes[..., None, None] * self.moved
        if len(self.inputs) < len(moved):
            moved = moved.sum(0, keepdim=True)
        return moved.flatten(0, 2).T @ self.inputs.flatten(0, 2)
