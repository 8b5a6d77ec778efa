"""Clients elsewhere, over nothing but bytes: weights and records are those of one process, whoever forgets what."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import TrainingError, WireError
from spry.core.keys import Key
from spry.federated.methods import METHODS
from spry.federated.replay.downlink import by_slopes
from spry.runtime.courier import Delivery
from spry.runtime.known import decode_known, encode_known
from spry.runtime.node import ClientNode
from spry.runtime.remote import Remote
from spry.runtime.report import Present, Refusal, RollCall, decode_message, encode_message, refuse
from spry.runtime.roster import DealtNodes, Elsewhere, OwnNodes, wait_for_nodes
from spry.runtime.rounds import simulate
from tests.laws import problem
from tests.laws.test_methods import BUILT_IN, make
from tests.runtime.stage import Clients, Task

SLOPES = {"spry": {"send": "slopes"}, "fedmezo": {"send": "slopes"}, "spry_per_iteration": {}}


class Loopback:
    """Carries letters to nodes in this process, backwards; what each client knows is kept as bytes."""

    def __init__(self, make_node, nodes=(7, 3), forgets=(), breaks=()):
        self.nodes = {address: make_node(place) for place, address in enumerate(sorted(nodes))}
        self.known, self.sent, self.answers = {}, [], []
        self.forgets, self.breaks = set(forgets), dict(breaks)

    def addresses(self):
        return sorted(self.nodes)

    def exchange(self, letters, seconds):
        for letter in reversed(letters):
            self.sent.append(letter)
            known = None if letter.client in self.forgets else self.known.get(letter.client)
            answer, self.known[letter.client] = self.nodes[letter.address].answer(
                letter.client, letter.data, known
            )
            self.answers.append(answer)
            yield Delivery(letter.client, self.breaks.get(letter.client, answer))


def play(algorithm, executor=None, rounds=4, downlink=None, clients=None):
    return list(
        simulate(
            algorithm, Task(), clients or Clients(number=6), rounds=rounds, clients_per_round=4, key=Key(0),
            personalized=True, executor=executor, downlink=downlink and downlink(algorithm),
        )
    )  # fmt: skip


def remotely(algorithm, downlink=None, **loopback):
    courier = Loopback(lambda _: ClientNode(algorithm, Task(), Clients(number=6), Key(0)), **loopback)
    executor = Remote(courier, DealtNodes(courier.addresses()).address, 60)
    return play(algorithm, executor, downlink=downlink), courier


def compare(here, there):
    for ours, theirs in zip(here, there, strict=True):
        assert all(torch.equal(w, theirs.weights[n]) for n, w in ours.weights.items())
        for one, other in zip(ours.clients, theirs.clients, strict=True):
            for field in ("client", "units", "examples", "steps", "loss", "bytes_up", "failed"):
                assert getattr(one, field) == getattr(other, field), field
            assert one.generalized == other.generalized and one.personalized == other.personalized


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_gives_the_weights_and_records_of_one_process(name):
    here, (there, courier) = play(make(name)), remotely(make(name))
    compare(here, there)
    assert len(courier.sent) == 16  # one message a round and client
    for ours, theirs in zip(here, there, strict=True):
        assert [c.bytes_down for c in ours.clients] == [c.bytes_down for c in theirs.clients]


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_travel_both_ways_and_late_clients_catch_up(name):
    def made():
        return METHODS[name](problem.UNITS, **SLOPES[name])

    here, (there, courier) = play(made(), downlink=by_slopes), remotely(made(), downlink=by_slopes)
    compare(here, there)
    assert len(courier.sent) == 16
    told = [[c.bytes_down for c in round.clients] for round in there]
    assert told == [[c.bytes_down for c in round.clients] for round in here]


@pytest.mark.parametrize("name", ["fedavg", *SLOPES])
def test_a_client_that_lost_what_it_knew_is_sent_all_weights_in_the_same_round(name):
    def made():
        return METHODS[name](problem.UNITS, **SLOPES.get(name, {}))

    downlink = by_slopes if name in SLOPES else None
    here = play(made(), downlink=downlink)
    there, courier = remotely(made(), downlink=downlink, forgets={0, 1, 2})
    compare(here, there)
    assert (len(courier.sent) > 16) == (name in SLOPES)


def test_garbage_and_refusals_are_told_and_do_not_count():
    broken = {
        0: b"garbage",
        1: refuse("its labels are others"),
        2: encode_message(Present(client=1, examples=3)),
    }
    there, _ = remotely(make("fedavg"), breaks=broken)
    failed = {record.client: record.failed for round in there for record in round.clients}
    assert "begins with" in failed[0] or "truncated" in failed[0]
    assert failed[1] == "its labels are others" and "expected was a TrainingReport" in failed[2]
    assert {failed[client] for client in failed if client > 2} == {None}


def test_a_node_refuses_a_client_that_it_has_no_data_of():
    algorithm = make("fedavg")
    courier = Loopback(lambda place: ClientNode(algorithm, Task(), Clients(number=6 if place else 0), Key(0)))
    rounds = play(algorithm, Remote(courier, DealtNodes(courier.addresses()).address, 60))
    for record in (record for round in rounds for record in round.clients):
        assert (record.failed is None) == bool(record.client % 2)
        assert record.failed is None or "no examples of client" in record.failed


class Own(Clients):
    """One client's data, with a node of its own."""

    def __init__(self, client):
        super().__init__(number=client + 1)
        self.client = client

    def trainable(self):
        return [self.client]


