"""Clients refuse what does not follow from what they know; methods without slopes are refused at the start."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.laws import problem
from tests.laws.test_methods import VARIANTS, make

from spry.core.errors import ConfigError, WireError
from spry.core.keys import Key
from spry.federated.methods import find_method
from spry.federated.methods.fwdllm import LAST_GRADIENT
from spry.federated.replay.catch_up import receive
from spry.federated.replay.codec import decode_catch_up, encode_catch_up
from spry.federated.replay.downlink import by_slopes, full
from spry.optim.rules import adam, sgd
from spry.wire.codec import encode_order
from spry.wire.messages import Answer

KEY = Key(0)
ALGORITHM = make("spry_per_iteration")
START = ALGORITHM.init({n: w.float() for n, w in problem.weights().items()})


def forward(down, state, clients=(0, 1), silent=()):
    orders = ALGORITHM.plan(state, clients, KEY)
    answers = [
        Answer(o, ALGORITHM.train(problem.loss_of, o, [batch(c)], 5).reply)
        for c, o in orders.items()
        if c not in silent
    ]
    return down.absorb(state, orders, KEY, answers)


def batch(seed):
    made = problem.batch(seed)
    return problem.Batch(made.x.float(), made.y)


def message(down, state, client=0, clients=(0, 1)):
    return down.send(state, ALGORITHM.plan(state, clients, KEY), KEY)(client)


@pytest.mark.parametrize("name", VARIANTS)
def test_methods_that_send_no_slopes_are_refused(name):
    algorithm = make(name)
    if name in {"spry_per_iteration", "baffle", "fwdllm"}:
        by_slopes(algorithm)
    else:
        with pytest.raises(ConfigError, match=r"server\.send = 'slopes' needs replies of slopes"):
            by_slopes(algorithm)


def test_full_orders_are_what_the_codec_writes():
    orders = ALGORITHM.plan(START, [0, 1], KEY)
    assert full(ALGORITHM).send(START, orders, KEY)(1) == encode_order(orders[1])


ASKED = ((0, 1), (1, 2), (0, 1), (0, 2))
LOST = {(0, 1)}
"""Round and client of a reply that does not arrive."""


@pytest.mark.parametrize("server", [sgd(1.0), adam(0.02)], ids=["averaged", "adam"])
@pytest.mark.parametrize("name", ["fedavg", "fedsgd", "spry"])
def test_what_nobody_trains_is_sent_once(name, server):
    """Clients begin with another head; they compute with the server's weights, which are those of whole orders."""
    algorithm = find_method(name)(problem.UNITS, server=server, step_factors={"head": 0.0})
    start = algorithm.init({n: w.float() for n, w in problem.weights().items()})
    blank = algorithm.init({n: torch.zeros_like(w) for n, w in start.weights.items()})
    down, state, alone, known, sizes = full(algorithm), start, start, {}, []
    fixed = algorithm.untrained(start.weights)
    for number, asked in enumerate(ASKED):
        orders = algorithm.plan(state, asked, KEY)
        send, answers = down.send(state, orders, KEY), []
        for client, order in orders.items():
            data = send(client)
            got, known[client] = receive(data, algorithm, known.get(client, blank))
            assert all(torch.equal(got.weights[n], order.weights[n]) for n in order.weights)
            assert list(got.weights) == list(order.weights)
            sizes.append((number, client, len(encode_order(order)) - len(data)))
            if (number, client) not in LOST:
                answers.append(Answer(order, algorithm.train(problem.loss_of, got, [batch(client)], 5).reply))
        state, alone = down.absorb(state, orders, KEY, answers), algorithm.absorb(alone, answers)
    assert all(torch.equal(state.weights[n], alone.weights[n]) for n in state.weights)
    assert fixed
    assert all(torch.equal(state.weights[n], fixed[n]) for n in fixed)
    saved = {(number, client) for number, client, saving in sizes if saving}
    assert saved == {(2, 0), (2, 1), (3, 0), (3, 2)}
    assert max(saving for *_, saving in sizes) > sum(w.nbytes for w in fixed.values()) - 16
    send = down.send(state, algorithm.plan(state, (0,), KEY), KEY)
    with pytest.raises(WireError, match=r"holds others\. Ask for all weights"):
        receive(send(0), algorithm, blank)


