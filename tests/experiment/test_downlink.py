"""The ledger of a run counts what the codec writes for what each client is sent, and survives a resume."""

from __future__ import annotations

import json

import pytest
import torch

from spry.core.errors import ConfigError
from spry.experiment import log
from spry.experiment.build import build
from spry.experiment.config import read_config
from spry.experiment.run import resume, run
from spry.federated.replay.catch_up import receive
from spry.federated.replay.downlink import Downlink
from spry.runtime import client_runner
from spry.runtime.rounds import simulate
from spry.wire.codec import decode_reply, encode_order, encode_reply
from spry.wire.frame import Kind, read_kind

MODES = {
    "weights": {"method.name": "fedfgd"},
    "slices": {"method.name": "spry"},
    "head fixed": {"method.name": "fedavg", "step_factors.head": 0.0},
    "slopes": {"method.name": "spry", "method.send": "slopes", "server.send": "slopes"},
    "averaged": {"method.name": "baffle", "server.send": "slopes", "server.ema": 0.5},
    "per-iteration": {"method.name": "spry_per_iteration", "server.send": "slopes"},
}


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 8\n'
        "[schedule]\nrounds = 6\nclients_per_round = 3\nevaluate_every = 9\ncheckpoint_every = 2\n"
        "[client]\nsteps = 2\nbatch_size = 4\n"
    )
    return read_config(path)


@pytest.mark.parametrize("mode", MODES)
def test_the_ledger_is_the_length_of_the_messages(mode, config, monkeypatch):
    experiment = build(config.with_settings(MODES[mode]))
    algorithm, down = experiment.algorithm, experiment.downlink
    start, known, sent, replied = algorithm.init(experiment.task.init()), {}, [], []

    def send(state, orders, key):
        write = down.send(state, orders, key)

        def kept(client):
            data = write(client)
            sent.append(data)
            got, known[client] = receive(data, algorithm, known.get(client, start))
            assert all(torch.equal(got.weights[n], state.weights[n]) for n in state.weights)
            assert len(data) <= len(encode_order(orders[client]))
            return data

        return kept

    def replies(reply, order):
        data = encode_reply(reply, order)
        replied.append(data)
        assert len(encode_reply(decode_reply(data, order, algorithm.slopes_exact), order)) == len(data)
        return data

    monkeypatch.setattr(client_runner, "encode_reply", replies)
    rounds = list(
        simulate(
            algorithm,
            experiment.task,
            experiment.clients,
            key=experiment.key,
            rounds=6,
            clients_per_round=3,
            evaluate_every=9,
            downlink=Downlink(send=send, absorb=down.absorb),
        )
    )
    records = [record for round in rounds for record in round.clients]
    assert [record.bytes_down for record in records] == [len(data) for data in sent]
    assert [record.bytes_up for record in records] == [len(data) for data in replied]
    assert any(read_kind(data) is Kind.CATCH_UP for data in sent) == ("server.send" in MODES[mode])


@pytest.mark.parametrize("mode", ["slopes", "head fixed"])
def test_a_resumed_run_sends_what_the_whole_run_sends(mode, config, tmp_path):
    config = config.with_settings(MODES[mode])
    list(run(config, tmp_path / "whole"))
    going = run(config, tmp_path / "cut")
    for _ in range(4):
        next(going)
    going.close()
    list(resume(tmp_path / "cut"))
    bytes_down = [
        [[client["bytes_down"] for client in entry["clients"]] for entry in log.read_rounds(tmp_path / name)]
        for name in ("whole", "cut")
    ]
    assert bytes_down[0] == bytes_down[1]
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["bytes_down_per_client_round"] < len_of_weights(config)


def len_of_weights(config):
    experiment = build(config)
    state = experiment.algorithm.init(experiment.task.init())
    return len(encode_order(experiment.algorithm.plan(state, [0], experiment.key)[0]))


def test_methods_without_slopes_are_refused_before_anything_runs(config, tmp_path):
    for name in ("fedavg", "spry", "local"):
        chosen = config.with_settings({"method.name": name, "server.send": "slopes"})
        with pytest.raises(ConfigError, match=r"method\.send = 'slopes'"):
            next(run(chosen, tmp_path / name))
