"""Flower's own messages and apps around Spry's bytes, in one process: weights are those of ``simulate``."""

from __future__ import annotations

import os
import socket
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import monotonic, sleep
from unittest.mock import Mock, patch

import psutil
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed (the extra flower)")

import flwr.app.message.message as flower_message
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from spry.core.keys import Key
from spry.experiment.agreed import agreed
from spry.experiment.config import read_config
from spry.experiment.flower_app import client_app, server_app
from spry.experiment.log import read_rounds
from spry.federated.methods import METHODS
from spry.federated.replay.downlink import by_slopes
from spry.federated.secure.party_state import decode_party
from spry.runtime.courier import Delivery, Letter
from spry.runtime.executor import Failure
from spry.runtime.flower.apps import ONE_RECORD, GridCourier, make_client_app, make_server_app
from spry.runtime.flower.bridge import SOCKET, BridgeCourier, GridAnswer, serve_bridge
from spry.runtime.flower.engine import free_port
from spry.runtime.node import ClientNode
from spry.runtime.node_memory import NodeMemory
from spry.runtime.pipe import Pipe, listening
from spry.runtime.remote import Remote
from spry.runtime.roster import DealtNodes
from spry.runtime.rounds import simulate
from tests.laws import problem
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task
from tests.runtime.test_remote import SLOPES, compare, play
from tests.runtime.test_secure_remote import node as masking_node
from tests.runtime.test_secure_rounds import run, summed


@pytest.fixture(autouse=True)
def _a_task_of_flowers(monkeypatch):
    """Messages note in which task of Flower's they are made; its processes set that."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class LocalGrid(Grid):
    """Runs a client app in this process, each node with a context of its own; what it raises is an error message."""

    def __init__(self, app, nodes):
        self.contexts = {node: Context(1, node, {"place": node}, RecordDict(), {}) for node in nodes}
        self.app, self.replies, self.run_ = app, {}, None

    def set_run(self, run):
        self.run_ = run

    @property
    def run(self):
        return self.run_

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        names = []
        for message in messages:
            name = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = name
            try:
                reply = self.app(message, self.contexts[message.metadata.dst_node_id])
            except RuntimeError as error:
                reply = Message(Error(code=0, reason=f"{error}\n"), reply_to=message)
            names.append(name)
            if reply is not None:
                self.replies[name] = reply
        return names

    def pull_messages(self, message_ids):
        return [self.replies.pop(name) for name in list(message_ids) if name in self.replies]

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(messages))


def node_app(algorithm):
    node = ClientNode(algorithm, Task(), Clients(number=6), Key(0))
    return make_client_app(lambda facts, client, message, known: node.answer(client, message, known))


@pytest.mark.parametrize("name", ["spry", "fedavg", "fedyogi"])
def test_weights_over_flowers_messages_are_those_of_one_process(name):
    algorithm, rounds = make(name), []

    def serve(courier, settings):
        assert settings == {"out": "run"}
        executor = Remote(courier, DealtNodes(courier.addresses()).address, 60)
        rounds.extend(play(make(name), executor))

    grid = LocalGrid(node_app(algorithm), nodes=(11, 5))
    make_server_app(serve)(grid, Context(1, 0, {}, RecordDict(), {"out": "run"}))
    compare(play(make(name)), rounds)
    assert not grid.replies


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_travel_both_ways_over_flowers_messages_and_late_clients_catch_up(name):
    """What a client knows stays in its node's context, from which it replays what it missed."""

    def made():
        return METHODS[name](problem.UNITS, **SLOPES[name])

    def serve(courier, _):
        executor = Remote(courier, DealtNodes(courier.addresses()).address, 60)
        rounds.extend(play(made(), executor, downlink=by_slopes))

    here, rounds = play(made(), downlink=by_slopes), []
    make_server_app(serve)(LocalGrid(node_app(made()), (11, 5)), Context(1, 0, {}, RecordDict(), {}))
    compare(here, rounds)
    sent = [[client.bytes_down for client in round.clients] for round in rounds]
    assert sent == [[client.bytes_down for client in round.clients] for round in here]
    assert min(map(min, sent)) < max(map(max, sent)) / 4  # slopes, and all weights to who comes first


def test_secure_aggregation_over_flowers_messages_keeps_secrets_in_the_nodes_contexts():
    """Each message meets a new node, as where Flower starts a process for each; what it keeps is in no reply."""
    replies = []

    def answer(facts, client, message, known):
        found, known = masking_node(summed("spry"), 9).answer(client, message, known)
        replies.append((found, NodeMemory.read(known)))
        return found, known

    grid = LocalGrid(make_client_app(answer), nodes=range(1, 10))
    courier = GridCourier(grid)
    rounds = run("spry", executor=Remote(courier, DealtNodes(courier.addresses()).address, 60))
    for ours, theirs in zip(run("spry"), rounds, strict=True):
        assert all(torch.equal(value, theirs.weights[name]) for name, value in ours.weights.items())
        assert [c.bytes_up for c in ours.clients] == [c.bytes_up for c in theirs.clients]
    parties = [decode_party(memory.party) for _, memory in replies if memory.party]
    secrets = {one for party in parties for one in (party.seed, party.masking.private_bytes_raw())}
    assert len(secrets) == 2 * 2 * 9 and len(replies) == 2 * 4 * 9
    assert not any(secret in reply for secret in secrets for reply, _ in replies)


