"""What every estimator differentiates: the loss of one batch as a function of the trainable weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from spry.core.params import Params


class Loss(Protocol):
    """The mean loss of one batch, ``L(w)``, bound to the base weights that are not given."""

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate the loss.

        Args:
            params: Some or all of the trainable weights, plain tensors or duals; the base weights stand for the rest.
            checkpoint: Whether a backward pass shall recompute each layer instead of keeping its activations; of no
                effect on the value.

        Returns:
            A scalar tensor.
        """
        ...

    def microbatches(self) -> Sequence[tuple[float, Loss]]:
        """Split the batch.

        Returns:
            Pairs ``(c_i, L_i)`` with ``sum_i c_i L_i(w) = L(w)``; ``[(1.0, self)]`` for a batch that stays whole.
        """
        ...
