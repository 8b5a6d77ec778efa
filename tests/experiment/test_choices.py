"""What is trained and how its gradient is estimated, chosen in the configuration."""

from __future__ import annotations

import json
from itertools import product

import pytest
import torch

from spry.cli.progress import opening
from spry.core.errors import ConfigError
from spry.experiment.build import PEFT, build
from spry.experiment.config import Config
from spry.experiment.run import run

SMALL = {
    "data.clients": 4,
    "schedule.rounds": 2,
    "schedule.clients_per_round": 2,
    "client.steps": 1,
    "model.max_length": 16,
}


@pytest.fixture
def config(tiny_model, tiny_csv) -> Config:
    return Config().with_settings({**SMALL, "model.name": str(tiny_model), "data.name": str(tiny_csv)})


MAPS = ["lora", "lora_a", "lora_xs"]


@pytest.mark.parametrize(
    ("kind", "estimator"), [*product(PEFT, ["auto", "weight"]), *product(MAPS, ["activation"])]
)
def test_every_kind_with_every_estimator(config, kind, estimator, tmp_path):
    config = config.with_settings({"peft.kind": kind, "method.estimator": estimator})
    *_, last = run(config, tmp_path)
    assert last.number == 1
    assert json.loads((tmp_path / "rounds.jsonl").read_text().splitlines()[-1])["failed_replies"] == 0


@pytest.mark.parametrize("kind", [kind for kind in PEFT if kind not in MAPS])
def test_weights_that_are_no_maps_have_no_outputs_to_move(config, kind, tmp_path):
    config = config.with_settings({"peft.kind": kind, "method.estimator": "activation"})
    with pytest.raises(ConfigError, match=f"'{kind}' trains no maps.*'weight' or 'auto'"):
        list(run(config, tmp_path))


def test_slopes_of_activation_directions_cannot_be_all_that_is_sent(config, tmp_path):
    config = config.with_settings({"method.estimator": "activation", "method.slopes_only": True})
    with pytest.raises(ConfigError, match="slopes_only = false"):
        list(run(config, tmp_path))


@pytest.mark.parametrize("control", ["previous", "guided"])
def test_control_variates_run_and_resume(config, control, tmp_path):
    chosen = {"method.name": "spry_per_iteration", "method.control_variate": control, "method.count": 2}
    config = config.with_settings({**chosen, "schedule.checkpoint_every": 1})
    *_, whole = run(config, tmp_path / "whole")
    going = run(config, tmp_path / "cut")
    for _ in range(2):
        next(going)
    going.close()
    *_, resumed = run(config, tmp_path / "cut", resume=True)
    assert all(torch.equal(whole.state.weights[n], resumed.state.weights[n]) for n in whole.state.weights)


def test_a_guard_goes_before_the_client_s_optimizer(config, tmp_path):
    with pytest.raises(ConfigError, match=r"client.lr is missing: client.guard"):
        list(run(config.with_settings({"client.guard": 5.0}), tmp_path / "refused"))
    *_, last = run(
        config.with_settings({"client.guard": 1.0, "client.lr": 1e-3, "client.steps": 3}), tmp_path / "a"
    )
    *_, plain = run(config.with_settings({"client.lr": 1e-3, "client.steps": 3}), tmp_path / "b")
    assert any(not torch.equal(last.state.weights[n], plain.state.weights[n]) for n in last.state.weights)


def test_auto_says_what_it_chose(config, tmp_path):
    config = config.with_settings({"peft.kind": "lora_a", "method.estimator": "auto"})
    started, *_ = run(config, tmp_path)
    told = json.loads((tmp_path / "summary.json").read_text())["auto"]
    assert started.auto == told
    assert told["maps"] == 4
    assert 0 <= told["tapped"] <= 4
    assert told["error_of_weight_directions"] == 16
    assert told["error_of_activation_directions"] > 0
    assert "auto: activation directions for" in opening("spry", started)


def test_budgets_shape_the_slices_of_a_run(config, tmp_path):
    config = config.with_settings({"method.budgets": [0.3, 1.0], "schedule.rounds": 1})
    *_, last = run(config, tmp_path)
    sizes = {unit.name: unit.size for unit in build(config).algorithm.units if not unit.head}
    held = {client.client: sum(sizes.get(unit, 0) for unit in client.units) for client in last.clients}
    assert all(load <= (0.3, 1.0)[client % 2] * sum(sizes.values()) for client, load in held.items())
    assert sum(held.values()) > 0
