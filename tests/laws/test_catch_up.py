"""A client that replays the rounds it missed holds the server's weights bit for bit, for every method whose replies are
slopes, whoever skipped rounds, joined late, or sent a reply that was dropped."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.federated.methods import METHODS
from spry.federated.replay import downlink, log
from spry.federated.replay.catch_up import receive
from spry.federated.replay.codec import decode_catch_up
from spry.federated.replay.downlink import by_slopes
from spry.federated.replay.log import KNOWN
from spry.federated.transforms import Clip
from spry.optim.named import OPTIMIZERS, optimizer
from spry.optim.rules import clip, sgd, yogi
from spry.optim.transform import chain
from spry.wire.codec import encode_order
from spry.wire.frame import Kind, read_kind
from spry.wire.messages import Answer
from tests.laws import problem
from tests.laws.test_replay import PROJECTED

KEY = Key(3)


def asked(number):
    """Four clients a round out of eight; client 7 is not asked before round 4, client 0 seldom."""
    pool = [c for c in range(8) if (c != 7 or number > 3) and (c != 0 or number in {0, 6})]
    return [pool[i] for i in KEY.fold(number).permutation(len(pool), "asked")[:4]] if number else [3, 0, 5, 1]


def play(name, *, played=7, drawable=True, dtype=torch.float32, **choices):
    """Run rounds over the wire; return what went down as (round, client, bytes, size of all weights), and the end."""
    given = {"send": "slopes"} if name in {"spry", "fedfgd", "fedmezo"} else {}
    given |= {"candidates": 3} if name == "fwdllm" else {}
    algorithm = METHODS[name](**{"units": problem.UNITS, **given, **choices})
    initial = {n: w.to(dtype) for n, w in problem.weights().items()}
    down, state, clients, sent = by_slopes(algorithm, drawable=drawable), algorithm.init(initial), {}, []
    blank = algorithm.init({n: torch.zeros_like(w) for n, w in initial.items()})
    for number in range(played):
        planned = algorithm.plan(state, asked(number), KEY)
        messages = down.send(state, planned, KEY)
        answers = []
        for client, order in planned.items():
            data = messages(client)
            known = clients.get(client, algorithm.init(initial) if drawable else blank)
            got, clients[client] = receive(data, algorithm, known)
            compare(order, got, algorithm.slopes_exact)
            sent.append((number, client, data, len(encode_order(order))))
            batches = [problem.batch(10 * client + i) for i in range(client % 3)]
            batches = [problem.Batch(b.x.to(dtype), b.y) for b in batches]
            reply = algorithm.train(problem.loss_of, got, batches, 3 + client).reply
            if (number + client) % 5:  # the others' replies are lost
                answers.append(Answer(order, reply))
        state = down.absorb(state, planned, KEY, answers)
    return sent, state


def compare(ordered, got, exact):
    assert all(torch.equal(ordered.weights[n], got.weights[n]) for n in ordered.weights)
    for field in ("round", "client", "trained", "key", "num_directions", "max_steps", "group"):
        assert getattr(ordered, field) == getattr(got, field)
    for name, value in (
        ordered.guess or {}
    ).items():  # directions are measured along, so the exact head has no say
        assert name in exact or torch.equal(value, got.guess[name])


def catch_ups(sent):
    return [(number, data) for number, _, data, _ in sent if read_kind(data) is Kind.CATCH_UP]


def kinds(sent):
    return Counter(read_kind(data) is Kind.CATCH_UP for _, _, data, _ in sent)


@pytest.mark.parametrize("place", range(len(OPTIMIZERS)))
@pytest.mark.parametrize("name", [*PROJECTED, "spry_control_variate"])
def test_every_method_and_optimizer(name, place):
    """On either side; K, the exact head and clipping take turns, so that each pair meets."""
    names, turn = list(OPTIMIZERS), place + (PROJECTED.index(name) if name in PROJECTED else 0)
    given = {
        "num_directions": (1, 2)[turn % 2],
        "units": problem.units(exact=turn // 2 % 2 == 0),
        "transforms": [Clip(0.5)] if turn % 3 == 0 else [],
        "client": optimizer(names[turn % len(names)], lr=0.01),
        "server": optimizer(names[place], lr=0.1),
    }
    sent, _ = play(name, **given)
    assert kinds(sent)[True] > 8
    assert all(len(data) <= whole for _, _, data, whole in sent)


def test_a_guided_guess():
    assert kinds(play("spry_control_variate", variate="guided", num_directions=2)[0])[True] > 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["spry", "spry_per_iteration"])
def test_every_dtype(name, dtype):
    assert kinds(play(name, num_directions=2, dtype=dtype)[0])[True] > 10


@pytest.mark.parametrize("threshold", [1e12, 1e-12])
def test_pacing_with_aligned_directions(threshold):
    assert kinds(play("fwdllm", threshold=threshold)[0])[True] > 10


@pytest.mark.parametrize("name", ["spry", "spry_per_iteration"])
def test_the_bounded_log_never_changes_what_is_sent(name, monkeypatch):
    bounded, end = play(name, played=6, num_directions=40)
    monkeypatch.setattr(downlink, "max_order_bytes", lambda *_: math.inf)
    free, _ = play(name, played=6, num_directions=40)
    assert [data for *_, data, _ in bounded] == [data for *_, data, _ in free]
    assert len(end.memory[downlink.SLOT]) < 6


def test_replies_too_many_to_be_of_use_are_not_kept():
    sent, end = play("spry", num_directions=200, played=5)
    assert set(end.memory[downlink.SLOT]) == {KNOWN}
    assert kinds(sent[4:])[True] == 0


def test_what_a_client_would_refuse_is_not_sent(monkeypatch):
    monkeypatch.setattr(log, "MAX_ROUNDS", 1)
    sent, _ = play("spry", server=sgd(1.0))
    like = {n: w.float() for n, w in problem.weights().items()}
    told = {len(decode_catch_up(data, like).rounds) for _, data in catch_ups(sent)}
    assert told == {0, 1}
    monkeypatch.setattr(downlink, "MAX_ASKED", 3)
    monkeypatch.setattr(log, "MAX_ASKED", 3)
    sent, end = play("spry")
    assert not catch_ups(sent) and set(end.memory[downlink.SLOT]) == {KNOWN}


@pytest.mark.parametrize(("server", "again"), [(sgd(1.0), True), (yogi(0.01), False)])
def test_clients_that_cannot_draw_the_initial_weights(server, again):
    """All weights are a state to go on from only where the server remembers nothing else."""
    sent, _ = play("spry_per_iteration", drawable=False, server=server)
    first = {client: data for _, client, data, _ in reversed(sent)}
    assert not any(read_kind(data) is Kind.CATCH_UP for data in first.values())
    assert (kinds(sent)[True] > 0) == again


def test_with_slopes_less_travels_than_with_weights():
    sent, _ = play("spry_per_iteration", units=problem.units(exact=False))
    assert sum(len(data) for *_, data, _ in sent) < 0.6 * sum(whole for *_, whole in sent)


def test_the_answers_are_those_of_full_orders():
    """Replaying changes nothing for the server either."""
    _, caught = play("spry")
    algorithm = METHODS["spry"](problem.UNITS, send="slopes")
    state = algorithm.init({n: w.float() for n, w in problem.weights().items()})
    for number in range(7):
        answers = []
        for client, order in algorithm.plan(state, asked(number), KEY).items():
            batches = [problem.batch(10 * client + i) for i in range(client % 3)]
            batches = [problem.Batch(b.x.float(), b.y) for b in batches]
            reply = algorithm.train(problem.loss_of, order, batches, 3 + client).reply
            if (number + client) % 5:
                answers.append(Answer(order, reply))
        state = algorithm.absorb(state, answers)
    assert all(torch.equal(state.weights[n], caught.weights[n]) for n in state.weights)


def test_a_joint_clip_on_the_server_is_noticed_not_hidden():
    """With an exact head the client lacks a part of the norm; the digest tells."""
    with pytest.raises(WireError, match="other weights than the server's"):
        play("spry", server=chain(clip(1e-4), sgd(1.0)))
