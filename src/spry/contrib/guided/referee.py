"""The referee: one slope along the update that the optimizer proposes tells whether it lowers the loss.

``s = <dL/dw, u>`` for the part u of the update that lies below the last block. If ``s >= 0`` this part would raise the
loss and is dropped; if the loss would fall below zero at that slope, the part is shortened to where it would be zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from spry.contrib.guided.estimator import parts_below
from spry.core.params import Params, add, restrict, tree_map
from spry.estimators.blocks import blocks_of
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss
from spry.estimators.slopes import forward_mode
from spry.federated.client import LocalTraining, LocalUpdate, LossOf
from spry.optim.transform import Transform
from spry.wire.messages import Order, Weights


def refereed(estimator: Estimator, optimizer: Transform) -> LocalTraining:
    """Step an optimizer on every batch as ``descend`` does, with the referee's word on every step."""

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any]) -> LocalUpdate:
        weights = restrict(order.weights, order.trained)
        base = {name: value for name, value in order.weights.items() if name not in weights}
        state = optimizer.init(weights)
        estimates: list[Estimate] = []
        for step, batch in enumerate(batches):
            key = order.key.fold("step", step)
            loss = loss_of(batch, key.fold("dropout"), base)
            estimate = estimator(loss, weights, key)
            updates, state = optimizer.update(estimate.gradient, state, weights)
            weights = add(weights, judged(loss, weights, updates, estimate.value)[0])
            estimates.append(estimate)
        slopes = torch.stack([e.slopes for e in estimates]) if estimates else torch.zeros(0, 0)
        return LocalUpdate(weights, Weights(weights), slopes, [e.value for e in estimates])

    return train


def judged(loss: Loss, weights: Params, updates: Params, value: float) -> tuple[Params, float]:
    """The update with its part below the last block as long as it may be, and how much of that part is left.

    Args:
        loss: Of the batch that the update was made of, with the same dropout masks.
        weights: Where it starts.
        updates: What would be added to the weights.
        value: The loss there.

    Returns:
        ``(updates, c)``: ``c = 0`` if ``s >= 0``, else ``min(1, L / -s)``; 1 if nothing lies below.
    """
    parts = parts_below(blocks_of(loss), updates)
    if not parts:
        return updates, 1.0
    slope = float(forward_mode(loss, weights, parts, {}).slopes[0])
    share = 0.0 if slope >= 0 else min(1.0, value / -slope)
    return {**updates, **tree_map(lambda u: share * u, parts[0])}, share
