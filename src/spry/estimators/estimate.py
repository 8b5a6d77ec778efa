"""What an estimator is and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.estimators.loss import Loss


def no_slopes() -> Tensor:
    """The slopes of an estimate that measured none: float32, shape (0,)."""
    return torch.zeros(0)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An estimate of a gradient, and what was measured to get it.

    Args:
        value: The loss at the weights.
        gradient: The estimate, for every weight that was asked for.
        slopes: The measured slopes, shape (K,); with the key they determine the projected part of ``gradient``.
    """

    value: float
    gradient: Params
    slopes: Tensor = field(default_factory=no_slopes)


class Estimator(Protocol):
    def __call__(self, loss: Loss, params: Params, key: Key) -> Estimate:
        """Estimate ``dL/dw`` for the names of ``params``; random directions come from ``key``."""
        ...
