"""What every estimator differentiates: the loss of one batch as a function of the trainable weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from spry.core.params import Params


class Loss(Protocol):
    """The mean loss of one batch, ``L(w)``, bound to the base weights that are not given."""

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate at some or all trainable weights, plain or duals; the base weights stand for the rest.

        ``checkpoint`` lets a backward pass recompute each layer instead of keeping its activations; the value stays.
        """
        ...

    def microbatches(self) -> Sequence[tuple[float, Loss]]:
        """Split into pairs ``(c_i, L_i)`` with ``sum_i c_i L_i(w) = L(w)``; ``[(1.0, self)]`` if it stays whole."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A loss that can be cut into smaller micro-batches than its own."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of a micro-batch, and the tokens of a row, padding included."""
        ...

    def at_most(self, rows: int) -> Loss:
        """The same loss in micro-batches of at most so many rows, >= 1, each with dropout masks of its own."""
        ...
