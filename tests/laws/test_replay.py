"""Key and slopes are enough: the server arrives at the client's weights bit for bit, for every method and optimizer."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from spry.federated.settings import Settings
from spry.optim.noise import guard

from spry.core.keys import Key
from spry.estimators.directions import basis, gaussian, orthogonal, rademacher
from spry.federated import algorithm, fwdllm
from spry.federated.algorithm import carry_out
from spry.federated.methods import METHODS, method
from spry.optim.named import OPTIMIZERS, optimizer
from spry.optim.transform import chain
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Answer, Gradient, Slopes
from tests.laws import problem
from tests.laws.test_methods import CLIENTS

PROJECTED = ["spry", "spry_per_iteration", "fedfgd", "fedmezo", "baffle", "fwdllm"]


def rounds(name, *, slopes_only, wire=False, **choices):
    made = method(name, problem.UNITS, Settings(slopes_only=slopes_only, **choices))
    weights = {n: w.float() for n, w in problem.weights().items()}
    state = made.init(weights)
    for _ in range(3):
        orders = made.plan(state, CLIENTS, Key(0))
        answers = []
        for c, order in orders.items():
            batches = [
                problem.Batch(b.x.float(), b.y) for b in (problem.batch(10 * c + i) for i in range(c + 1))
            ]
            reply = made.train(problem.loss_of, order, batches, 3 + c).reply
            answers.append(Answer(order, decode_reply(encode_reply(reply, order), order) if wire else reply))
        state = made.absorb(state, answers)
    return state, answers


@pytest.mark.parametrize("directions", [gaussian, rademacher, orthogonal, basis])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("exact_head", [True, False])
@pytest.mark.parametrize("name", PROJECTED)
def test_slopes_give_the_weights_that_full_replies_give(name, exact_head, count, directions):
    choices = {"count": count, "exact_head": exact_head, "directions": directions}
    full, _ = rounds(name, slopes_only=False, **choices)
    sent, answers = rounds(name, slopes_only=True, wire=True, **choices)
    assert all(isinstance(answer.reply.payload, Slopes) for answer in answers)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["spry_per_iteration", "baffle", "fwdllm"])
def test_slopes_give_the_gradient_that_the_client_found(name, count, monkeypatch):
    """These never send a gradient, so the reference is taken from inside the client."""
    sent, _ = rounds(name, slopes_only=True, wire=True, count=count)

    def in_full(training, loss_of, order, batches, examples, replayed):
        assert replayed is not None
        return carry_out(training, loss_of, order, batches, examples)

    for module in (algorithm, fwdllm):
        monkeypatch.setattr(module, "carry_out", in_full)
    full, answers = rounds(name, slopes_only=True, count=count)
    assert all(isinstance(answer.reply.payload, Gradient) for answer in answers)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


STEPPING = ["spry", "fedfgd", "fedmezo"]


HINTED = [{"control": "guided"}, {"pool": 4}]


@pytest.mark.parametrize(
    ("name", "hinted"),
    [
        *product(STEPPING, HINTED),
        *product(["spry_per_iteration", "baffle"], [*HINTED, {"control": "previous"}]),
    ],
)
def test_with_a_hint_from_past_aggregates(name, hinted):
    choices = {"count": 3, **hinted}
    full, _ = rounds(name, slopes_only=False, **choices)
    sent, answers = rounds(name, slopes_only=True, wire=True, **choices)
    assert any(answer.order.hint for answer in answers)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("local", OPTIMIZERS)
@pytest.mark.parametrize("name", STEPPING)
def test_with_every_client_optimizer_behind_a_guard(name, local, count):
    client = chain(guard(1.5), optimizer(local, lr=0.01))
    full, _ = rounds(name, slopes_only=False, client=client, count=count)
    sent, _ = rounds(name, slopes_only=True, client=client, count=count)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


@pytest.mark.parametrize("name", METHODS)
def test_every_reply_survives_the_wire_bit_for_bit(name):
    straight, _ = rounds(name, slopes_only=False)
    wired, _ = rounds(name, slopes_only=False, wire=True)
    assert all(torch.equal(straight.weights[n], wired.weights[n]) for n in straight.weights)
