"""Weights whose gradient is known to be zero: leaving them out takes noise away and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spry.core.keys import Key
from spry.core.params import dot, size
from spry.core.unit import awake, names_of
from spry.experiment import checkpoint
from spry.federated.fwdllm import Pacing
from spry.federated.methods import METHODS, method
from spry.federated.settings import Settings
from spry.federated.split import everything
from spry.optim.rules import sgd
from spry.wire.messages import Answer
from tests.laws import problem, test_catch_up, test_replay
from tests.laws.test_methods import CLIENTS, run
from tests.laws.test_replay import PROJECTED

DRAWS, PACING = 100, Pacing(attempts=1)
UNITS = [
    unit if unit.head else replace(unit, sleeps={unit.names[0]: unit.names[1]}) for unit in problem.UNITS
]
A, B = ([unit.names[i] for unit in UNITS if not unit.head] for i in (0, 1))
random_weights = problem.weights


def at_rest(seed=0):
    return {n: w * 0 if n in B else w for n, w in random_weights(seed).items()}


@pytest.fixture(autouse=True)
def asleep(monkeypatch):
    """Every B of the problem is zero at the start, and its A sleeps until it is not."""
    monkeypatch.setattr(problem, "UNITS", tuple(UNITS))
    monkeypatch.setattr(problem, "weights", at_rest)


def test_what_sleeps_has_no_gradient_by_autograd():
    w = at_rest()
    gradient = problem.gradient(problem.ProblemLoss(problem.batch(0)), w)
    assert awake(UNITS, w) == tuple(n for n in names_of(UNITS) if n not in A)
    assert all(not gradient[n].any() for n in A)
    assert all(gradient[n].any() for n in awake(UNITS, w))


def test_one_by_one_they_wake():
    w = {**at_rest(), B[1]: torch.eye(5, 2)}
    assert set(awake(UNITS, w)) == {*names_of(UNITS)} - {A[0], A[2]}
    assert awake(UNITS, random_weights()) == names_of(UNITS)


@pytest.mark.parametrize("name", PROJECTED)
def test_orders_leave_out_what_sleeps_until_it_wakes(name):
    settings = Settings(split=everything, pacing=PACING)
    for state, left in (
        (run(name, rounds=0, settings=settings)[0], A),
        (run(name, settings=settings)[0], []),
    ):
        orders = method(name, problem.UNITS, settings).plan(state, CLIENTS, Key(0))
        assert all(set(order.trained) == {*names_of(UNITS)} - {*left} for order in orders.values())


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_backpropagate_are_what_they_were_bit_for_bit(name):
    """Their gradient of A is exactly zero by itself, and wakes within the round."""
    on, off = (run(name, settings=Settings(sleep=sleep))[0] for sleep in (True, False))
    assert all(torch.equal(on.weights[n], off.weights[n]) for n in on.weights) == (name not in PROJECTED)


@pytest.mark.parametrize("name", PROJECTED)
def test_a_sleeping_weight_keeps_its_value_and_the_servers_moments(name):
    first = run(name, rounds=0)[0]
    after = run(name, rounds=1, settings=Settings(pacing=PACING))[0]
    assert all(torch.equal(after.weights[n], first.weights[n]) for n in A)
    assert any(not torch.equal(after.weights[n], first.weights[n]) for n in B)
    for slot, tensors in first.optimizer.items():
        assert all(torch.equal(after.optimizer[slot][n], tensors[n]) for n in A)


def found(name, seed, sleep):
    """What the first round finds after one batch, read off steps of size 1; all clients have the same data."""
    settings = Settings(
        client=sgd(1.0),
        server=sgd(1.0),
        split=everything,
        exact_head=False,
        h=1e-5,
        pacing=PACING,
        sleep=sleep,
    )
    made = method(name, problem.UNITS, settings)
    state = made.init(at_rest())
    orders = made.plan(state, [0, 1], Key(seed)).values()
    answers = [Answer(o, made.train(problem.loss_of, o, [problem.batch(0)], 1).reply) for o in orders]
    after = made.absorb(state, answers).weights
    return {n: w - after[n] for n, w in state.weights.items()}


@pytest.mark.parametrize("name", PROJECTED)
def test_the_first_update_of_what_is_awake_is_the_same_and_the_error_that_of_fewer_weights(name):
    w = at_rest()
    true = problem.gradient(problem.ProblemLoss(problem.batch(0)), w)
    dims = {True: size(w) - size({n: w[n] for n in A}), False: size(w)}
    errors = {True: 0.0, False: 0.0}
    for seed in range(DRAWS):
        both = {sleep: found(name, seed, sleep) for sleep in errors}
        for n in awake(UNITS, w):  # slopes are the same: along A they are zero
            torch.testing.assert_close(both[True][n], both[False][n], rtol=1e-3, atol=1e-4)
        assert not any(both[True][n].any() for n in A)
        for sleep, g in both.items():
            off = {n: g[n] - true[n] for n in w}
            errors[sleep] += dot(off, off) / dot(true, true) / DRAWS
    for sleep, error in errors.items():  # two clients, each of error d + 1
        assert error == pytest.approx((dims[sleep] + 1) / 2, rel=0.25)
    assert dims[False] / dims[True] == pytest.approx(errors[False] / errors[True], rel=0.1)


@pytest.mark.parametrize("directions", ["gaussian", "rademacher", "orthogonal", "basis"])
@pytest.mark.parametrize("name", PROJECTED)
def test_slopes_are_enough(name, directions):
    choices = {"count": 2, "directions": getattr(test_replay, directions)}
    full, _ = test_replay.rounds(name, slopes_only=False, **choices)
    sent, _ = test_replay.rounds(name, slopes_only=True, wire=True, **choices)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)


@pytest.mark.parametrize("name", PROJECTED)
def test_clients_that_skipped_rounds_catch_up(name):
    assert test_catch_up.kinds(test_catch_up.play(name, pacing=PACING)[0])[True] > 10


@pytest.mark.parametrize("name", ["spry_per_iteration", "baffle"])
@pytest.mark.parametrize("hinted", [{"control": "previous"}, {"control": "guided"}, {"pool": 4}])
def test_hints_know_of_weights_that_slept(name, hinted):
    state = run(name, settings=Settings(count=3, **hinted))[0]
    assert all(torch.isfinite(w).all() for w in state.weights.values())


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("name", PROJECTED)
def test_a_run_that_is_stopped_goes_on(name, stop, tmp_path):
    settings = Settings(pacing=PACING)
    whole = run(name, rounds=4, settings=settings)[0]
    checkpoint.write(run(name, rounds=stop, settings=settings)[0], tmp_path)
    fresh = method(name, problem.UNITS, settings).init(at_rest())
    rest = run(name, rounds=4, settings=settings, state=checkpoint.read(tmp_path, fresh))[0]
    assert all(torch.equal(whole.weights[n], rest.weights[n]) for n in whole.weights)
