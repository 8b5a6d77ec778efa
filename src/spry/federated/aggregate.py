"""The server's streaming mean over replies: per weight, over the clients that trained it, weighted by examples."""

from __future__ import annotations

import torch
from torch import Tensor

from spry.core.params import Params
from spry.federated.transforms import Cohort


class ClientMean:
    """Sums replies as they come, in float64, so that memory does not grow with the number of clients.

    A weight that no reply names is left out of the result: its owner fell out, and it keeps its value.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._examples: dict[str, int] = {}
        self._clients = self._total = 0

    def take(self, examples: int, values: Params) -> None:
        """Add one client's weights or gradient, weighted by its examples; a client without examples has no say."""
        self._clients += 1
        self._total += examples
        if not examples:
            return
        for name, value in values.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(value, dtype=torch.float64)
                self._examples[name] = 0
            self._sums[name].add_(value.double(), alpha=examples)
            self._examples[name] += examples

    def read(self, like: Params) -> dict[str, Tensor]:
        """Read the mean of each weight that some client sent, in the order and dtypes of ``like``."""
        return {
            name: self._mean(name).to(weight.dtype) for name, weight in like.items() if name in self._sums
        }

    def pseudo_gradient(self, weights: Params) -> dict[str, Tensor]:
        """Read the mean of the clients' weights as a gradient at the server's, ``g = w - mean(w_i)``."""
        return {
            name: (weight.double() - self._mean(name)).to(weight.dtype)
            for name, weight in weights.items()
            if name in self._sums
        }

    def cohort(self, round: int) -> Cohort:
        return Cohort(round, self._clients, self._total)

    def _mean(self, name: str) -> Tensor:
        return self._sums[name] / self._examples[name]
