"""Clients that fail, each in a process of its own: nothing hangs, and nothing is lost but the replies concerned."""

from __future__ import annotations

import time
from dataclasses import replace

import psutil
import pytest
import torch
from benchmarks.faulty import FAULTS, Faulty

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.federated.replay.catch_up import receive
from spry.federated.replay.downlink import by_slopes
from spry.federated.spares import MISSED, with_spares
from spry.optim.rules import sgd
from spry.runtime import client_runner
from spry.runtime.executor import Completed, Failure
from spry.runtime.rounds import simulate
from spry.wire.messages import Answer
from tests.laws import problem
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task

SAYS = {
    "killed": r"its process ended \(SIGKILL\)",
    "hanging": r"no reply within 3 s \(runtime.deadline\)",
    "garbage": "message is truncated or malformed",
    "truncated": "message is truncated or malformed",
    "NaN": "values that are NaN|slopes that are NaN",
    "wrong shapes": "came as|slopes take",
    "a stale round": "reply is of round 1, client .; expected round 0",
    "a reply twice": None,
    "no reply": "no reply came",
}


def play(name="spry", executor=None, rounds=1, **given):
    algorithm = given.pop("algorithm", None) or make(name)
    asked = {"clients_per_round": 4, "key": Key(0), **given}
    return list(simulate(algorithm, Task(), Clients(number=8), rounds=rounds, executor=executor, **asked))


def sick(fault, client, name="spry"):
    exact = make(name).slopes_exact
    return Faulty(faults=lambda order: fault if order.client == client else None, slopes_exact=exact)


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch):
    """Exact measuring takes as long as deadlines here."""
    monkeypatch.setattr(client_runner, "peak_of", lambda step, device: step() or 0)


@pytest.mark.parametrize(
    ("name", "fault"),
    [*(("spry", fault) for fault in FAULTS), *(("spry_per_iteration", f) for f in ("NaN", "wrong shapes"))],
)
def test_each_fault_is_told_and_costs_its_own_reply(name, fault):
    """The others' replies lead to the weights that they lead to where the client was never heard of."""
    client = play(name)[0].clients[1].client
    (found,) = play(name, sick(fault, client, name), deadline=3.0)
    (silent,) = play(name, sick("no reply" if SAYS[fault] else None, client, name))
    for n, weight in silent.weights.items():
        assert torch.equal(found.weights[n], weight)
    record = found.clients[1]
    if SAYS[fault] is None:
        assert (record.failed, record.ignored) == (None, 1)
        return
    with pytest.raises(AssertionError, match=SAYS[fault]):
        raise AssertionError(record.failed)
    assert [other.failed for other in found.clients if other is not record] == [None] * 3
    assert record.bytes_down > 0
    assert found.untrained_units == silent.untrained_units


def test_processes_without_faults_give_the_bits_of_one_process():
    ours, theirs = play(rounds=2), play(rounds=2, executor=Faulty(faults=lambda order: None))
    assert all(torch.equal(w, theirs[-1].weights[n]) for n, w in ours[-1].weights.items())


def test_a_client_that_hangs_is_waited_for_until_the_deadline_and_no_longer():
    me = psutil.Process()
    client = play()[0].clients[0].client
    before = (me.num_fds(), me.num_threads(), len(me.children()))
    begun = time.monotonic()
    play("fedavg", sick("hanging", client), deadline=2.0, evaluate_every=99)
    assert 2.0 <= time.monotonic() - begun < 10.0
    assert (me.num_fds(), me.num_threads(), len(me.children())) == before


def test_a_unit_keeps_its_value_when_its_owner_is_gone_and_is_dealt_in_the_next_round():
    first, second = play(rounds=2, executor=Losing())
    assert len(first.untrained_units) == 1
    (unit,) = (unit for unit in Task.units if unit.name in first.untrained_units)
    assert all(torch.equal(first.weights[n], Task.init()[n]) for n in unit.names)
    assert all(not torch.equal(first.weights[n], second.weights[n]) for n in unit.names)


class Losing:
    """Loses in round 0 whoever owns ``layer1`` alone, and runs the others."""

    def __init__(self):
        self.owners = []

    def run(self, orders, train, deadline=None):
        self.owners.append([order.client for order in orders if "layer1.A" in order.trained])
        for order in orders:
            lost = order.round == 0 and "layer1.A" in order.trained
            yield Failure(order, "gone") if lost else train(order)


def spared(number=3):
    return with_spares(make("spry"), number)


def test_clients_to_spare_double_the_owners_and_first_those_of_units_without_a_reply():
    algorithm, losing = spared(), Losing()
    play(rounds=2, algorithm=algorithm, executor=losing, clients_per_round=3, over_select=1)
    state = algorithm.init(Task.init())
    orders = algorithm.plan(state, [5, 1, 6, 3, 2], Key(0))
    alone = make("spry").plan(state, [5, 1, 6], Key(0))
    assert [orders[c].trained for c in (5, 1, 6)] == [alone[c].trained for c in (5, 1, 6)]
    assert [orders[c].trained for c in (3, 2)] == [alone[c].trained for c in (5, 1)]
    assert orders[3].key != orders[5].key
    assert len(losing.owners[1]) == 2


