"""Secure aggregation over nothing but bytes: the sums and the ledger of one process, whoever falls out and when."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from spry.core.errors import TrainingError
from spry.core.keys import Key
from spry.federated.closed_head.codec import Question, encode_question
from spry.federated.secure.party_state import decode_party
from spry.runtime.courier import Delivery
from spry.runtime.node import ClientNode
from spry.runtime.node_memory import NodeMemory
from spry.runtime.parties import SecureAggregation
from spry.runtime.remote import Remote
from spry.runtime.report import (
    Refusal,
    RollCall,
    SecureAssignment,
    TrainingReport,
    decode_message,
    encode_message,
)
from spry.runtime.roster import DealtNodes
from spry.runtime.secure_node import MaskedClient
from spry.wire.codec import decode_reply
from spry.wire.frame import Kind, read_kind
from spry.wire.messages import Answer
from tests.runtime.stage import Clients, Task
from tests.runtime.test_secure_rounds import SECURE, Losing, run, summed

PHASES = [Kind.SECURE_INVITATION, Kind.SECURE_ROSTER, Kind.SECURE_ASSIGNMENT, Kind.SECURE_SURVIVORS]
TOLD = dict(
    zip(
        PHASES,
        ("told their keys", "shared their secrets", "sent their numbers", "gave their shares"),
        strict=True,
    )
)


class Processes:
    """Answers each letter by a node that is made for it; what a client knows is kept as bytes, and all of it noted.

    Args:
        falls: The phase, by client, from which on it does not answer.
        forgets: Clients that keep their secrets only.
        damage: What becomes of an answer on its way, by client and kind of question.
    """

    def __init__(self, make_node, number, falls=None, forgets=(), damage=lambda client, kind, answer: answer):
        self.make_node, self.number, self.falls, self.forgets = make_node, number, falls or {}, forgets
        self.damage = damage
        self.known, self.ever_known, self.sent, self.answers = {}, [], [], []

    def addresses(self):
        return list(range(self.number))

    def exchange(self, letters, seconds):
        for letter in reversed(letters):
            self.sent.append(letter)
            phase = PHASES.index(read_kind(letter.data))
            if (
                phase >= PHASES.index(self.falls.get(letter.client, PHASES[-1]))
                and letter.client in self.falls
            ):
                continue
            known = self.known.get(letter.client)
            if letter.client in self.forgets and known is not None:
                known = replace(NodeMemory.read(known), state=None).write()
            answer, self.known[letter.client] = self.make_node().answer(letter.client, letter.data, known)
            self.ever_known.append((letter.client, self.known[letter.client]))
            self.answers.append((letter.client, answer))
            yield Delivery(letter.client, self.damage(letter.client, read_kind(letter.data), answer))


def node(algorithm, number=9, secure=SECURE):
    return ClientNode(
        algorithm, Task(), Clients(number=number), Key(0), secure=MaskedClient(secure), reticent=True
    )


def remotely(name, asked=9, least=3, rounds=2, secure=SECURE, start=None, carried=None, **given):
    algorithm = summed(name, least, **given)
    courier = Processes(lambda: node(algorithm, asked, secure), asked, **(carried or {}))
    executor = Remote(courier, DealtNodes(courier.addresses()).address, 60)
    return run(name, secure, asked, executor, rounds, least, start, **given), courier


def same(here, there, *fields):
    for ours, theirs in zip(here, there, strict=True):
        assert all(torch.equal(value, theirs.weights[n]) for n, value in ours.weights.items())
        for one, other in zip(ours.clients, theirs.clients, strict=True):
            assert all(getattr(one, name) == getattr(other, name) for name in fields), (one, other)


@pytest.mark.parametrize("name", ["fedavg", "fedsgd", "spry", "spry_per_iteration"])
def test_weights_and_ledger_are_those_of_one_process(name):
    there, courier = remotely(name)
    same(run(name), there, "client", "units", "examples", "steps", "bytes_up", "bytes_down", "failed")
    assert len(courier.sent) == 2 * 9 * 4
    assert all(math.isnan(record.loss) for round in there for record in round.clients)


@pytest.mark.parametrize("name", ["fedavg", "spry"])
@pytest.mark.parametrize("phase", PHASES)
def test_who_falls_out_in_any_phase_is_recovered_as_in_one_process(name, phase):
    """Its numbers are in the sum if it sent them; groups of six bear it that one falls out."""
    there, _ = remotely(name, asked=12, least=6, carried={"falls": {2: phase}})
    sent = phase is Kind.SECURE_SURVIVORS
    same(run(name, asked=12, least=6, executor=Losing(*([] if sent else [2]))), there)
    for round in there:
        failed = {record.client: record.failed for record in round.clients if record.failed}
        assert list(failed) == ([] if sent else [2])
        assert sent or "no answer within" in failed[2] or "no reply came" in failed[2]


@pytest.mark.parametrize("phase", PHASES)
def test_a_group_that_becomes_too_small_has_no_sum_and_its_unit_keeps_its_value(phase):
    (one,), _ = remotely("spry", rounds=1, carried={"falls": {0: phase}})
    failed = {record.client: record.failed for record in one.clients if record.failed}
    assert len(failed) == 3 and len(one.untrained_units) == 1
    if phase is not Kind.SECURE_SURVIVORS:
        assert "no answer within" in failed[0] or "no reply came" in failed[0]
        failed.pop(0)
    assert all(f"2 of 3 clients {TOLD[phase]}, and it takes 3" in why for why in failed.values())


def test_where_no_group_is_large_enough_the_round_is_refused():
    with pytest.raises(TrainingError, match="2 of 2 clients told their keys, and it takes 3"):
        remotely("fedavg", asked=2)


def test_a_number_beyond_the_range_takes_its_client_out():
    with pytest.raises(TrainingError, match=r"privacy\.largest"):
        remotely("fedavg", secure=SecureAggregation(bits=64, largest=1e-9))


def test_who_lost_the_weights_it_held_is_sent_them_again_under_the_same_masks():
    """The head is trained by nobody, and is sent once; a node that forgot it still has its secrets."""
    start = {name: value + 1 for name, value in Task.init().items()}
    frozen = {"step_factors": {"head": 0}, "start": start}
    there, courier = remotely("fedavg", carried={"forgets": {4}}, **frozen)
    same(run("fedavg", **frozen), there, "failed")
    asked = [one for one in courier.sent if read_kind(one.data) is Kind.SECURE_ASSIGNMENT]
    down = {client: [decode_message(one.data) for one in asked if one.client == client] for client in (4, 5)}
    assert (len(down[4]), len(down[5])) == (3, 2)
    for client, told in down.items():
        carried = sum(len(decode_message(one.assignment).order) + len(one.delivery) for one in told)
        beside = sum(
            len(one.data)
            for one in courier.sent
            if one.client == client and read_kind(one.data) in {Kind.SECURE_ROSTER, Kind.SECURE_SURVIVORS}
        )
        ledger = (record for round in there for record in round.clients if record.client == client)
        assert sum(record.bytes_down for record in ledger) == carried + beside


def test_nothing_that_travels_has_a_clients_numbers_or_secrets():
    _, courier = remotely("fedavg", rounds=1)
    algorithm = summed("fedavg")
    point, plain = SECURE.point(9), []
    for letter in courier.sent:
        if read_kind(letter.data) is Kind.SECURE_ASSIGNMENT:
            plain.append((letter.client, decode_message(letter.data)))
    hidden = []
    for client, asked in plain:
        assert isinstance(asked, SecureAssignment)
        opened = ClientNode(algorithm, Task(), Clients(number=9), Key(0))
        answer, _ = opened.answer(client, asked.assignment, None)
        report = decode_message(answer)
        assert isinstance(report, TrainingReport)
        order = algorithm.plan(algorithm.init(Task.init()), list(range(9)), Key(0))[client]
        added = algorithm.added(Answer(order, decode_reply(report.reply, order)))
        hidden.append(point.encode(added).tobytes())
    assert len(hidden) == 9
    parties = [NodeMemory.read(known).party for _, known in courier.ever_known]
    for party in (decode_party(data) for data in parties if data is not None):
        hidden += [party.sealing.private_bytes_raw(), party.masking.private_bytes_raw(), party.seed]
        hidden += list(party.held.values())
    travelled = [data for _, data in courier.answers] + [letter.data for letter in courier.sent]
    assert len(hidden) > 50 and not any(one in data for one in hidden for data in travelled)


def test_a_node_tells_nothing_without_masks_and_nothing_twice():
    _, courier = remotely("fedavg", rounds=1)
    letters = {read_kind(one.data): one.data for one in courier.sent if one.client == 3}
    memory = [known for client, known in courier.ever_known if client == 3]
    assert [NodeMemory.read(known).party is None for known in memory] == [False, False, False, True]
    there = node(summed("fedavg"))
    asked = decode_message(letters[Kind.SECURE_ASSIGNMENT])
    assert isinstance(asked, SecureAssignment)
    for known, message, why in (
        (memory[1], asked.assignment, "tells replies only under masks"),
        (memory[1], encode_question(Question(client=3, key=Key(0), features=4)), "tells nothing without"),
        (memory[1], letters[Kind.SECURE_ROSTER], "has shared its secrets; it does so once"),
        (memory[2], letters[Kind.SECURE_ASSIGNMENT], "has sent its numbers; it does so once"),
        (memory[0], letters[Kind.SECURE_ASSIGNMENT], "before it shared its secrets"),
        (memory[1], letters[Kind.SECURE_SURVIVORS], "before it sent its numbers"),
        (memory[3], letters[Kind.SECURE_SURVIVORS], "in no session"),
        (None, letters[Kind.SECURE_ASSIGNMENT], "in no session"),
    ):
        answer, kept = there.answer(3, message, known)
        refused = decode_message(answer)
        assert isinstance(refused, Refusal) and why in refused.reason
        assert kept == known
    answer, _ = node(summed("fedavg"), number=2).answer(3, letters[Kind.SECURE_INVITATION], None)
    refused = decode_message(answer)
    assert isinstance(refused, Refusal) and refused.reason == "there are no examples of client 3 here"


DAMAGES = {
    "nothing": lambda answer: b"",
    "half": lambda answer: answer[: len(answer) // 2],
    "another length": lambda answer: answer + b"\x00",
    "flipped bits": lambda answer: answer[:40] + bytes(255 - byte for byte in answer[40:]),
    "another message": lambda answer: encode_message(RollCall()),
}


@pytest.mark.parametrize("kind", PHASES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_answer_that_is_damaged_costs_its_client_alone(damage, kind):
    def carried(client, asked, answer):
        return DAMAGES[damage](answer) if (client, asked) == (2, kind) else answer

    there, _ = remotely("fedavg", asked=5, rounds=1, carried={"damage": carried})
    (one,) = there
    failed = [record.client for record in one.clients if record.failed]
    counts = kind is Kind.SECURE_SURVIVORS  # its numbers came
    assert failed == ([] if counts else [2])
    same(run("fedavg", asked=5, rounds=1, executor=Losing(*([] if counts else [2]))), there)


def test_nobody_answers_in_anothers_name():
    kept = {}

    def swapped(client, kind, answer):
        kept[client, kind] = answer
        return kept[3, kind] if (client, kind) == (2, Kind.SECURE_INVITATION) else answer

    (one,), _ = remotely("fedavg", asked=5, rounds=1, carried={"damage": swapped})
    assert [record.failed for record in one.clients if record.failed] == [
        "keys are of client 3, and client 2 sent them"
    ]


@cache
def recorded():
    """One client's letters of a round, what it knew before each, and a node that plays it."""
    _, courier = remotely("fedavg", asked=5, rounds=1)
    letters = [letter.data for letter in courier.sent if letter.client == 3]
    known = [memory for client, memory in courier.ever_known if client == 3]
    return letters, [None, *known[:3]], node(summed("fedavg"), 5)


@given(st.integers(0, 3), st.data())
@settings(max_examples=120, deadline=None)
def test_a_node_refuses_what_it_cannot_read_and_forgets_nothing_by_it(phase, data):
    letters, memory, there = recorded()
    whole, known = letters[phase], memory[phase]
    start = data.draw(st.integers(0, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=8)) + whole[start + data.draw(st.integers(0, 8)) :]
    answer, kept = there.answer(3, damaged, known)
    assert read_kind(answer) in Kind
    if read_kind(answer) is Kind.REFUSAL:
        assert kept == known
