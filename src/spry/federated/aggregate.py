"""How the server unites replies: per weight, over the clients that trained it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from spry.core.params import Params
from spry.federated.transforms import Cohort


class Aggregate(ABC):
    """Takes replies one by one.

    A weight that no reply names is left out of the result: its owner fell out, and it keeps its value.
    """

    def __init__(self) -> None:
        self._clients = self._total = 0

    def take(self, examples: int, values: Params) -> None:
        """Add one client's weights or gradient; a client without examples has no say."""
        self._clients += 1
        self._total += examples
        if examples:
            for name, value in values.items():
                self._add(name, value, examples)

    def read(self, like: Params) -> dict[str, Tensor]:
        """Read what each weight that some client sent became, in the order and dtypes of ``like``."""
        found = {name: self._united(name) for name in like}
        return {name: value.to(like[name].dtype) for name, value in found.items() if value is not None}

    def pseudo_gradient(self, weights: Params) -> dict[str, Tensor]:
        """Read what the clients' weights became as a gradient at the server's, ``g = w - united(w_i)``."""
        found = {name: self._united(name) for name in weights}
        return {
            name: (weights[name].double() - value).to(weights[name].dtype)
            for name, value in found.items()
            if value is not None
        }

    def cohort(self, round: int) -> Cohort:
        return Cohort(round, self._clients, self._total)

    @abstractmethod
    def _add(self, name: str, value: Tensor, examples: int) -> None: ...

    @abstractmethod
    def _united(self, name: str) -> Tensor | None:
        """Unite what clients sent of a weight, in float64; None if nobody did."""


class ClientMean(Aggregate):
    """The mean, weighted by examples: sums in float64, so that memory does not grow with the number of clients."""

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, Tensor] = {}
        self._examples: dict[str, int] = {}

    def _add(self, name: str, value: Tensor, examples: int) -> None:
        if name not in self._sums:
            self._sums[name] = torch.zeros_like(value, dtype=torch.float64)
            self._examples[name] = 0
        self._sums[name].add_(value.double(), alpha=examples)
        self._examples[name] += examples

    def _united(self, name: str) -> Tensor | None:
        return self._sums[name] / self._examples[name] if name in self._sums else None