def test_a_client_that_replays_slopes_knows_what_spares_were_dealt():
    """After all weights it does not know what had no reply, so the server does not rely on that."""
    algorithm = with_spares(make("spry_per_iteration", server=sgd(0.1)), 3)
    down, state, known = by_slopes(algorithm), algorithm.init(Task.init()), {}
    start = state
    for number in range(4):
        orders = algorithm.plan(state, [5, 1, 6, 3, 2], Key(0))
        send, answers = down.send(state, orders, Key(0)), []
        for client, order in orders.items():
            got, known[client] = receive(send(client), algorithm, known.get(client, start))
            assert got.trained == order.trained
            reply = algorithm.train(problem.loss_of, got, [problem.batch(client)], 3).reply
            if "layer1.A" not in order.trained or number % 2:
                answers.append(Answer(order, reply))
        state = down.absorb(state, orders, Key(0), answers)
        assert (MISSED in state.memory) == (number % 2 == 0)


class Racing:
    """Runs the clients one by one, those of some places last, and notes who began."""

    def __init__(self, last=()):
        self.last, self.began, self.closed = last, [], False

    def run(self, orders, train, deadline=None):
        ordered = sorted(enumerate(orders), key=lambda one: one[0] in self.last)
        try:
            for _, order in ordered:
                self.began.append(order.client)
                yield train(order)
        finally:
            self.closed = True


def test_the_first_replies_are_enough_once_each_unit_has_one():
    """Places 0 and 3 train the same, 1 and 2 each alone: without place 0 all is there, without place 1 it is not."""
    for last, waited in (([0], [0]), ([1], []), ([3], [3])):
        racing = Racing(last)
        (found,) = play(algorithm=spared(), executor=racing, clients_per_round=3, over_select=1)
        missing = [place for place, record in enumerate(found.clients) if record.failed]
        assert missing == waited and racing.closed
        assert found.untrained_units == ()
        assert len(racing.began) == 4 - len(waited)
        for place in missing:
            assert "not waited for: 3 replies were enough" in found.clients[place].failed


def test_whoever_trains_everything_is_waited_for_until_there_are_enough():
    racing = Racing()
    (found,) = play("fedavg", racing, clients_per_round=2, over_select=3)
    assert len(racing.began) == len(found.survivors) == 2
    (alone,) = play("fedavg", Only(2), clients_per_round=5)
    assert all(torch.equal(w, alone.weights[n]) for n, w in found.weights.items())


class Only:
    def __init__(self, number):
        self.number = number

    def run(self, orders, train, deadline=None):
        yield from map(train, orders[: self.number])


def test_more_clients_than_there_are_cannot_be_asked():
    with pytest.raises(ConfigError, match="9 clients a round asked for; there are 8"):
        play(clients_per_round=4, over_select=5)


def test_what_comes_after_the_deadline_does_not_count():
    class Late:
        def run(self, orders, train, deadline=None):
            for place, order in enumerate(orders):
                if place == 2:
                    time.sleep(deadline)
                yield train(order)

    (found,) = play(executor=Late(), deadline=1.5, evaluate_every=99)
    assert [record.failed and record.failed[:15] for record in found.clients][2:] == ["no reply within"] * 2
    assert len(found.survivors) == 2


def test_a_late_reply_of_an_earlier_round_does_not_take_the_place_of_this_rounds():
    class Dragging:
        kept = None

        def run(self, orders, train, deadline=None):
            done = list(map(train, orders))
            if self.kept is not None:
                yield self.kept._replace(order=replace(self.kept.order, client=orders[0].client))
            Dragging.kept = done[-1]
            yield from done

    plain, dragged = play(rounds=2), play(rounds=2, executor=Dragging())
    assert all(torch.equal(w, dragged[-1].weights[n]) for n, w in plain[-1].weights.items())
    assert dragged[-1].clients[0].ignored == 1


def test_a_reply_of_a_client_that_was_not_asked_is_left_aside():
    class Crowd:
        def run(self, orders, train, deadline=None):
            done = list(map(train, orders))
            yield Completed(replace(orders[0], client=77), done[0].data, done[0].record)
            yield from done

    plain, crowded = play(), play(executor=Crowd())
    assert all(torch.equal(w, crowded[-1].weights[n]) for n, w in plain[-1].weights.items())


def test_jumps_of_the_clock_change_nothing(monkeypatch):
    plain = play(rounds=2)
    jumps = iter(range(10**9, -(10**9), -(10**7)))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    jumped = play(rounds=2, deadline=60.0)
    assert all(torch.equal(w, jumped[-1].weights[n]) for n, w in plain[-1].weights.items())
    assert all(record.failed is None and record.seconds >= 0 for record in jumped[-1].clients)
