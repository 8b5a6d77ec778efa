"""What every estimator differentiates: the loss of one batch as a function of the trainable weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from spry.core.params import Params


class Loss(Protocol):
    """The mean loss of one batch, ``L(w)``."""

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate the loss.

        Args:
            params: Some or all of the trainable weights, plain tensors or duals; the model keeps its own for the rest.
            checkpoint: Whether a backward pass shall recompute each layer instead of keeping its activations; of no
                effect on the value.

        Returns:
            A scalar tensor.
        """
        ...

    @property
    def mask(self) -> Tensor | None:
        """1 for tokens and 0 for padding, shape (B, T); None where examples are no sequences, or have no padding."""
        ...

    def examples(self, params: Params) -> Tensor:
        """Evaluate the examples' own losses, whose mean is the loss.

        Args:
            params: As above.

        Returns:
            Shape (B,).
        """
        ...

    def parts(self) -> Sequence[tuple[float, Loss]]:
        """Split the batch into micro-batches.

        Returns:
            Pairs ``(c_i, L_i)`` with ``sum_i c_i L_i(w) = L(w)``; ``[(1.0, self)]`` for a batch that stays whole.
        """
        ...


@runtime_checkable
class CausalLoss(Loss, Protocol):
    """A loss whose examples' losses are sums over positions, in a model where nothing depends on later positions.

    Having ``tokens`` is the claim that the model is causal: column t of every map's input is position t, and moving it
    changes the losses of positions t and later alone. A loss of a bidirectional model must not have it, also if it is
    a sum over tokens.
    """

    @property
    def mask(self) -> Tensor:
        """1 for tokens and 0 for padding, shape (B, T)."""
        ...

    def tokens(self, params: Params) -> Tensor:
        """Evaluate the positions' own losses, whose sum over an example's positions is the example's loss.

        The loss of predicting token t + 1 stands at position t, whose output predicts it. Where the example's loss is
        a mean over its n predictions, each is divided by n.

        Args:
            params: As above.

        Returns:
            Shape (B, T); 0 at positions that predict nothing, such as padding and the last token.
        """
        ...
