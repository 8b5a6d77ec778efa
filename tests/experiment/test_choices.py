"""What is trained and how its gradient is estimated, chosen in the configuration."""

from __future__ import annotations

import json

import pytest
import torch

from spry.core.errors import ConfigError
from spry.core.plugins import load_plugins
from spry.experiment.build import build
from spry.experiment.config import Config
from spry.experiment.run import run
from spry.models.adapters import ADAPTERS

load_plugins()
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


def last_weights(config, folder):
    *_, last = run(config, folder)
    return last.state.weights


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_adapter_is_trained(config, kind, tmp_path):
    *_, last = run(config.with_settings({"peft.kind": kind}), tmp_path)
    assert last.number == 1
    assert json.loads((tmp_path / "rounds.jsonl").read_text().splitlines()[-1])["failed_replies"] == 0


@pytest.mark.parametrize(
    ("settings", "vain"),
    [
        ({"peft.kind": "dora", "peft.rank_pattern": {"query": 2}, "peft.targets": ["query"]}, []),
        ({"peft.kind": "ia3", "peft.rank_pattern": {"query": 2}, "peft.rank": 8}, ["peft.rank_pattern"]),
        (
            {"peft.kind": "norm", "peft.dropout": 0.1, "peft.alpha_pattern": {"a": 2}},
            ["peft.alpha_pattern", "peft.dropout"],
        ),
    ],
)
def test_settings_that_a_kind_has_no_use_for_are_said(config, settings, vain):
    notes = [
        note for note in build(config.with_settings(settings)).notes if "has no effect with peft.kind" in note
    ]
    assert [note.split(" = ")[0] for note in notes] == vain


def test_an_unknown_adapter_names_the_nearest(config, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'lora'"):
        next(run(config.with_settings({"peft.kind": "lroa"}), tmp_path))


@pytest.mark.parametrize(
    "chosen",
    [
        {"method.name": "spry_activation", "peft.kind": "lora_a"},
        {"method.name": "spry_control_variate", "method.num_directions": 2, "method.variate": "guided"},
    ],
)
def test_plugins_run_and_resume(config, chosen, tmp_path):
    config = config.with_settings({**chosen, "schedule.checkpoint_every": 1})
    whole = last_weights(config, tmp_path / "whole")
    going = run(config, tmp_path / "cut")
    for _ in range(2):
        next(going)
    going.close()
    *_, resumed = run(config, tmp_path / "cut", resume=True)
    assert all(torch.equal(whole[n], resumed.state.weights[n]) for n in whole)


CHANGES = {
    "num_directions": ({}, {"method.num_directions": 3}),
    "split": ({}, {"method.split": "everything"}),
    "exact": ({}, {"peft.exact": "nothing"}),
    "last_block": ({}, {"peft.exact": "last_block"}),
    "clip": ({"method.name": "spry"}, {"client.clip": 1e-3}),
    "fd_step": ({"method.name": "fedmezo"}, {"method.fd_step": 0.1}),
    "candidates": ({"method.name": "fwdllm", "method.threshold": 1e9}, {"method.candidates": 2}),
    "threshold": ({"method.name": "fwdllm", "method.threshold": 1e9}, {"method.threshold": 1e-12}),
    "clients_step": ({"method.name": "head_only"}, {"method.clients_step": False}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_reaches_the_weights(config, name, tmp_path):
    """Two runs that differ in this setting alone end elsewhere."""
    before, after = CHANGES[name]
    base = config.with_settings({"method.name": "spry_per_iteration", "schedule.rounds": 3}).with_settings(
        before
    )
    ends = [last_weights(base.with_settings(more), tmp_path / str(len(more))) for more in ({}, after)]
    assert any(not torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


@pytest.mark.parametrize(
    "chosen",
    [{"method.name": "spry", "method.send": "slopes"}, {"method.name": "fedavg", "method.checkpoint": False}],
)
def test_what_only_costs_less_leads_to_the_same_weights(config, chosen, tmp_path):
    plain = {"method.name": chosen["method.name"]}
    first, second = (
        last_weights(config.with_settings(own), tmp_path / name)
        for name, own in (("plain", plain), ("chosen", chosen))
    )
    for n, w in first.items():
        torch.testing.assert_close(w, second[n], rtol=1e-5, atol=1e-7)


def test_budgets_shape_the_slices_of_a_run(config, tmp_path):
    config = config.with_settings({"method.split": [0.3, 1.0], "schedule.rounds": 1})
    *_, last = run(config, tmp_path)
    sizes = {unit.name: unit.size for unit in build(config).algorithm.units if not unit.head}
    held = {client.client: sum(sizes.get(unit, 0) for unit in client.units) for client in last.clients}
    assert all(load <= (0.3, 1.0)[client % 2] * sum(sizes.values()) for client, load in held.items())
    assert sum(held.values()) > 0
