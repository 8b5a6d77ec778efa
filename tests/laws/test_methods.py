"""Laws over every method: what must hold whatever the estimator, the split or the optimizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import add, dot, tree_map
from spry.federated.ema import averaged
from spry.federated.methods import METHODS, find_method
from spry.optim.rules import adamw, sgd, yogi
from spry.wire.messages import Answer, Slopes
from tests.laws import problem

CLIENTS = [4, 0, 7, 2]
GOLDEN = Path(__file__).with_name("golden.json")
BUILT_IN = [name for name, info in METHODS.items() if not info.options.__module__.startswith("spry.contrib")]
"""Plugins that another test has loaded keep these laws, too, in tests/contrib."""
VARIANTS = {
    **{name: (name, {}) for name in BUILT_IN},
    "fedavg, split": ("fedavg", {"split": "cyclic"}),
    "fedyogi, split": ("fedyogi", {"split": "cyclic"}),
    "head_only, per iteration": ("head_only", {"clients_step": False, "server": yogi(1e-2)}),
}
"""The methods as they are, and those options of theirs that are methods of their own in the literature."""


def make(name, units=problem.UNITS, **given):
    method, own = VARIANTS[name]
    return METHODS[method](units, **{**own, **given})


def run(name, rounds=3, given=None, clients=CLIENTS, order=None, state=None, decay=0.0):
    algorithm = make(name, **(given or {}))
    algorithm = averaged(algorithm, decay) if decay else algorithm
    state = state or algorithm.init(problem.weights())
    losses, norms = [], []
    while state.round < rounds:
        orders = algorithm.plan(state, clients, Key(0))
        replies = {
            c: algorithm.train(
                problem.loss_of, orders[c], [problem.batch(10 * c + i) for i in range(2)], 3 + c
            ).reply
            for c in orders
        }
        losses.append(sum(r.loss for r in replies.values()) / len(replies))
        state = algorithm.absorb(state, (Answer(orders[c], replies[c]) for c in (order or orders)))
        everything = {**problem.weights(), **state.weights}  # the state has what the method trains
        norms.append(dot(everything, everything))
    return state, losses, norms


@pytest.mark.parametrize("name", VARIANTS)
def test_golden_trajectory(name):
    """|w|^2 over twenty float64 rounds of every method, recorded once; regenerate with tests/laws/record_golden.py."""
    _, _, norms = run(name, rounds=20)
    assert norms == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_orders_carry_what_the_method_trains_and_nothing_else(name):
    algorithm = make(name)
    orders = algorithm.plan(algorithm.init(problem.weights()), CLIENTS, Key(0))
    trained = {n for unit in problem.UNITS if unit.head or "head_only" not in name for n in unit.names}
    assert all(order.weights.keys() == trained for order in orders.values())


@pytest.mark.parametrize("name", VARIANTS)
def test_two_runs_agree_bit_for_bit(name):
    first, second = run(name)[0], run(name)[0]
    assert all(torch.equal(first.weights[n], second.weights[n]) for n in first.weights)


DIVIDED_BY = {"baffle": 1e-3, "fedmezo": 1e-3, "fwdllm": 1e-2}
"""The step h by which methods of finite differences divide the last bits of two losses."""


@pytest.mark.parametrize("name", VARIANTS)
def test_the_order_of_replies_does_not_matter(name):
    """Sums in another order differ in their last bits, and what is computed from these weights as well."""
    first, second = run(name)[0], run(name, order=sorted(CLIENTS))[0]
    close = 1e-14 / DIVIDED_BY.get(name, 1.0)
    for n in first.weights:
        torch.testing.assert_close(first.weights[n], second.weights[n], rtol=100 * close, atol=close)


@pytest.mark.parametrize("name", VARIANTS)
def test_stopping_and_going_on_changes_nothing(name):
    whole = run(name, rounds=4)[0]
    half = run(name, rounds=2)[0]
    rest = run(name, rounds=4, state=half)[0]
    assert all(torch.equal(whole.weights[n], rest.weights[n]) for n in whole.weights)


@pytest.mark.parametrize("name", VARIANTS)
def test_orders_and_state_are_never_written(name):
    algorithm = make(name)
    state = algorithm.init(problem.weights())
    before = tree_map(torch.clone, state.weights)
    orders = algorithm.plan(state, CLIENTS, Key(0))
    answers = [
        Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(1)], 1).reply) for o in orders.values()
    ]
    algorithm.absorb(state, answers)
    assert all(torch.equal(state.weights[n], before[n]) for n in before)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_unit_whose_owner_fell_out_keeps_value_and_state(name):
    algorithm = make(name)
    state = run(name, rounds=1)[0]
    order = algorithm.plan(state, CLIENTS, Key(0))[CLIENTS[0]]
    reply = algorithm.train(problem.loss_of, order, [problem.batch(1)], 5).reply
    after = algorithm.absorb(state, [Answer(order, reply)])
    lost = set(state.weights) - set(order.trained)
    assert all(torch.equal(after.weights[n], state.weights[n]) for n in lost)
    for slot, tensors in state.optimizer.items():
        assert all(torch.equal(after.optimizer[slot][n], tensors[n]) for n in lost & set(tensors))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_client_trains_only_what_it_was_dealt(name):
    algorithm = make(name)
    state = algorithm.init(problem.weights())
    for order in algorithm.plan(state, CLIENTS, Key(0)).values():
        trained = algorithm.train(problem.loss_of, order, [problem.batch(1)], 1)
        if not isinstance(trained.reply.payload, Slopes):
            assert set(trained.reply.payload.values) == set(order.trained)
        for n in set(state.weights) - set(order.trained):
            assert trained.weights[n] is state.weights[n]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_client_without_batches_changes_nothing(name):
    algorithm = make(name)
    state = algorithm.init(problem.weights())
    orders = algorithm.plan(state, CLIENTS, Key(0))
    answers = [
        Answer(order, algorithm.train(problem.loss_of, order, [], 0).reply) for order in orders.values()
    ]
    after = algorithm.absorb(state, answers)
    assert all(torch.equal(after.weights[n], state.weights[n]) for n in state.weights)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_method_lowers_the_loss(name):
    known = METHODS[VARIANTS[name][0]].option_names
    wanted = {"num_directions": 8, "candidates": 2}  # of ten times as many, FwdLLM's draws take long
    many = {option: value for option, value in wanted.items() if option in known}
    _, losses, _ = run(name, rounds=40, given={"client": sgd(0.1), **many})
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_one_client_one_step_fedavg_is_fedsgd_is_sgd():
    """w - 1.0 (w - (w - lr g)) = w - lr g."""
    batch, w = problem.batch(3), problem.weights()
    by_hand = add(w, tree_map(lambda g: -0.1 * g, problem.gradient(problem.ProblemLoss(batch), w)))
    for name, given in (("fedavg", {"client": sgd(0.1)}), ("fedsgd", {"server": sgd(0.1)})):
        algorithm = make(name, **given)
        state = algorithm.init(w)
        order = algorithm.plan(state, [5], Key(0))[5]
        state = algorithm.absorb(
            state, [Answer(order, algorithm.train(problem.loss_of, order, [batch], 7).reply)]
        )
        for n in w:
            torch.testing.assert_close(state.weights[n], by_hand[n], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("left", "right"), [("fedavg", "fedavg, split"), ("fedyogi", "fedyogi, split"), ("fedfgd", "spry")]
)
def test_with_one_client_a_split_changes_nothing(left, right):
    given = {"client": adamw(0.01)}
    first, second = (run(name, given=given, clients=[3])[0] for name in (left, right))
    assert all(torch.equal(first.weights[n], second.weights[n]) for n in first.weights)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="'fedavg'"):
        find_method("fedavgg")
