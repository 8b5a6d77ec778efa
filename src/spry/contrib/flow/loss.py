"""The loss of a routed model: one pass through the model with the global adapter, and constants for the rest."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from spry.contrib.flow.answers import require_classes
from spry.contrib.flow.policy import NAMES, Policy, mixed, standardised
from spry.core.errors import ModelError
from spry.core.params import Params, without_own
from spry.estimators.blocks import Blocks, blocks_of
from spry.estimators.loss import Loss
from spry.tasks.model_loss import ModelLoss


@runtime_checkable
class Routable(Protocol):
    """A loss whose rows are ``-log p`` of the true class, and whose model has features of each row."""

    def examples(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """The rows' own losses, shape (B,)."""
        ...

    def features(self) -> Tensor:
        """What the untrained model says of each row, shape (B, D)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutedLoss:
    """``1/B sum_i -log((1 - g_i) p_global[y_i] + g_i p_local[y_i])``, a function of global adapter and policy.

    Args:
        loss: The batch's loss under the global adapter.
        local: Each row's loss under the local adapter, which stays, shape (B,).
        features: Normalised, shape (B, D).
        base: The policy's weights for calls that do not give them.
        parts: The micro-batches, with their shares; itself if none.
    """

    loss: Loss
    local: Tensor
    features: Tensor
    base: Params = field(default_factory=dict)
    parts: Sequence[tuple[float, RoutedLoss]] = ()

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        if self.parts:
            values = [share * part(params, checkpoint=checkpoint) for share, part in self.parts]
            return functools.reduce(operator.add, values)
        rows = cast(Routable, self.loss).examples(without_own(params), checkpoint=checkpoint)
        z = Policy.of({**self.base, **params}).logits(self.features)
        return mixed(z, rows, self.local.to(rows.device)).mean()

    def microbatches(self) -> Sequence[tuple[float, Loss]]:
        return self.parts or [(1.0, self)]

    @property
    def blocks(self) -> Blocks:
        return blocks_of(self.loss)

    @property
    def mask(self) -> Any:
        """Which tokens are padding, as the model's loss has it."""
        return getattr(self.loss, "mask", None)


def route(loss: Loss, local: Params, base: Params) -> RoutedLoss:
    """Route a batch between the weights of calls and a local adapter.

    Args:
        loss: Bound to the global adapter's untrained weights.
        local: All weights of the local adapter.
        base: Where the policy's weights are if a call does not give them.

    Raises:
        ModelError: If the loss has no rows of ``-log p``, or no features.
    """
    policy = {name: base[name] for name in NAMES if name in base}
    parts = [(share, _route(part, local, policy)) for share, part in loss.microbatches()]
    if len(parts) == 1:
        return parts[0][1]
    nothing = torch.zeros(0)
    return RoutedLoss(loss=loss, local=nothing, features=nothing, base=policy, parts=parts)


def _route(loss: Loss, local: Params, policy: Params) -> RoutedLoss:
    if not isinstance(loss, Routable):
        raise ModelError(
            f"{type(loss).__name__} has no probabilities of classes and features to route by. Choose another method, "
            "such as fedavg with schedule.local_tuning."
        )
    if isinstance(loss, ModelLoss):
        require_classes(loss.task)
    with torch.no_grad():
        rows = loss.examples(without_own(local)).detach()
        features = standardised(loss.features()).to(rows)
    return RoutedLoss(loss=cast(Loss, loss), local=rows, features=features, base=policy)
