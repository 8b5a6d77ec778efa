"""The referee's word on a proposed update, against autograd's slope."""

from __future__ import annotations

import pytest
import torch
from tests.estimators.test_residual import DEPTH, block_of, close, setting

from spry.contrib.guided.referee import judged, refereed
from spry.core.keys import Key
from spry.core.params import dot, tree_map
from spry.estimators.backprop import backprop
from spry.estimators.residual import residual
from spry.federated.client import descend
from spry.optim.rules import adamw, sgd
from spry.wire.messages import Order


def stage(tokenizer, dataset, **options):
    task, weights, batch = setting("bert", tokenizer, dataset, **options)
    loss = task.loss(batch, Key(7))
    exact = backprop()(loss, weights, Key(1))
    below = [name for name in weights if block_of(task, name) < DEPTH - 1]
    return task, weights, batch, loss, exact, below


@pytest.mark.parametrize("dropout", [False, True])
def test_what_would_raise_the_loss_is_dropped_below_the_last_block_alone(dropout, tiny_tokenizer, reviews):
    _, weights, _, loss, exact, below = stage(tiny_tokenizer, reviews, dropout=dropout)
    uphill = tree_map(lambda g: 0.01 * g, exact.gradient)
    updates, share = judged(loss, weights, uphill, exact.value)
    assert share == 0
    for name in weights:
        assert torch.equal(updates[name], uphill[name] * (name not in below))


@pytest.mark.parametrize("dropout", [False, True])
def test_a_step_is_as_long_as_the_loss_can_fall(dropout, tiny_tokenizer, reviews):
    """Linearly it ends at loss 0 at the least: ``L + c <g, u> = 0`` where it is shortened."""
    _, weights, _, loss, exact, below = stage(tiny_tokenizer, reviews, dropout=dropout)
    downhill = tree_map(lambda g: -g, exact.gradient)
    slope = -sum(dot({n: exact.gradient[n]}, exact.gradient) for n in below)
    for length in (0.5, 8.0):
        step = tree_map(lambda u, length=length: length * exact.value / -slope * u, downhill)
        updates, share = judged(loss, weights, step, exact.value)
        assert share == pytest.approx(min(1.0, 1 / length), rel=1e-6)
        for name in weights:
            close(updates[name], step[name] * (share if name in below else 1.0))


def test_where_it_has_nothing_to_say_training_is_that_without_it(tiny_tokenizer, reviews):
    task, weights, batch, *_ = stage(tiny_tokenizer, reviews, dropout=True)
    order = Order(round=0, client=3, weights=weights, trained=tuple(weights), key=Key(4))
    for optimizer in (sgd(1e-4), adamw(1e-5)):
        found, plain = (
            make(residual(), optimizer)(task.loss, order, [batch, batch]) for make in (refereed, descend)
        )
        assert found.losses == plain.losses
        assert found.slopes.shape == plain.slopes.shape
        for name in weights:
            close(found.weights[name], plain.weights[name])


def test_a_client_without_batches_stays(tiny_tokenizer, reviews):
    task, weights, *_ = stage(tiny_tokenizer, reviews)
    order = Order(round=0, client=3, weights=weights, trained=tuple(weights), key=Key(4))
    found = refereed(residual(), sgd(1.0))(task.loss, order, [])
    assert found.losses == []
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)


def test_a_slope_that_is_no_number_is_not_hidden(tiny_tokenizer, reviews):
    _, weights, _, loss, exact, below = stage(tiny_tokenizer, reviews)
    updates, _ = judged(loss, weights, tree_map(lambda g: g * float("nan"), exact.gradient), exact.value)
    assert torch.isnan(updates[below[0]]).any()


def test_without_weights_below_there_is_nothing_to_judge(tiny_tokenizer, reviews):
    _, weights, _, loss, exact, below = stage(tiny_tokenizer, reviews)
    top = {name: gradient for name, gradient in exact.gradient.items() if name not in below}
    updates, share = judged(loss, weights, top, exact.value)
    assert updates is top
    assert share == 1
