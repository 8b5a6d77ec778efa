"""Privacy on nodes: weights and epsilon of one process, and nothing that a node should keep leaves it."""

from __future__ import annotations

import base64
import logging
from dataclasses import replace

import pytest
import torch
from tests.experiment.test_node import SETTINGS, Federation, equal, files, weights

from spry.core.errors import CheckpointError, ConfigError
from spry.core.keys import Key
from spry.experiment import node
from spry.experiment.agreed import agreed
from spry.experiment.config import read_config
from spry.experiment.log import read_rounds
from spry.experiment.node import build_node
from spry.experiment.run import run
from spry.federated.closed_head.codec import Question, encode_question
from spry.federated.privacy.accounting import spent
from spry.federated.secure.party_state import decode_party
from spry.runtime.node_memory import NodeMemory
from spry.runtime.report import (
    Assignment,
    Present,
    Refusal,
    RollCall,
    TrainingReport,
    decode_message,
    encode_message,
)
from spry.wire.codec import decode_reply, encode_order
from spry.wire.frame import Kind, read_kind

__all__ = ["files"]  # a fixture
MASKED = {"privacy.secure_aggregation": True, "privacy.bits": 64}
CLOSED = {"head.start": "closed-form", "privacy.head_clip": 1.0, "method.name": "residual"}
SLOPES = {"method.name": "spry_per_iteration", "method.num_directions": 4, "privacy.exact_clip": 0.2}


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'base = "plain"\n[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\n'
        f'test = "{tiny_csv}"\nclients = 6\n'
        "[schedule]\nrounds = 3\nclients_per_round = 3\nevaluate_every = 1\ncheckpoint_every = 1\n"
        '[client]\nsteps = 1\nbatch_size = 4\n[method]\nname = "fedavg"\n[runtime]\nname = "flower"\n'
        '[privacy]\nmechanism = "central"\nclip = 0.1\nnoise = 1.0\n'
    )
    return read_config(path)


def here(config, folder):
    list(run(config.with_settings({"runtime.name": "simulate", "runtime.data": "dealt"}), folder))
    return weights(folder)


def own(files, clients=None):
    return [
        {"data": str(path), "client": c} for c, path in enumerate(files) if clients is None or c in clients
    ]


def asked_in(line):
    return [client["client"] for client in line["clients"]]


def reports(courier):
    """What nodes answered to orders, as it travelled."""
    read = (decode_message(data) for data in courier.answers if read_kind(data) is Kind.REPORT)
    return [report for report in read if isinstance(report, TrainingReport)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        SLOPES,
        {"method.name": "spry_per_iteration", "privacy.unit": "example", "peft.exact": "nothing"},
        CLOSED,
        {"method.name": "residual", "privacy.mechanism": "local", "step_factors.head": 0},
        {**SLOPES, "privacy.mechanism": "local"},
        {**MASKED, "privacy.mechanism": "none"},
        {**MASKED, "schedule.clients_per_round": 6},
        {**MASKED, **SLOPES, "privacy.mechanism": "local"},
    ],
    ids=[
        "updates", "slopes", "examples", "closed head", "local", "local slopes", "masks", "central masks", "local masks"
    ],
)  # fmt: skip
def test_dealt_data_gives_the_same_bits_and_the_same_epsilon(settings, config, tmp_path):
    config = config.with_settings(settings)
    list(run(config, tmp_path / "there", courier=Federation(config, [{}, {}])))
    assert equal(here(config, tmp_path / "here"), weights(tmp_path / "there"))
    left, right = (read_rounds(tmp_path / name) for name in ("here", "there"))
    for name in ("epsilon", "bytes_up", "bytes_down"):
        assert [line.get(name) for line in left] == [line.get(name) for line in right], name
    assert [asked_in(line) for line in left] == [asked_in(line) for line in right]


