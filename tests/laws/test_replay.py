"""Key and slopes are enough: the server arrives at the client's weights bit for bit, for every method and optimizer."""

from __future__ import annotations

import pytest
import torch

from spry.contrib.control_variates import method as control_variates
from spry.core.keys import Key
from spry.federated import algorithm
from spry.federated.client import run_client
from spry.federated.methods import METHODS, fwdllm
from spry.federated.transforms import Clip
from spry.optim.named import OPTIMIZERS, optimizer
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Answer, Gradient, Slopes, Weights
from tests.laws import problem
from tests.laws.test_methods import BUILT_IN, CLIENTS

STEPPING = ["spry", "fedfgd", "fedmezo"]
PROJECTED = [*STEPPING, "spry_per_iteration", "baffle", "fwdllm"]


def rounds(name, *, slopes, wire=False, played=2, **given):
    """Play a few rounds; return the state and the answers of the last one."""
    own = {"send": "slopes" if slopes else "weights"} if name in STEPPING else {}
    own |= (
        {"candidates": 3, "threshold": 1e12} if name == "fwdllm" else {}
    )  # it steps, and aligns from then on
    made = METHODS[name](given.pop("units", problem.UNITS), **own, **given)
    state = made.init({n: w.float() for n, w in problem.weights().items()})
    for _ in range(played):
        answers = []
        for c, order in made.plan(state, CLIENTS, Key(0)).items():
            batches = [problem.batch(10 * c + i) for i in range(1 + c % 3)]
            batches = [problem.Batch(b.x.float(), b.y) for b in batches]
            reply = made.train(problem.loss_of, order, batches, 3 + c).reply
            answers.append(
                Answer(
                    order,
                    decode_reply(encode_reply(reply, order), order, made.slopes_exact) if wire else reply,
                )
            )
        state = made.absorb(state, answers)
    return state, answers


def same(left, right):
    return all(torch.equal(left.weights[n], right.weights[n]) for n in left.weights)


@pytest.fixture
def in_full(monkeypatch):
    """Play rounds whose clients send what their slopes led to, also those of methods that never do."""

    def unmeasured(*args, slopes_exact=None, **others):
        return run_client(*args, **others)

    def play(name, **given):
        with monkeypatch.context() as patch:
            for module in (algorithm, fwdllm, control_variates):
                patch.setattr(module, "run_client", unmeasured)
            state, answers = rounds(name, slopes=True, **given)
        assert not any(isinstance(answer.reply.payload, Slopes) for answer in answers)
        return state

    return play


@pytest.mark.parametrize("place", range(len(OPTIMIZERS)))
@pytest.mark.parametrize("name", PROJECTED)
def test_slopes_give_the_weights_that_full_replies_give(name, place, in_full):
    """With every optimizer on the side that steps; K and the exact head take turns, so that each pair meets."""
    turn = place + PROJECTED.index(name)
    given = {
        "num_directions": (1, 3)[turn % 2],
        "units": problem.units(exact=turn // 2 % 2 == 0),
        "client" if name in STEPPING else "server": optimizer(list(OPTIMIZERS)[place], lr=0.01),
    }
    sent, answers = rounds(name, slopes=True, wire=True, **given)
    assert all(isinstance(answer.reply.payload, Slopes) for answer in answers)
    assert same(in_full(name, **given), sent)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("variate", ["previous", "guided"])
def test_with_a_guess_from_past_aggregates(variate, exact, in_full):
    given = {"num_directions": 3, "variate": variate, "units": problem.units(exact=exact)}
    sent, answers = rounds("spry_control_variate", slopes=True, wire=True, **given)
    assert all(answer.order.guess for answer in answers)
    assert same(in_full("spry_control_variate", **given), sent)


@pytest.mark.parametrize("name", PROJECTED)
def test_clipped_slopes_survive_the_wire_bit_for_bit(name):
    given = {"transforms": [Clip(0.1)], "num_directions": 2}
    straight, _ = rounds(name, slopes=True, **given)
    wired, answers = rounds(name, slopes=True, wire=True, **given)
    assert all((a.reply.payload.slopes.norm(dim=1) <= 0.1001).all() for a in answers)
    assert same(straight, wired)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in PROJECTED[3:]])
def test_replies_of_weights_and_gradients_survive_the_wire_bit_for_bit(name):
    straight, _ = rounds(name, slopes=False)
    wired, answers = rounds(name, slopes=False, wire=True)
    assert all(isinstance(answer.reply.payload, Weights | Gradient) for answer in answers)
    assert same(straight, wired)
