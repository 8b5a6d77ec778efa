"""Key and slopes are enough: the server arrives at the client's weights bit for bit, for every method and optimizer."""

from __future__ import annotations

import pytest
import torch

from spry.core.keys import Key
from spry.core.plugins import load_plugins
from spry.federated import algorithm
from spry.federated.client import run_client
from spry.federated.methods import METHODS, fwdllm
from spry.federated.transforms import Clip
from spry.optim.named import OPTIMIZERS, optimizer
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Answer, Gradient, Slopes
from tests.laws import problem
from tests.laws.test_methods import CLIENTS, VARIANTS, make

load_plugins()
STEPPING = ["spry", "fedfgd", "fedmezo"]
PROJECTED = [*STEPPING, "spry_per_iteration", "baffle", "fwdllm"]


def rounds(name, *, slopes, wire=False, **given):
    own = {"send": "slopes" if slopes else "weights"} if name in STEPPING else {}
    made = (
        METHODS[name](given.pop("units", problem.UNITS), **own, **given)
        if name in METHODS
        else make(name, **given)
    )
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


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", PROJECTED)
def test_slopes_give_the_weights_that_full_replies_give(name, exact, count):
    given = {"num_directions": count, "units": problem.units(exact=exact)}
    full, _ = rounds(name, slopes=False, **given)
    sent, answers = rounds(name, slopes=True, wire=True, **given)
    assert all(isinstance(answer.reply.payload, Slopes) for answer in answers)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["spry_per_iteration", "baffle", "fwdllm"])
def test_slopes_give_the_gradient_that_the_client_found(name, count, monkeypatch):
    """These never send a gradient, so the reference is taken from inside the client."""
    sent, _ = rounds(name, slopes=True, wire=True, num_directions=count)

    def in_full(*args, slopes_exact, **others):
        assert slopes_exact is not None
        return run_client(*args, **others)

    for module in (algorithm, fwdllm):
        monkeypatch.setattr(module, "run_client", in_full)
    full, answers = rounds(name, slopes=True, num_directions=count)
    assert all(isinstance(answer.reply.payload, Gradient) for answer in answers)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


@pytest.mark.parametrize("variate", ["previous", "guided"])
def test_with_a_guess_from_past_aggregates(variate):
    given = {"num_directions": 3, "variate": variate}
    plain, _ = rounds("spry_control_variate", slopes=True, **given)
    wired, answers = rounds("spry_control_variate", slopes=True, wire=True, **given)
    assert any(answer.order.guess for answer in answers)
    assert all(torch.equal(plain.weights[n], wired.weights[n]) for n in plain.weights)


@pytest.mark.parametrize("local", OPTIMIZERS)
@pytest.mark.parametrize("name", STEPPING)
def test_with_every_client_optimizer(name, local):
    given = {"client": optimizer(local, lr=0.01), "num_directions": 2}
    full, _ = rounds(name, slopes=False, **given)
    sent, _ = rounds(name, slopes=True, **given)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


@pytest.mark.parametrize("name", PROJECTED)
def test_clipped_slopes_survive_the_wire_bit_for_bit(name):
    given = {"transforms": [Clip(0.1)], "num_directions": 2}
    straight, _ = rounds(name, slopes=True, **given)
    wired, answers = rounds(name, slopes=True, wire=True, **given)
    assert all((a.reply.payload.slopes.norm(dim=1) <= 0.1001).all() for a in answers)
    assert all(torch.equal(straight.weights[n], wired.weights[n]) for n in straight.weights)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_reply_survives_the_wire_bit_for_bit(name):
    straight, _ = rounds(name, slopes=False)
    wired, _ = rounds(name, slopes=False, wire=True)
    assert all(torch.equal(straight.weights[n], wired.weights[n]) for n in straight.weights)
