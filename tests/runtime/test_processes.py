"""Work dealt over helpers: the same bits as alone, and nobody who waits for somebody that is gone waits forever.

Helpers are threads here, with a mailbox each; tests/experiment/test_workers.py has real processes.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from spry.core.errors import ModelError, WorkerError
from spry.core.keys import Key
from spry.federated.replay.downlink import full
from spry.runtime.processes import pulse
from spry.runtime.processes.crew import Crew
from spry.runtime.processes.dealing import Processes
from spry.runtime.processes.duties import Site
from spry.runtime.processes.helper import help_out
from spry.runtime.processes.mailbox import Mailbox, connect_here, open_here
from spry.runtime.rounds import simulate
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task

SECRET = b"only these know"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.05)


class Sparse(Clients):
    """Client 2 has nothing to train on in any round."""

    def batches(self, client, round, key):
        return [] if client == 2 else super().batches(client, round, key)


def site(name="fedavg", clients=None):
    algorithm = make(name)
    return Site(
        algorithm=algorithm,
        downlink=full(algorithm),
        task=Task(),
        clients=clients or Clients(number=6),
        key=Key(0),
        personalized=False,
        device="cpu",
    )


@contextmanager
def crew_of(size, load=site, name="fedavg"):
    """A crew whose helpers are threads, and a list of the clients that these have run."""
    store, port = open_here()
    crew, ran = Crew(box=Mailbox(store, SECRET), size=size, look=lambda: None), []

    def loaded(told):
        made = load(told)
        return replace(made, algorithm=replace(made.algorithm, train=_noting(made.algorithm.train, ran)))

    crew.begin(name)
    helpers = [
        threading.Thread(
            target=_until_it_fails, args=(Mailbox(connect_here(port), SECRET), rank, loaded), daemon=True
        )
        for rank in crew.helpers
    ]
    for helper in helpers:
        helper.start()
    try:
        yield crew, ran
    finally:
        crew.close()
        for helper in helpers:
            helper.join(10)
            assert not helper.is_alive()


def _noting(train, ran):
    def noted(loss_of, order, batches, examples):
        ran.append(order.client)
        return train(loss_of, order, batches, examples)

    return noted


def _until_it_fails(box, rank, load):
    try:
        help_out(box, rank, load)
    except Exception:  # the leader is told
        return


def _slowly(train):
    """What the leader does, so that helpers come to the mailbox, too."""

    def slow(*arguments):
        time.sleep(0.03)
        return train(*arguments)

    return slow


def play(executor=None, name="fedavg", rounds=3, count=4, clients=None, **given):
    algorithm = make(name)
    if executor is not None:
        algorithm = replace(algorithm, train=_slowly(algorithm.train))
    return list(
        simulate(
            algorithm, Task(), clients or Clients(number=6), rounds=rounds, clients_per_round=count, key=Key(0),
            executor=executor, **given,
        )
    )  # fmt: skip


def same(ours, theirs):
    return all(
        [r.client for r in a.clients] == [r.client for r in b.clients]
        and all(torch.equal(weight, b.weights[n]) for n, weight in a.weights.items())
        and (a.loss, a.score) == (b.loss, b.score)
        and [(r.operations, r.failed) for r in a.clients] == [(r.operations, r.failed) for r in b.clients]
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", ["spry", "residual", "fedavg", "fedmezo", "fwdllm", "fedyogi"])
def test_helpers_change_no_bit(name):
    with crew_of(3, name=name) as (crew, ran):
        assert same(play(Processes(crew), name), play(name=name))
        assert ran


def test_more_processes_than_clients_and_a_client_alone():
    with crew_of(4) as (crew, _):
        assert same(play(Processes(crew), count=1), play(count=1))


def test_a_client_that_has_nothing_to_train_on():
    def load(told):
        return site(told, clients=Sparse(number=6))

    with crew_of(2, load=load) as (crew, ran):
        dealt = play(Processes(crew), clients=Sparse(number=6), count=6)
    assert ran and same(dealt, play(clients=Sparse(number=6), count=6))


def test_helpers_that_come_late_come_in():
    def late(told):
        time.sleep(0.3)
        return site(told)

    came = []
    with crew_of(2, load=late) as (crew, _):
        crew.joins = came.append
        assert same(play(Processes(crew), rounds=2), play(rounds=2))
        deadline = time.monotonic() + 20
        while not came and time.monotonic() < deadline:
            play(Processes(crew), rounds=1)
    (joined,) = came
    assert (joined.rank, joined.pid) == (1, os.getpid()) and joined.own_bytes > 0


class Failing:
    """A duty that no helper can do."""

    def at(self, site):
        def work(piece):
            raise ModelError("this model cannot read that")

        return work


def test_what_a_piece_fails_with_in_a_helper_is_raised_by_the_leader():
    with crew_of(2) as (crew, _), pytest.raises(ModelError, match="cannot read that"):
        for _ in range(1000):  # until the helper has come, and takes a piece
            list(crew.share(Failing(), 4, lambda piece: time.sleep(0.02)))


def test_a_helper_that_cannot_load_is_told():
    def broken(told):
        raise ModelError("no such folder")

    with crew_of(2, load=broken) as (crew, _), pytest.raises(ModelError, match="no such folder"):
        while True:
            crew.check_failed(1)
            time.sleep(0.01)


def test_a_piece_that_somebody_took_and_never_gives_is_not_waited_for_past_the_silence(monkeypatch):
    """A helper that took a client and fell silent, as a machine does that loses its power."""
    monkeypatch.setattr(pulse, "SILENCE_SECONDS", 0.5)
    store, port = open_here()
    crew = Crew(box=Mailbox(store, SECRET), size=2, look=lambda: None)
    ghost = Mailbox(connect_here(port), SECRET)
    ghost.count("pulse/1", 1)
    crew.begin("fedavg")
    taken = []

    def train(piece):
        taken.append(ghost.count("taken/1", 1))  # the ghost takes the next one
        return piece

    begun = time.monotonic()
    with pytest.raises(WorkerError, match=r"worker 1 has been silent for 0\.5 s"):
        list(crew.share(None, 4, train))
    assert time.monotonic() - begun < 20
    crew.close()


def test_a_deadline_ends_a_round_that_waits_for_a_helper():
    store, port = open_here()
    crew = Crew(box=Mailbox(store, SECRET), size=2, look=lambda: None)
    ghost = Mailbox(connect_here(port), SECRET)

    def train(piece):
        ghost.count("taken/1", 1)
        return piece

    assert [piece for piece, _ in crew.share(None, 4, train, deadline=0.3)] == [0, 2]
    crew.close()


def test_a_helper_whose_leader_is_silent_gives_up(monkeypatch):
    monkeypatch.setattr(pulse, "SILENCE_SECONDS", 0.5)
    store, port = open_here()
    Mailbox(store, SECRET).count("pulse/0", 1)
    with pytest.raises(WorkerError, match="worker 0 has been silent"):
        help_out(Mailbox(connect_here(port), SECRET), 1, site)


def test_what_somebody_else_puts_into_the_store_is_never_unpickled():
    store, port = open_here()
    box, foreign = Mailbox(store, SECRET), Mailbox(connect_here(port), b"guessed")
    foreign.put("told", Bomb())
    with pytest.raises(WorkerError, match="written by somebody else"):
        box.read("told")
    store.set("told", b"short")
    with pytest.raises(WorkerError):
        box.read("told")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_an_error_that_cannot_travel_goes_as_what_it_says():
    from spry.runtime.processes.jobs import attempt

    class LocalError(Exception):
        pass

    def work(piece):
        raise LocalError("no room")

    outcome = pickle.loads(pickle.dumps(attempt(work, 3)))
    assert outcome.piece == 3
    with pytest.raises(RuntimeError, match="LocalError: no room"):
        outcome.read()
