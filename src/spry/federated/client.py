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
from spry.core.params import Params, add, restrict, tree_map
from spry.estimators.estimate import Estimate, Estimator
from spry.forward.loss import CausalLoss, Loss
from spry.optim.transform import Transform
from spry.wire.messages import Gradient, Order, Weights


class LossOf(Protocol):
    """Makes the loss of one batch; a task's ``loss`` method is one."""

    def __call__(self, batch: Any, key: Key) -> Loss:
        """Bind a batch.

        Args:
            batch: What the task's batches are.
            key: Where dropout masks come from.

        Returns:
            The loss as a function of the trainable weights.
        """
        ...


class LocalResult(NamedTuple):
    """What local training found.

    Args:
        weights: The trained weights afterwards.
        payload: The same, or the mean gradient, as a reply carries it.
        slopes: What was measured at each step, shape (steps, K); K = 0 where nothing was.
        losses: The loss at each step.
    """

    weights: Params
    payload: Weights | Gradient
    slopes: Tensor
    losses: list[float]


LocalTraining = Callable[[LossOf, Order, Iterable[Any]], LocalResult]


@dataclass(frozen=True)
class _Within:
    """A loss in which the weights that are not trained here have the order's values."""

    loss: Loss
    fixed: Params

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        return self.loss({**self.fixed, **params}, checkpoint=checkpoint)

    @property
    def mask(self) -> Tensor | None:
        return self.loss.mask

    def examples(self, params: Params) -> Tensor:
        return self.loss.examples({**self.fixed, **params})

    def parts(self) -> Sequence[tuple[float, Loss]]:
        return [(share, _within(part, self.fixed)) for share, part in self.loss.parts()]


@dataclass(frozen=True)
class _CausalWithin(_Within):
    """The same of a loss that tells positions apart."""

    loss: CausalLoss

    @property
    def mask(self) -> Tensor:
        return self.loss.mask

    def tokens(self, params: Params) -> Tensor:
        return self.loss.tokens({**self.fixed, **params})


def _within(loss: Loss, fixed: Params) -> _Within:
    return _CausalWithin(loss, fixed) if isinstance(loss, CausalLoss) else _Within(loss, fixed)


def _estimates(
    estimator: Estimator, loss_of: LossOf, order: Order, batches: Iterable[Any]
) -> Iterator[Callable[[Params], Estimate]]:
    """Yield, batch by batch, the estimate as a function of the trained weights."""
    trained = set(order.trained)
    fixed = {name: value for name, value in order.weights.items() if name not in trained}
    for step, batch in enumerate(batches):
        key = order.key.fold("step", step)
        loss = _within(loss_of(batch, key.fold("dropout")), fixed)
        yield lambda weights, loss=loss, key=key: estimator(loss, weights, key, order.hint)


def _result(weights: Params, payload: Weights | Gradient, estimates: list[Estimate]) -> LocalResult:
    slopes = torch.stack([e.slopes for e in estimates]) if estimates else torch.zeros(0, 0)
    return LocalResult(weights, payload, slopes, [e.value for e in estimates])


def replay(training: LocalTraining, order: Order, steps: int) -> Params:
    """Run a client's loop without its data, on recorded slopes.

    Args:
        training: Local training whose estimator gives recorded estimates and never looks at the loss.
        order: The client's order.
        steps: How many steps it took.

    Returns:
        What its payload would have held, bit for bit where the optimizer treats each weight on its own; weights whose
        gradient was not recorded stay as ordered.
    """
    nothing: Any = None
    return training(lambda batch, key: nothing, order, range(steps)).payload.values


def descend(estimator: Estimator, optimizer: Transform) -> LocalTraining:
    """Step an optimizer on every batch and send the weights.

    Args:
        estimator: How gradients are got.
        optimizer: The client's optimizer; its state is fresh in each round.

    Returns:
        The local training.
    """

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any]) -> LocalResult:
        weights = restrict(order.weights, order.trained)
        state = optimizer.init(weights)
        estimates: list[Estimate] = []
        for estimate_at in _estimates(estimator, loss_of, order, batches):
            estimate = estimate_at(weights)
            updates, state = optimizer.update(estimate.gradient, state, weights)
            weights = add(weights, updates)
            estimates.append(estimate)
        return _result(weights, Weights(weights), estimates)

    return train


def accumulate(estimator: Estimator) -> LocalTraining:
    """Stay at the order's weights and send the mean gradient over the batches.

    Args:
        estimator: How gradients are got.

    Returns:
        The local training; its weights are the order's.
    """

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any]) -> LocalResult:
        weights = restrict(order.weights, order.trained)
        total: Params = tree_map(lambda w: w * 0, weights)
        estimates: list[Estimate] = []
        for estimate_at in _estimates(estimator, loss_of, order, batches):
            estimate = estimate_at(weights)
            total = add(total, estimate.gradient)
            estimates.append(estimate)
        mean = tree_map(lambda g: g / max(len(estimates), 1), total)
        return _result(weights, Gradient(mean), estimates)

    return train