def test_a_client_that_did_not_answer_is_sent_all_again_and_once():
    """It may have lost them, and the server would go on believing that it holds them."""
    algorithm = find_method("fedavg")(problem.UNITS, step_factors={"head": 0.0})
    blank = algorithm.init({n: torch.zeros_like(w) for n, w in problem.weights().items()})
    down, state = full(algorithm), algorithm.init(problem.weights())
    whole = []
    for lost in (False, False, True, False, False):
        orders = algorithm.plan(state, (0, 1), KEY)
        send = down.send(state, orders, KEY)
        whole.append([send(client) == encode_order(orders[client]) for client in orders])
        replies = [
            Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(1)], 5).reply)
            for o in orders.values()
            if not (lost and o.client == 0)
        ]
        state = down.absorb(state, orders, KEY, replies)
        if whole[-1][0]:
            receive(send(0), algorithm, blank)  # whatever it holds
    assert whole == [[True, True], [False, False], [False, False], [True, False], [False, False]]


def test_what_changes_all_the_same_is_sent_again():
    algorithm = find_method("fedavg")(problem.UNITS, step_factors={"head": 0.0})
    down, state = full(algorithm), algorithm.init(problem.weights())
    orders = algorithm.plan(state, (0,), KEY)
    answers = [
        Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(1)], 5).reply) for o in orders.values()
    ]
    state = down.absorb(state, orders, KEY, answers)
    moved = replace(state, weights={n: w + 1 for n, w in state.weights.items()})
    for now, again in ((state, False), (moved, True)):
        orders = algorithm.plan(now, (0,), KEY)
        assert (down.send(now, orders, KEY)(0) == encode_order(orders[0])) == again


def test_a_client_that_knows_more_than_the_server_thinks_skips_what_it_has():
    """Its reply to round 1 was lost; the server starts from round 0 again, the client from where it is."""
    down = by_slopes(ALGORITHM)
    first = forward(down, START)
    _, known = receive(message(down, first), ALGORITHM, START)
    second = forward(down, first, silent=(0,))
    assert known.round == 1
    order, state = receive(message(down, second), ALGORITHM, known)
    assert state.round == 2
    assert all(torch.equal(order.weights[n], second.weights[n]) for n in second.weights)


SETTINGS = [
    ("spry_per_iteration", {}),
    ("spry_control_variate", {"num_directions": 2, "server": sgd(0.1)}),
    ("spry_control_variate", {"num_directions": 2, "variate": "guided", "server": sgd(0.1)}),
    ("fwdllm", {"candidates": 3, "threshold": 1e12, "server": sgd(0.1)}),
]


@pytest.mark.parametrize(("name", "given"), SETTINGS)
def test_the_state_after_catching_up_is_the_servers(name, given):
    """Moments and guesses too, where no weight is exact."""
    algorithm = find_method(name)(problem.units(exact=False), **given)
    assert algorithm.remembers  # so whoever was sent all weights does not know the round
    down, state = by_slopes(algorithm), START
    for _ in range(3):
        orders = algorithm.plan(state, [0, 1], KEY)
        answers = [
            Answer(o, algorithm.train(problem.loss_of, o, [batch(c)], 5).reply) for c, o in orders.items()
        ]
        state = down.absorb(state, orders, KEY, answers)
    data = down.send(state, algorithm.plan(state, [5, 6], KEY), KEY)(5)
    _, got = receive(data, algorithm, START)
    for slot, tensors in state.optimizer.items():
        assert all(torch.equal(got.optimizer[slot][n], tensors[n]) for n in tensors)
    for name, guess in state.memory.get(LAST_GRADIENT, {}).items():
        assert torch.equal(got.memory[LAST_GRADIENT][name], guess)


def test_what_does_not_follow_is_refused():
    down = by_slopes(ALGORITHM)
    state = forward(down, forward(down, START))
    data = message(down, state, 5, (5, 6))
    good = decode_catch_up(data, START.weights)

    def changed(**fields):
        return encode_catch_up(replace(good, **fields), list(START.weights))

    for sent, known, says in (
        (data, replace(START, round=3), "knows round 3"),
        (changed(since=1), START, "knows round 0"),
        (changed(digest=b"\0" * 8), START, "other weights"),
        (changed(asked=(6,)), START, "not among those asked"),
        (changed(asked=()), START, "not among those asked"),
        (data, replace(START, weights={n: w + 1 for n, w in START.weights.items()}), "other weights"),
    ):
        with pytest.raises(WireError, match=says):
            receive(sent, ALGORITHM, known)
