"""What is trained and how its gradient is estimated, chosen in the configuration."""

from __future__ import annotations

import json
import math
from itertools import product

import pytest
import torch
from spry.estimators.predict import Prediction
from spry.experiment.moved import moved

from spry.cli.progress import opening
from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import restrict
from spry.core.units import names_of
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


@pytest.mark.parametrize(
    "other", [{"method.control_variate": "guided", "method.count": 2}, {"method.estimator": "activation"}]
)
def test_a_pool_goes_with_weight_directions_and_no_control_variate(config, other, tmp_path):
    with pytest.raises(ConfigError, match=r"method\.pool = 1"):
        list(run(config.with_settings({"method.pool": 4, **other}), tmp_path))


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


def test_auto_says_so_where_there_are_no_maps(config, tmp_path):
    config = config.with_settings({"peft.kind": "norm", "method.estimator": "auto"})
    started, *_ = run(config, tmp_path)
    assert started.auto == {"maps": 0, "tapped": 0}
    assert "auto: weight directions, for what is trained are no maps" in opening("spry", started)


def test_auto_does_not_predict_for_tied_tokens(config, tmp_path):
    config = config.with_settings({"method.estimator": "auto", "method.tied": True})
    with pytest.raises(ConfigError, match=r"method\.tied = true, set method.estimator = 'activation'"):
        list(run(config, tmp_path))


def test_activation_directions_move_lora_s_a_and_not_its_b(config):
    """B has as many outputs as the model is wide, so moving them errs more than moving B."""
    experiment = build(config.with_settings({"peft.kind": "lora", "method.estimator": "activation"}))
    found = moved(config.with_settings({"method.estimator": "activation"}), experiment.task, True, Key(0))
    body = [unit for unit in experiment.task.units if not unit.head]
    tapped = found.choice(restrict(experiment.task.init(), names_of(body)), 9.0)
    assert len(tapped) == 4
    assert found.amplitudes.keys() == set(tapped)
    assert all("lora_A" in name for name in tapped)


TAPPING = {"peft.kind": "lora_a", "method.estimator": "activation"}
GUIDED = {"method.control_variate": "guided", "method.count": 4}
CHANGES = {
    "amplitudes": (TAPPING, {"method.amplitudes": "equal"}),
    "tied": (TAPPING, {"method.tied": True}),
    "count": ({}, {"method.count": 3}),
    "count_growth": ({"method.count": 2}, {"method.count_growth": 2}),
    "count_max": ({"method.count": 2}, {"method.count_max": 3}),
    "directions": ({"method.count": 2}, {"method.directions": "orthogonal"}),
    "control_variate": ({"method.count": 4}, GUIDED),
    "pool": ({}, {"method.pool": 5}),
    "control_decay": (GUIDED, {"method.control_decay": 0.1}),
    "sleep": ({}, {"method.sleep": False}),
    "exact_head": ({}, {"method.exact_head": False}),
    "estimator": (TAPPING, {"method.estimator": "weight"}),
    "basis": (TAPPING, {"peft.basis": "gradient"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_reaches_the_weights(config, name, tmp_path):
    """Two runs that differ in this setting alone end elsewhere, after as many rounds as means of the past need."""
    before, after = CHANGES[name]
    base = config.with_settings({"method.name": "spry_per_iteration", "schedule.rounds": 4, **before})
    ends = [last_weights(base.with_settings(more), tmp_path / str(len(more))) for more in ({}, after)]
    assert any(not torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


def last_weights(config, folder):
    *_, last = run(config, folder)
    return last.state.weights


@pytest.mark.parametrize("tapped", [True, False])
def test_auto_is_what_it_says_it_chose(config, tapped, tmp_path, monkeypatch):
    """With all maps tapped it is the activation estimator, to the bit, and with none the one of weights."""
    monkeypatch.setattr(Prediction, "limit", math.inf if tapped else 0.0)
    chosen = {"peft.kind": "lora_a", "peft.rank": 2}
    found, wanted = (
        last_weights(config.with_settings({**chosen, "method.estimator": name}), tmp_path / name)
        for name in ("auto", "activation" if tapped else "weight")
    )
    assert all(torch.equal(found[n], wanted[n]) for n in found)


def test_budgets_shape_the_slices_of_a_run(config, tmp_path):
    config = config.with_settings({"method.budgets": [0.3, 1.0], "schedule.rounds": 1})
    *_, last = run(config, tmp_path)
    sizes = {unit.name: unit.size for unit in build(config).algorithm.units if not unit.head}
    held = {client.client: sum(sizes.get(unit, 0) for unit in client.units) for client in last.clients}
    assert all(load <= (0.3, 1.0)[client % 2] * sum(sizes.values()) for client, load in held.items())
    assert sum(held.values()) > 0
