"""Local tuning after training: every client begins at the final weights, and nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from spry.core.keys import Key
from spry.core.params import add, tree_map
from spry.federated.methods import METHODS
from spry.optim.rules import sgd
from spry.runtime.local_tuning import tune_locally
from tests.laws import problem
from tests.runtime.stage import Clients, Task


@dataclass
class Stepping(Clients):
    steps: int = 1
    empty: tuple = ()

    def batches(self, client, round, key):
        return [problem.batch(10 * client + step) for step in range(self.steps)]

    def held_out(self, client):
        return [] if client in self.empty else super().held_out(client)


def tuned(clients=None, weights=None, state=None, **given):
    algorithm = METHODS.fedavg(problem.UNITS, client=sgd(0.1), **given)
    state = state or algorithm.init(problem.weights())
    clients = clients or Stepping()
    found = tune_locally(algorithm, Task(), clients, state, weights or state.weights, steps=3, key=Key(0))
    return list(found)


def test_each_client_takes_the_steps_of_plain_sgd_from_the_same_weights():
    for one in tuned():
        w = problem.weights()
        for step in range(3):
            loss = problem.ProblemLoss(problem.batch(10 * one.client + step))
            w = add(w, tree_map(lambda g: -0.1 * g, problem.gradient(loss, w)))
        held = Stepping().held_out(one.client)
        assert one.before == Task().evaluate(problem.weights(), held)
        assert one.after.loss == pytest.approx(Task().evaluate(w, held).loss, rel=1e-12)
        assert one.own is None and one.failed is None


def test_clients_that_hold_nothing_out_are_left_out():
    assert [one.client for one in tuned(Stepping(empty=(1, 3)))] == [0, 2]


def test_it_begins_at_the_weights_that_are_kept_and_not_at_the_last():
    kept = tree_map(lambda w: w * 0.5, problem.weights())
    (first, *_) = tuned(weights=kept)
    assert first.before == Task().evaluate(kept, Stepping().held_out(0))


def test_with_a_schedule_that_has_run_out_clients_step_as_in_round_0():
    usual = tuned()
    algorithm = METHODS.fedavg(problem.UNITS, client=sgd(0.1))
    late = replace(algorithm.init(problem.weights()), round=5)
    decayed = tuned(state=late, rounds=5, step_decay="linear")
    assert [one.after for one in decayed] == [one.after for one in usual]


def test_a_client_whose_training_breaks_down_says_so():
    broken = tree_map(lambda w: torch.full_like(w, torch.nan), problem.weights())
    assert all(one.after is None and "NaN" in one.failed for one in tuned(weights=broken))