def exchange(app, seconds=0.2):
    return list(GridCourier(LocalGrid(app, (1,))).exchange([Letter(1, 4, b"what")], seconds))


def test_an_exception_of_a_client_is_its_reason():
    def fails(facts, client, message, known):
        raise RuntimeError(f"node {facts['place']}\n\n  lacks memory")

    (found,) = exchange(make_client_app(fails))
    assert found == (4, b"", "node 1 lacks memory")


def test_a_reply_without_bytes_and_one_that_never_comes_are_told():
    def foreign(message, context):
        return Message(RecordDict({ONE_RECORD: ConfigRecord({"data": 3})}), reply_to=message)

    assert exchange(foreign) == [(4, b"", "its answer has no bytes of Spry's")]
    assert exchange(lambda message, context: None) == [(4, b"", "no answer within 0.2 s")]


def test_what_a_client_knows_stays_in_its_nodes_context():
    def counts(facts, client, message, known):
        return message + (known or b""), (known or b"") + b"!"

    grid = LocalGrid(make_client_app(counts), (1, 2))
    courier = GridCourier(grid)
    letters = [Letter(1, 7, b"a"), Letter(1, 8, b"b"), Letter(2, 7, b"c")]
    for known in (b"", b"!", b"!!"):
        answers = {found.data for found in courier.exchange(letters, 5)}
        assert answers == {m + known for m in (b"a", b"b", b"c")}


@pytest.mark.parametrize("ahead", [-50.0, 50.0])
def test_a_node_whose_clock_is_off_by_a_minute_is_heard(ahead):
    """Flower lets a message expire by its sender's clock, and an answer by its node's."""
    replies, real = [], flower_message.now

    def off(message, context):
        with patch.object(flower_message, "now", lambda: real() + timedelta(seconds=ahead)):
            reply = make_client_app(lambda facts, client, message, known: (message, known))(message, context)
        replies.append(reply.metadata)
        return reply

    assert exchange(off, 5.0) == [(4, b"what", None)]
    (reply,) = replies
    assert reply.ttl > 0 and reply.created_at + reply.ttl > real().timestamp()


def test_many_exchanges_leave_no_thread_and_no_file_open():
    me, app = psutil.Process(), make_client_app(lambda facts, client, message, known: (message, known))
    courier, letters = GridCourier(LocalGrid(app, (1, 2))), [Letter(1 + n % 2, n, b"what") for n in range(8)]

    def held():
        ends = monotonic() + 5
        while me.num_threads() > before[0] and monotonic() < ends:
            sleep(0.05)
        return me.num_threads(), me.num_fds()

    before = me.num_threads(), me.num_fds()
    for _ in range(100):
        assert len(list(courier.exchange(letters, 5))) == 8
    assert held() == before


class SilentGrid(LocalGrid):
    """One node's answers never come."""

    def __init__(self, app, nodes, silent):
        super().__init__(app, nodes)
        self.silent = silent

    def pull_messages(self, message_ids):
        return super().pull_messages(
            name for name in message_ids if self.replies[name].metadata.src_node_id != self.silent
        )


@contextmanager
def bridged(grid):
    """A run's end of a bridge to a grid, and that the server app's end has come to its own end."""
    with (
        TemporaryDirectory() as folder,
        listening(place := Path(folder) / "socket") as server,
        patch.dict(os.environ, {SOCKET: str(place)}),
        ThreadPoolExecutor(1) as pool,
    ):
        served = pool.submit(serve_bridge, GridCourier(grid), {})
        pipe = Pipe(server.accept()[0])
        try:
            yield BridgeCourier(pipe, lambda: "the engine is gone")
        finally:
            pipe.close()
            served.result(10)


class Losing:
    """Runs the clients here, but for some."""

    def __init__(self, lost):
        self.lost = lost

    def run(self, orders, train, deadline=None):
        for order in orders:
            yield Failure(order, "gone") if order.client in self.lost else train(order)


def over_selected(executor):
    """In both rounds all six clients are asked, and four replies are enough."""
    return simulate(
        make("fedavg"), Task(), Clients(number=6), rounds=2, clients_per_round=4, over_select=2, key=Key(0),
        executor=executor,
    )  # fmt: skip


