"""Executors of one's own: whoever runs the clients, in whatever order and with whatever losses, the loop copes."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import TrainingError
from spry.core.keys import Key
from spry.runtime.executor import Completed, Failure
from spry.runtime.rounds import simulate
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task


class Unreliable:
    """Runs clients in reverse; the first of each round fails, the second never answers, the last answers twice."""

    def run(self, orders, train):
        first, _second, *others = orders
        for order in reversed(others):
            yield train(order)
        yield train(others[0])._replace(record=None)
        yield Failure(first, "its battery is empty")


class Reversed:
    def run(self, orders, train):
        return map(train, reversed(orders))


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
        assert len(round.survivors) == 2 and round.score == pytest.approx(round.test.loss)


def test_the_order_of_replies_changes_neither_records_nor_weights():
    for ours, theirs in zip(play(), play(Reversed()), strict=True):
        assert [r.client for r in ours.clients] == [r.client for r in theirs.clients]
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)
        for name, weight in ours.weights.items():
            torch.testing.assert_close(weight, theirs.weights[name], rtol=1e-12, atol=1e-14)


def test_a_round_without_a_reply_that_counts_stops_the_run_and_says_why():
    class Dead:
        def run(self, orders, train):
            return (Failure(order, "unreachable") for order in orders)

    with pytest.raises(TrainingError, match=r"client .: unreachable"):
        play(Dead())


def test_a_reply_that_is_not_finite_is_dropped_in_its_place():
    class Poisoned:
        def run(self, orders, train):
            return (_poisoned(train(o)) if i == 0 else train(o) for i, o in enumerate(orders))

    def _poisoned(done):
        record = done.record.__class__(**{**vars(done.record), "failed": "loss is nan"})
        return Completed(done.order, done.reply, record)

    (round,) = play(Poisoned(), rounds=1)
    assert [record.failed for record in round.clients] == ["loss is nan", None, None, None]
    plain = play(rounds=1)[0]
    assert any(not torch.equal(w, round.weights[n]) for n, w in plain.weights.items())


def test_a_score_of_which_less_is_better_is_told_by_its_own_name():
    rounds = play(rounds=12)
    assert rounds[-1].score == rounds[-1].test.values()["cross_entropy"] < rounds[0].score
