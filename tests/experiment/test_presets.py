"""The paper's hyperparameters, number by number, and settings that have to reach the task."""

from __future__ import annotations

import pytest
import torch

from spry.experiment.build import build, settings
from spry.experiment.config import read_config
from spry.federated.methods import METHODS
from spry.optim.rules import adamw

PAPER = {
    "model.max_length": 64, "model.dropout": True, "peft.kind": "lora", "peft.rank": 1, "peft.alpha": 1.0,
    "peft.dropout": 0.1, "peft.targets": [], "data.partition": "dirichlet", "data.alpha": 1.0, "data.clients": 100,
    "data.held_out": 0.2, "method.name": "spry", "method.count": 1, "method.directions": "gaussian",
    "method.exact_head": False, "method.sleep": False, "method.split": "cyclic",
    "client.optimizer": "adamw", "client.lr": 1e-4, "client.batch_size": 8, "client.epochs": 1, "client.steps": None,
    "server.optimizer": None, "schedule.clients_per_round": 10,
}  # fmt: skip


@pytest.mark.parametrize("key", PAPER)
def test_paper(key):
    assert read_config("paper").flat()[key] == PAPER[key]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_set_up_from_it(name):
    assert settings(read_config("paper").for_method(name, 0)).rounds == read_config("paper").schedule.rounds


def test_the_client_optimizer_is_adamw():
    made = settings(read_config("paper")).client
    assert made is not None
    w = {"w": torch.tensor([1.0, -2.0])}
    ours, _ = made.update(w, made.init(w), w)
    theirs, _ = adamw(1e-4).update(w, adamw(1e-4).init(w), w)
    assert ours["w"].equal(theirs["w"])


@pytest.mark.parametrize("dropout", [True, False])
def test_dropout_reaches_the_task(dropout, tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\ndropout = {str(dropout).lower()}\n[peft]\ndropout = 0.3\n'
        f'[data]\nname = "{tiny_csv}"\nclients = 4\n'
    )
    made = build(read_config(path))
    assert made.task.dropout is dropout
    assert any(getattr(m, "p", None) == pytest.approx(0.3) for m in made.task.module.modules())


def test_unit_sizes_are_their_weights(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f'[model]\nname = "{tiny_model}"\n[data]\nname = "{tiny_csv}"\nclients = 4\n')
    task = build(read_config(path)).task
    initial = task.init()
    assert all(unit.size == sum(initial[n].numel() for n in unit.names) for unit in task.units)