def test_a_round_with_enough_replies_does_not_wait_for_the_others():
    """Clients 4 and 5 are on the node whose answers do not come; an answer is waited for a minute."""
    grid, begun = SilentGrid(node_app(make("fedavg")), (3, 7), silent=7), monotonic()
    with bridged(grid) as courier:
        rounds = list(over_selected(Remote(courier, lambda client: 7 if client > 3 else 3, 60)))
    assert monotonic() - begun < 30
    for ours, theirs in zip(over_selected(Losing({4, 5})), rounds, strict=True):
        assert all(torch.equal(value, theirs.weights[name]) for name, value in ours.weights.items())
        late = {record.client: record.failed for record in theirs.clients if record.failed}
        assert late.keys() == {4, 5}
        assert all("4 replies were enough (runtime.over_select)" in reason for reason in late.values())


def test_an_answer_that_came_too_late_for_its_question_is_not_taken_for_one_to_the_next():
    here, there = socket.socketpair()
    with here, there:
        courier, grid = BridgeCourier(Pipe(here), lambda: "the engine is gone"), Pipe(there)
        late = iter(courier.exchange([Letter(1, 4, b"first"), Letter(1, 5, b"first")], 5))
        grid.send(GridAnswer(1, Delivery(4, b"in time")))
        assert next(late) == (4, b"in time", None)
        for answer in (Delivery(5, b"late"), None):
            grid.send(GridAnswer(1, answer))
        for answer in (Delivery(5, b"next"), None):
            grid.send(GridAnswer(2, answer))
        assert list(courier.exchange([Letter(1, 5, b"second")], 5)) == [(5, b"next", None)]


class HalfwayGrid(LocalGrid):
    """A node is cut off while it sends an answer: as Flower does, pulling it waits for the rest."""

    def __init__(self, app, nodes, cut):
        super().__init__(app, nodes)
        self.cut, self.joined = cut, Event()

    def pull_messages(self, message_ids):
        found = super().pull_messages(message_ids)
        if any(message.metadata.src_node_id == self.cut for message in found):
            self.joined.wait()
        return found


def test_an_answer_cut_off_halfway_keeps_neither_the_others_nor_the_end_of_the_round():
    grid = HalfwayGrid(make_client_app(lambda facts, client, message, known: (message, known)), (1, 2), cut=1)
    begun = monotonic()
    found = [*GridCourier(grid).exchange([Letter(1, 4, b"cut"), Letter(2, 5, b"whole")], 0.5)]
    assert monotonic() - begun < 5
    grid.joined.set()
    assert found == [(5, b"whole", None), (4, b"", "no answer within 0.5 s")]


@pytest.mark.parametrize(("pushed", "reason"), [([""], "its node has left"), ([], "it may be too large")])
def test_a_message_that_flower_does_not_take_is_told(pushed, reason):
    grid = LocalGrid(lambda message, context: None, (1,))
    grid.push_messages = lambda messages: pushed
    (found,) = GridCourier(grid).exchange([Letter(1, 4, b"what")], 0.2)
    assert found.client == 4 and not found.data and reason in found.failed


def test_an_error_of_flowers_ends_the_exchange():
    grid = LocalGrid(lambda message, context: None, (1,))
    grid.pull_messages = Mock(side_effect=OSError("the superlink is gone"))
    with pytest.raises(OSError, match="superlink is gone"):
        list(GridCourier(grid).exchange([Letter(1, 4, b"what")], 5))


class ScrapedGrid(LocalGrid):
    """Reads the server's metrics before each round's messages."""

    def __init__(self, app, nodes, port):
        super().__init__(app, nodes)
        self.port, self.scraped = port, []

    def push_messages(self, messages):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            self.scraped.append(answer.read().decode())
        return super().push_messages(messages)


def test_a_server_app_runs_what_its_file_says_and_serves_metrics_on_request(tiny_model, tiny_csv, tmp_path):
    pytest.importorskip("prometheus_client")
    settings = {
        "model.name": str(tiny_model), "data.name": str(tiny_csv), "data.clients": 2, "schedule.rounds": 2,
        "schedule.clients_per_round": 2, "client.steps": 1, "runtime.name": "flower",
    }  # fmt: skip
    place = tmp_path / "config.toml"
    place.write_text(agreed(read_config("plain", settings)).alone().dump())
    grid, out = ScrapedGrid(client_app(place), (3, 8), free_port()), tmp_path / "run"
    asked = {"out": str(out), "metrics": grid.port}
    server_app(place)(grid, Context(1, 0, {}, RecordDict(), asked))
    assert (out / "summary.json").is_file() and len(read_rounds(out)) == 2
    assert "spry_rounds_done 0.0" in grid.scraped[0] and "spry_rounds_done 1.0" in grid.scraped[-1]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{grid.port}/metrics", timeout=10)
