"""What a client does with an order: the one loop over its batches, in two kinds.

``descend`` steps its own optimizer on every batch and sends weights; ``accumulate`` stays where it is and sends the
mean gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, add, merge, restrict, tree_map
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss
from spry.federated.transforms import UpdateTransform, transform_payload, transform_slopes
from spry.optim.transform import Transform
from spry.wire.messages import Gradient, Order, Reply, Slopes, Weights


class LossOf(Protocol):
    """Makes the loss of one batch; a task's ``loss`` method is one."""

    def __call__(self, batch: Any, key: Key, base: Params) -> Loss:
        """Bind the loss to a batch; ``base`` has the trainable weights that calls will not give."""
        ...


class LocalUpdate(NamedTuple):
    """What local training found.

    Args:
        payload: The same, or the mean gradient, as a reply carries it.
        slopes: What was measured at each step, shape (steps, K); K = 0 where nothing was.
    """

    weights: Params
    payload: Weights | Gradient
    slopes: Tensor
    losses: list[float]


LocalTraining = Callable[[LossOf, Order, Iterable[Any]], LocalUpdate]


@dataclass(frozen=True, kw_only=True)
class ClientResult:
    """A client's reply, and all trainable weights after its training, for personalized evaluation.

    Args:
        evaluate: ``(task, batches) -> metrics``: evaluates the client's own model where that is more than one set of
            weights; None leaves it to the task and ``weights``.
    """

    reply: Reply
    weights: Params
    evaluate: Callable[[Any, Iterable[Any]], Any] | None = None


def run_client(
    training: LocalTraining,
    loss_of: LossOf,
    order: Order,
    batches: Iterable[Any],
    examples: int,
    *,
    slopes_exact: frozenset[str] | None = None,
    transforms: Sequence[UpdateTransform] = (),
) -> ClientResult:
    """Train as ordered and write the reply.

    Args:
        slopes_exact: Lets the reply carry slopes, and of the weights only these names; None sends what slopes led to.
        transforms: Applied to the payload, the first one first.
    """
    weights, found, slopes, losses = training(loss_of, order, batches)
    if slopes_exact is None:
        payload = transform_payload(transforms, found, order)
    else:
        exact = {name: value for name, value in found.values.items() if name in slopes_exact}
        payload = transform_slopes(transforms, Slopes(slopes, exact), type(found), order)
    reply = Reply(
        round=order.round,
        client=order.client,
        examples=examples,
        payload=payload,
        steps=len(losses),
        loss=sum(losses) / max(len(losses), 1),
    )
    return ClientResult(reply=reply, weights=merge(order.weights, weights))


def _estimates(
    estimator: Estimator, loss_of: LossOf, order: Order, batches: Iterable[Any]
) -> Iterator[Callable[[Params], Estimate]]:
    """Yield, batch by batch, the estimate as a function of the trained weights."""
    trained = set(order.trained)
    base = {name: value for name, value in order.weights.items() if name not in trained}
    for step, batch in enumerate(batches):
        key = order.key.fold("step", step)
        loss = loss_of(batch, key.fold("dropout"), base)
        yield lambda weights, loss=loss, key=key: estimator(loss, weights, key)


def _update(weights: Params, payload: Weights | Gradient, estimates: list[Estimate]) -> LocalUpdate:
    slopes = torch.stack([e.slopes for e in estimates]) if estimates else torch.zeros(0, 0)
    return LocalUpdate(weights, payload, slopes, [e.value for e in estimates])


def replay(training: LocalTraining, order: Order, steps: int) -> Params:
    """Run a client's loop without its data, on the recorded estimates that the estimator of ``training`` gives.

    The result is what its payload would have held, bit for bit where the optimizer treats each weight separately;
    weights whose gradient was not recorded stay as ordered.
    """
    nothing: Any = None
    return training(lambda batch, key, base: nothing, order, range(steps)).payload.values


def descend(estimator: Estimator, optimizer: Transform) -> LocalTraining:
    """Step an optimizer, fresh in each round, on every batch and send the weights."""

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any]) -> LocalUpdate:
        weights = restrict(order.weights, order.trained)
        state = optimizer.init(weights)
        estimates: list[Estimate] = []
        for estimate_at in _estimates(estimator, loss_of, order, batches):
            estimate = estimate_at(weights)
            updates, state = optimizer.update(estimate.gradient, state, weights)
            weights = add(weights, updates)
            estimates.append(estimate)
        return _update(weights, Weights(weights), estimates)

    return train


def accumulate(estimator: Estimator) -> LocalTraining:
    """Stay at the order's weights and send the mean gradient over the batches."""

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any]) -> LocalUpdate:
        weights = restrict(order.weights, order.trained)
        total: Params = tree_map(lambda w: w * 0, weights)
        estimates: list[Estimate] = []
        for estimate_at in _estimates(estimator, loss_of, order, batches):
            estimate = estimate_at(weights)
            total = add(total, estimate.gradient)
            estimates.append(estimate)
        mean = tree_map(lambda g: g / max(len(estimates), 1), total)
        return _update(weights, Gradient(mean), estimates)

    return train
