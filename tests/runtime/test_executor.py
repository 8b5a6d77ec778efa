"""Executors of one's own: whoever runs the clients, in whatever order and with whatever losses, the loop copes."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch

from spry.core.errors import TrainingError
from spry.core.keys import Key
from spry.runtime.executor import Failure
from spry.runtime.rounds import simulate
from tests.laws.test_methods import VARIANTS, make
from tests.runtime.stage import Clients, Task


class Unreliable:
    """Runs clients in reverse; the first of each round fails, the second never answers, the last answers twice."""

    def run(self, orders, train, deadline=None):
        first, _second, *others = orders
        for order in reversed(others):
            yield train(order)
        yield train(others[-1])
        yield Failure(first, "its battery is empty")


def play(executor=None, rounds=3, name="fedavg", clients=None, **given):
    return list(
        simulate(
            make(name), Task(), clients or Clients(number=6), rounds=rounds, clients_per_round=4, key=Key(0),
            executor=executor, **given,
        )
    )  # fmt: skip


def test_lost_failed_and_repeated_replies_are_told_and_do_not_count():
    for round in play(Unreliable()):
        failed = [record.failed for record in round.clients]
        assert failed == ["its battery is empty", "no reply came", None, None]
        assert [record.ignored for record in round.clients] == [0, 0, 0, 1]
        assert len(round.survivors) == 2 and round.score == pytest.approx(round.test.loss)


class Shuffled:
    """Gives the outcomes of a round in another order, as clients of different speed do."""

    def __init__(self, order):
        self.order, self.ran = order, []

    def run(self, orders, train, deadline=None):
        self.ran = self.ran or list(map(train, orders))  # one round, replayed
        yield from (self.ran[place] for place in self.order)


@pytest.mark.parametrize("name", VARIANTS)
def test_whatever_the_order_of_arrival_bits_are_the_same(name):
    arriving = Shuffled(range(4))
    (asked,) = play(arriving, rounds=1, name=name)
    for order in permutations(range(4)):
        arriving.order = order
        (found,) = play(arriving, rounds=1, name=name)
        assert [r.client for r in found.clients] == [r.client for r in asked.clients]
        assert found.loss == asked.loss
        assert all(torch.equal(weight, asked.weights[n]) for n, weight in found.weights.items())
        for slot, tensors in asked.state.optimizer.items():
            assert all(torch.equal(found.state.optimizer[slot][n], one) for n, one in tensors.items())


def test_a_reply_is_absorbed_before_the_next_client_trains():
    """Replies that come in order are not collected: of many clients the server holds one reply at a time."""
    algorithm, happened = make("fedavg"), []

    class Noted:
        def run(self, orders, train, deadline=None):
            for order in orders:
                happened.append("trained")
                yield train(order)

    def absorb(state, answers):
        return algorithm.absorb(state, (happened.append("absorbed") or answer for answer in answers))

    noting, clients = replace(algorithm, absorb=absorb), Clients(number=6)
    list(simulate(noting, Task(), clients, rounds=1, clients_per_round=4, executor=Noted()))
    assert happened == ["trained", "absorbed"] * 4


def test_a_round_without_a_reply_that_counts_stops_the_run_and_says_why():
    class Dead:
        def run(self, orders, train, deadline=None):
            return (Failure(order, "unreachable") for order in orders)

    with pytest.raises(TrainingError, match=r"client .: unreachable.*longer \(runtime\.deadline\)"):
        play(Dead())


def test_a_score_of_which_less_is_better_is_told_by_its_own_name():
    rounds = play(rounds=12)
    assert rounds[-1].score == rounds[-1].test.values()["cross_entropy"] < rounds[0].score
