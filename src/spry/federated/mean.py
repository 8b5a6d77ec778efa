"""The server's streaming mean over replies: per weight, over the clients that trained it, weighted by examples."""

from __future__ import annotations

import torch
from torch import Tensor

from spry.core.params import Params
from spry.wire.messages import Reply, Weights


class ClientMean:
    """Sums replies as they come, in float64, so that memory does not grow with the number of clients.

    A weight that no reply names is left out of the result: its owner fell out, and it keeps its value.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._examples: dict[str, int] = {}
        self._kind: type | None = None

    def take(self, reply: Reply) -> None:
        """Add one reply; a client without examples has no say.

        Args:
            reply: The reply.

        Raises:
            TypeError: If weights and gradients come in one round.
        """
        kind = type(reply.payload)
        if self._kind not in {None, kind}:
            raise TypeError(f"replies of one round mix {self._kind} and {kind}")
        self._kind = kind
        if not reply.examples:
            return
        for name, value in reply.payload.values.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(value, dtype=torch.float64)
                self._examples[name] = 0
            self._sums[name].add_(value.double(), alpha=reply.examples)
            self._examples[name] += reply.examples

    def gradient(self, weights: Params) -> dict[str, Tensor]:
        """Read the mean as a gradient for the server's optimizer.

        Args:
            weights: The server's weights, which the clients started from.

        Returns:
            ``w - mean(w_i)`` for replies with weights, ``mean(g_i)`` for replies with gradients, for each weight that
            some reply named, in the order of ``weights``.
        """
        result: dict[str, Tensor] = {}
        for name, weight in weights.items():
            if name in self._sums:
                mean = self._sums[name] / self._examples[name]
                result[name] = (weight.double() - mean if self._kind is Weights else mean).to(weight.dtype)
        return result