def test_nodes_with_data_of_their_own_say_who_they_are_and_a_late_one_joins():
    algorithm, order = make("fedavg"), [2, 0, 1, 3, 5, 4]
    courier = Loopback(
        lambda place: ClientNode(algorithm, Task(), Own(order[place]), Key(0), client=order[place]),
        nodes=range(6),
    )
    late = courier.nodes.pop(5)
    own = OwnNodes(courier, 60)
    clients = Elsewhere(clients=(), test=Clients().test, batch_size=8, sizes=own.sizes)
    assert clients.trainable() == [0, 1, 2, 3, 5]
    courier.nodes[5] = late
    assert clients.trainable() == [0, 1, 2, 3, 4, 5] and clients.examples(4) == 9
    compare(play(algorithm), play(algorithm, Remote(courier, own.address, 60), clients=clients))


class Growing(Clients):
    """Clients of which the last comes later."""

    come = 5

    def trainable(self):
        return list(range(self.come))


@pytest.mark.parametrize("name", SLOPES)
def test_a_node_with_data_of_its_own_that_joins_a_run_of_slopes_catches_up(name):
    algorithm = METHODS[name](problem.UNITS, **SLOPES[name])
    courier = Loopback(
        lambda place: ClientNode(algorithm, Task(), Own(place), Key(0), client=place), nodes=range(6)
    )
    late, own, here = courier.nodes.pop(5), OwnNodes(courier, 60), Growing(number=6)
    there = Elsewhere(clients=(), test=Clients().test, batch_size=8, sizes=own.sizes)

    def rounds_of(clients, executor, join):
        for round in simulate(
            algorithm, Task(), clients, rounds=6, clients_per_round=4, key=Key(0), executor=executor,
            downlink=by_slopes(algorithm),
        ):  # fmt: skip
            yield round
            if round.number == 1:
                join()

    found = [
        list(rounds_of(here, None, lambda: setattr(here, "come", 6))),
        list(rounds_of(there, Remote(courier, own.address, 60), lambda: courier.nodes.update({5: late}))),
    ]
    compare(*found)
    asked = [5 in {client.client for client in round.clients} for round in found[1]]
    assert asked.index(True) >= 2 and sum(asked) >= 2


def test_a_node_that_cannot_take_part_is_left_out_and_named():
    algorithm = make("fedavg")
    courier = Loopback(
        lambda place: ClientNode(algorithm, Task(), Own(place), Key(0), client=[0, 0, 2][place]),
        nodes=(4, 5, 6),
    )
    courier.breaks = {}
    own = OwnNodes(courier, 60)
    assert dict(own.sizes()) == {0: 5, 2: 7}
    assert own.refused == {5: "it says that it is client 0, and so did another node before it"}


def test_nodes_are_waited_for_and_no_longer_than_said():
    courier = Loopback(lambda _: None)
    assert wait_for_nodes(courier, 2, 1) == [3, 7]
    with pytest.raises(TrainingError, match=r"2 of 3 nodes came within 0\.1 s"):
        wait_for_nodes(courier, 3, 0.1)


def test_messages_around_orders_are_read_strictly():
    assert decode_message(encode_message(RollCall())) == RollCall()
    assert decode_message(refuse("x" * 9000)) == Refusal(reason="x" * 2000, lost=False)
    for damaged in (b"", b"SPRY", refuse("why")[:-1], refuse("why") + b"\x00", problem.__name__.encode()):
        with pytest.raises(WireError):
            decode_message(damaged)


@pytest.mark.parametrize("name", ["fedavg", "fedyogi", "spry"])
def test_what_a_client_knows_comes_back_bit_for_bit(name):
    algorithm = make(name)
    state = play(algorithm, rounds=2)[-1].state
    found = decode_known(encode_known(state), algorithm.init(problem.weights()))
    assert found.round == 2
    for part in ("optimizer", "memory"):
        assert getattr(found, part).keys() == getattr(state, part).keys()
        for slot, values in getattr(state, part).items():
            assert all(torch.equal(value, getattr(found, part)[slot][n]) for n, value in values.items())
    assert all(torch.equal(value, found.weights[n]) for n, value in state.weights.items())


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-3], lambda data: b"\x01x" + data[2:]]
)
def test_damaged_knowledge_is_refused(damage):
    algorithm = make("fedavg")
    fresh = algorithm.init(problem.weights())
    with pytest.raises(WireError, match="of another model, or damaged"):
        decode_known(damage(encode_known(fresh)), fresh)
    other = algorithm.init({name: value[..., :1] for name, value in problem.weights().items()})
    with pytest.raises(WireError, match="is not"):
        decode_known(encode_known(other), fresh)
