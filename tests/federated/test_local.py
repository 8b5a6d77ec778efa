"""Local training: no client hears of another, and each goes on where it stopped."""

from __future__ import annotations

import torch
from tests.laws import problem

from spry.core.keys import Key
from spry.federated.methods import METHODS
from spry.optim.rules import sgd
from spry.wire.messages import Answer


def round_of(made, state, clients):
    orders = made.plan(state, clients, Key(0))
    trained = {c: made.train(problem.loss_of, o, [problem.batch(c)], 4) for c, o in orders.items()}
    return trained, made.absorb(state, [Answer(orders[c], trained[c].reply) for c in clients])


def test_a_client_alone_is_gradient_descent_on_its_own_data():
    made = METHODS.local(problem.UNITS, client=sgd(0.1))
    state, by_hand = made.init(problem.weights()), problem.weights()
    for others in ([3, 5], [5, 8], [3]):  # client 3 sits the second round out
        trained, state = round_of(made, state, others)
        if 3 in others:
            gradient = problem.gradient(problem.ProblemLoss(problem.batch(3)), by_hand)
            by_hand = {n: w - 0.1 * gradient[n] for n, w in by_hand.items()}
            for n, w in by_hand.items():
                torch.testing.assert_close(trained[3].weights[n], w, rtol=1e-12, atol=1e-14)
    assert state.round == 3
    assert all(torch.equal(state.weights[n], w) for n, w in problem.weights().items())


def test_nothing_travels():
    assert not METHODS.local(problem.UNITS).federated
    assert METHODS.fedavg(problem.UNITS).federated