@pytest.mark.parametrize(
    "settings", [{}, SLOPES, CLOSED, {"privacy.mechanism": "local"}, {**MASKED, "privacy.mechanism": "none"}],
    ids=["updates", "slopes", "closed head", "local", "masks"],
)  # fmt: skip
def test_own_files_give_the_bits_of_one_process_with_the_same_rows(settings, config, files, tmp_path):
    there = agreed(config.with_settings({**SETTINGS, **settings}))
    list(run(there, tmp_path / "there", courier=Federation(there, own(files))))
    assert equal(here(there, tmp_path / "here"), weights(tmp_path / "there"))
    left, right = (read_rounds(tmp_path / name) for name in ("here", "there"))
    assert [line.get("epsilon") for line in left] == [line.get("epsilon") for line in right]


def test_under_masks_a_process_loads_model_and_data_only_to_train(config, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(node, "build_node", lambda *given: built.append(given) or build_node(*given))
    hidden = config.with_settings({**MASKED, "privacy.mechanism": "none", "schedule.rounds": 2})
    list(run(hidden, tmp_path / "there", courier=Federation(hidden, [{}, {}], cold=True)))
    assert len(built) == 2 * 3  # of four messages a round and client
    assert equal(here(hidden, tmp_path / "here"), weights(tmp_path / "there"))


def test_a_budget_for_local_noise_is_agreed_as_the_noise_that_all_rounds_cost(config, files, tmp_path):
    budget = {**SETTINGS, "privacy.mechanism": "local", "privacy.noise": "none", "privacy.epsilon": 20.0}
    there = agreed(config.with_settings(budget))
    assert 19 < spent(there.privacy.noise, 1.0, 3, None, 1e-5) <= 20
    list(run(there, tmp_path / "there", courier=Federation(there, own(files))))
    assert equal(here(there, tmp_path / "here"), weights(tmp_path / "there"))
    assert read_rounds(tmp_path / "there")[-1]["epsilon"] <= 20
    dealt = agreed(config.with_settings({**budget, "runtime.data": "dealt", "data.partition": "iid"}))
    assert dealt.privacy.noise <= there.privacy.noise  # whoever deals knows who is asked in how many
    with pytest.raises(ConfigError, match=r"privacy.noise is unset.*spry flower init"):
        build_node(there.with_settings({"privacy.noise": "none"}), own(files)[0])


def test_the_budget_is_that_of_the_nodes_that_came(config, files, tmp_path):
    """The server's own data has seven clients; of four nodes each is asked more often."""
    there = agreed(
        config.with_settings({
            **SETTINGS,
            "privacy.noise": "none",
            "privacy.epsilon": 20.0,
            "schedule.rounds": 1,
        })
    )
    assert there.privacy.noise is None  # the server adds it
    *_, last = run(there, tmp_path / "run", courier=Federation(there, own(files[:4])))
    assert 19 < last.epsilon <= 20 and last.epsilon != spent(1.0, 3 / 7, 1, None, 1e-5)


def test_noise_of_a_nodes_own_secret_is_no_other_nodes_and_no_other_orders(config, files):
    """The clip is so small that only noise is left of an update; a secret has no seed, so the bound is wide."""
    there = agreed(
        config.with_settings({
            **SETTINGS, "privacy.mechanism": "local", "privacy.seed": "secret", "privacy.clip": 1e-9
        })
    )  # fmt: skip
    node = build_node(there, own(files)[0])
    state = node.algorithm.init(node.task.init())
    order = node.algorithm.plan(state, [0], node.key)[0]
    name = next(iter(order.weights))
    other = replace(order, weights={**order.weights, name: order.weights[name] + 1})

    def noise_of(order, known, node=node):
        message = Assignment(
            order=encode_order(order), start=b"", evaluates=False, personalized=False, measures=False
        )
        answer, known = node.answer(0, encode_message(message), known)
        values = decode_reply(decode_message(answer).reply, order).payload.values
        return torch.cat([(values[n] - order.weights[n]).double().flatten() for n in order.trained]), known

    first, known = noise_of(order, None)
    again, _ = noise_of(order, known, build_node(there, own(files)[0]))  # in a new process
    assert torch.equal(first, again) and first.abs().max() > 0
    assert NodeMemory.read(known).secret not in there.dump().encode()
    for found, _ in (noise_of(other, known), noise_of(order, None)):
        assert abs(torch.corrcoef(torch.stack([first, found]))[0, 1]) < 6 / len(first) ** 0.5 < 1


class Overheard(Federation):
    """Keeps all that clients have known, between any two messages."""

    def exchange(self, letters, seconds):
        self.memories = getattr(self, "memories", [])
        for delivery in super().exchange(letters, seconds):
            self.memories.append(NodeMemory.read(self.known[delivery.client]))
            yield delivery


def test_secrets_of_noise_and_masks_are_in_no_answer_no_file_and_no_line(
    config, files, tmp_path, capfd, caplog
):
    settings = {**SETTINGS, **MASKED, "privacy.mechanism": "local", "privacy.seed": "secret"}
    there = agreed(config.with_settings({**settings, "schedule.clients_per_round": 7}))
    courier = Overheard(there, own(files))
    with caplog.at_level(logging.DEBUG):
        list(run(there, tmp_path / "run", courier=courier))
    noise = {memory.secret for memory in courier.memories if memory.secret}
    parties = [decode_party(memory.party) for memory in courier.memories if memory.party]
    masks = {
        secret
        for party in parties
        for secret in (party.seed, party.masking.private_bytes_raw(), party.sealing.private_bytes_raw())
    }
    assert len(noise) == len(files) and len(masks) == 3 * 3 * len(files)  # of each client, and round
    written = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    told = "".join([*capfd.readouterr(), caplog.text]).encode()
    for secret in noise | masks:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert not any(form in data for data in (*courier.answers, *written, told))


def test_nodes_that_trust_nobody_tell_no_metrics_and_no_numbers_of_examples(config, files, tmp_path):
    there = agreed(config.with_settings({**SETTINGS, "schedule.personalized": True}))
    for settings, reticent in (({}, False), ({"privacy.mechanism": "local"}, True)):
        asked = there.with_settings(settings)
        courier = Federation(asked, own(files))
        list(run(asked, tmp_path / str(reticent), courier=courier))
        told = reports(courier)
        assert len(told) >= 3
        for report in told:
            assert (report.generalized is None) == (report.personalized is None) == reticent
            assert report.examples == 1 and (report.loss == 0) == reticent
        question = encode_question(Question(client=0, key=Key(0), features=16))
        present, sums = (
            decode_message(courier.nodes[0].answer(0, asked, None)[0])
            for asked in (encode_message(RollCall()), question)
        )
        assert isinstance(present, Present) and (present.examples == 1) == reticent
        assert isinstance(sums, Refusal) == reticent


def test_who_comes_late_takes_no_part_and_a_run_goes_on_with_those_it_began_with(config, files, tmp_path):
    there = agreed(config.with_settings(SETTINGS))
    few, everybody = Federation(there, own(files[:4])), Federation(there, own(files))
    began = run(there, tmp_path / "run", courier=few)
    assert next(began).clients == 4
    next(began)
    few.nodes = everybody.nodes
    next(began)
    began.close()
    others = Federation(there, own(files, {0, 1, 2, 5}))
    with pytest.raises(
        CheckpointError, match=r"other clients enrolled.*client 3 is gone.*put their nodes back"
    ):
        list(run(there, tmp_path / "run", resume=True, courier=others))
    list(run(there, tmp_path / "run", resume=True, courier=everybody))
    assert all({0, 1, 2, 3}.issuperset(asked_in(line)) for line in read_rounds(tmp_path / "run"))
    list(run(there, tmp_path / "whole", courier=Federation(there, own(files[:4]))))
    assert equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_fewer_nodes_than_a_round_asks_are_refused(config, files, tmp_path):
    there = agreed(config.with_settings(SETTINGS))
    with pytest.raises(ConfigError, match="3 clients a round asked for; there are 2"):
        next(run(there, tmp_path / "run", courier=Federation(there, own(files[:2]))))


def test_an_engine_has_a_node_for_each_client_that_keeps_secrets(config, tmp_path):
    few = config.with_settings({**MASKED, "privacy.mechanism": "none", "runtime.nodes": 2})
    with pytest.raises(ConfigError, match=r"runtime\.nodes is 2.*each of the 6 clients needs a node"):
        next(run(few, tmp_path / "run"))
