"""Whole runs some of whose clients lie: the server's rule decides what that does to adapters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.robust import lying
from benchmarks.robust_adapters import Clients

from spry.experiment.config import read_config
from spry.experiment.node import build_node
from spry.experiment.run import run

SETTINGS = {
    "method.name": "fedavg", "head.start": "drawn", "model.max_length": 16, "client.steps": 2, "client.batch_size": 4,
    "client.lr": 0.01, "schedule.rounds": 1, "schedule.clients_per_round": 10, "schedule.evaluate_every": 1,
    "schedule.personalized": False, "data.partition": "iid", "data.clients": 10, "runtime.name": "flower",
    "runtime.nodes": 1,
}  # fmt: skip


@pytest.fixture
def learnt(tiny_model, tiny_csv, tmp_path):
    """What a run has changed, as one vector; clients 0 and 5 of ten multiply their updates."""
    own = {"model.name": str(tiny_model), "data.name": str(tiny_csv), "data.test": str(tiny_csv)}
    node = build_node(read_config("plain", {**SETTINGS, **own}), {})
    start = node.task.init()

    def change(factor, **settings):
        given = {f"server.{name}": value for name, value in settings.items()}
        config, folder = read_config("plain", {**SETTINGS, **own, **given}), tmp_path / f"{factor} {settings}"
        clients = Clients(replace(node, algorithm=lying(node.algorithm, factor)), {})
        *_, last = run(config, folder, courier=clients)
        assert all(client.failed is None for client in last.clients)
        return torch.cat([(last.state.weights[name] - value).flatten() for name, value in start.items()])

    return change


def cosine(left, right):
    return float(torch.cosine_similarity(left, right, dim=0))


def test_two_liars_of_ten_turn_a_run_around_and_not_by_a_robust_rule(learnt):
    honest, lied = learnt(1.0), learnt(-20.0)
    assert cosine(honest, lied) < 0
    for rule in ({"aggregate": "median"}, {"aggregate": "trimmed-mean", "trim": 0.2}):
        assert cosine(honest, learnt(-20.0, **rule)) > 0.5, rule
    clipped = learnt(-20.0, clip=0.05)
    assert cosine(honest, clipped) > 0.2 and clipped.norm() < 0.05 < lied.norm()
