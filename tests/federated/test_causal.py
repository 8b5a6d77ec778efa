"""A client's slice of a causal loss is a causal loss, also by micro-batches; of any other it is not."""

from __future__ import annotations

import pytest
import torch
from tests.estimators import causal
from tests.laws import problem

from spry.core.keys import Key
from spry.estimators.estimate import Estimate
from spry.federated.client import accumulate
from spry.forward.loss import CausalLoss
from spry.wire.messages import Order


def seen_by_estimators(loss, weights, trained):
    seen = []

    def estimator(loss, params, key, hint=None):
        seen.append(loss)
        return Estimate(value=0.0, gradient=dict(params))

    order = Order(round=0, client=0, key=Key(0), weights=weights, trained=trained)
    accumulate(estimator)(lambda batch, key: loss, order, [None])
    return seen[0]


@pytest.mark.parametrize("micro", [None, 2])
def test_a_slice_tells_positions_apart(micro):
    loss, w = causal.texts("gpt2", [4, 3, 2], micro=micro), causal.weights("gpt2")
    first, *_ = w
    given = seen_by_estimators(loss, w, (first,))
    for _, part in given.parts():
        assert isinstance(part, CausalLoss)
        torch.testing.assert_close(part.tokens({first: w[first]}).sum(1), part.examples({first: w[first]}))
        assert part.tokens({first: w[first]}).shape == part.mask.shape
    torch.testing.assert_close(given.tokens({first: w[first]}), loss.tokens(w))


def test_a_slice_of_another_loss_does_not():
    w = problem.weights()
    given = seen_by_estimators(problem.ProblemLoss(problem.batch(0)), w, ("layer0.A",))
    assert not isinstance(given, CausalLoss)
