"""The paper's hyperparameters, number by number, and settings that have to reach the task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.laws import problem
from tests.laws.test_methods import BUILT_IN

from spry.compare.fairness import check_fairness
from spry.core.keys import Key
from spry.experiment.build import build
from spry.experiment.config import read_config
from spry.experiment.method import build_algorithm
from spry.optim.rules import adamw

ROOT = Path(__file__).parents[2]
PAPER = {
    "model.max_length": 64, "model.dropout": True, "peft.kind": "lora", "peft.rank": 1, "peft.alpha": 1.0,
    "peft.dropout": 0.1, "peft.targets": [], "data.partition": "dirichlet", "data.alpha": 1.0, "data.clients": 100,
    "data.held_out": 0.2, "method.name": "spry", "method.num_directions": 1, "peft.exact": "nothing",
    "method.split": "cyclic",
    "client.optimizer": "adamw", "client.lr": 1e-4, "client.batch_size": 8, "client.epochs": 1, "client.steps": None,
    "server.optimizer": None, "schedule.clients_per_round": 10,
}  # fmt: skip


@pytest.mark.parametrize("key", PAPER)
def test_paper(key):
    assert read_config("paper").flat()[key] == PAPER[key]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_can_be_set_up_from_it(name):
    algorithm = build_algorithm(read_config("paper").for_method(name, 0), problem.UNITS)
    assert algorithm.name == name and algorithm.plan(
        algorithm.init(problem.weights()), [0, 1], Key(0)
    ).keys() == {0, 1}


def test_the_client_optimizer_is_adamw():
    """One step of one client along one direction is AdamW's step of 1e-4 by its rule, worked by hand."""
    config = read_config("paper").with_settings({
        "method.name": "fedavg",
        "server.optimizer": "sgd",
        "server.lr": 1.0,
    })
    algorithm = build_algorithm(config, problem.UNITS)
    state = algorithm.init(problem.weights())
    order = algorithm.plan(state, [0], Key(0))[0]
    reply = algorithm.train(problem.loss_of, order, [problem.batch(0)], 1).reply
    gradient = problem.gradient(problem.ProblemLoss(problem.batch(0)), problem.weights())
    updates, _ = adamw(1e-4).update(gradient, adamw(1e-4).init(gradient), problem.weights())
    for n, w in problem.weights().items():
        torch.testing.assert_close(reply.payload.values[n], w + updates[n], rtol=1e-9, atol=1e-12)


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


def test_the_quickstart_has_the_step_sizes_that_were_tuned():
    """From untrained heads: on tweets, its own data, where that was tried, else on SST-2.

    AdamW's on clients at rank 16 are a tenth of what was tuned then: a head in closed form bears no more.
    """
    sets = json.loads((ROOT / "research" / "results" / "untrained_heads.json").read_text())["sets"]
    tried = [sets["sst2"]["alpha-1"], sets["tweets"]["alpha-1"]]
    tried += [sets["sst2"]["alpha-1-rank-16"], sets["tweets"]["alpha-1-rank-16"]]
    ranks = [1, 1, 16, 16]
    called = {"fedsgd_adam": "fedsgd", "spry_block": "spry", "spry_block_adam": "spry_per_iteration"}
    own = {"fedavg", "head_only_block", "fedyogi", "fedfgd", "fedmezo", "baffle", "fwdllm"}
    chosen = {
        called.get(row, row): {"peft.rank": rank, **tuned["chosen"]}
        for rank, result in zip(ranks, tried, strict=True)
        for row, tuned in result["tuning"]["methods"].items()
        if row in called or row in own
    }
    assert chosen.keys() == {*called.values(), *own}
    config = read_config("quickstart")
    for name, settings in chosen.items():
        flat = config.for_method(name, 0).flat()
        if name in {"fedavg", "head_only_block", "spry"}:
            settings = {**settings, "client.lr": settings["client.lr"] / 10}
        assert {key: flat[key] for key in settings} == pytest.approx(settings), name
    check_fairness({name: config.for_method(name, 0) for name in config.methods})
