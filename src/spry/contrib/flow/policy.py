"""The policy: a linear map of frozen features that says, instance by instance, how far the local adapter answers.

With x what the head's last map reads in the untrained model, normalised per instance, ``z = <r, x> + b`` and the gate
``g = sigmoid(z)``, the probabilities of the classes are ``(1 - g) p_global + g p_local``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.errors import ModelError
from spry.core.params import METHODS_OWN, Params
from spry.core.units import Unit

WEIGHT, BIAS = f"{METHODS_OWN}policy.weight", f"{METHODS_OWN}policy.bias"
NAMES = (WEIGHT, BIAS)


class Policy(NamedTuple):
    """The weights ``r``, shape (D,), and ``b``, shape (), plain or dual."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, params: Params) -> Self:
        return cls(params[WEIGHT], params[BIAS])

    def logits(self, features: Tensor) -> Tensor:
        """``z``, shape (B,), of normalised features, shape (B, D)."""
        return (features * self.weight).sum(-1) + self.bias


def standardised(features: Tensor) -> Tensor:
    """Bring each instance's features, shape (B, D), to mean 0 and variance 1, so that no model's scale matters."""
    return F.layer_norm(features, features.shape[-1:])


def policy_unit(width: int) -> Unit:
    """The policy as a unit: every client trains it, and its gradient is exact, for nothing of the model lies below."""
    return Unit(name="policy", names=NAMES, size=width + 1, head=True, exact=True)


def start(weights: Params, units: Iterable[Unit]) -> dict[str, Tensor]:
    """Begin at ``r = 0`` and ``b = 0``: both adapters answer in equal parts."""
    last = last_map(weights, units)
    return {WEIGHT: torch.zeros_like(last[0]), BIAS: last.new_zeros(())}


def last_map(weights: Params, units: Iterable[Unit]) -> Tensor:
    """Find the weight of the head's last linear map, shape (C, D), whose inputs the policy reads.

    Raises:
        ModelError: If the head has none that is trained.
    """
    head = [weights[n] for one in units if one.head and not one.last_block for n in one.names if n in weights]
    maps = [weight for weight in head if weight.ndim == 2]
    if not maps:
        raise ModelError(
            "the head has no linear map that is trained, so method flow has no features to route by. Choose another "
            "model, or fedavg with schedule.local_tuning."
        )
    return maps[-1]


def mixed(z: Tensor, global_losses: Tensor, local_losses: Tensor) -> Tensor:
    """``-log((1 - g) exp(-l_global) + g exp(-l_local))`` for losses ``-log p``, shape (B,) or (B, C)."""
    kept, routed = F.logsigmoid(-z) - global_losses, F.logsigmoid(z) - local_losses
    return -torch.logaddexp(kept, routed)
