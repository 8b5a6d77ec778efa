"""Private runs on a tiny model: settings that do not fit, epsilon in every record, the same bits after a stop."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from spry.core.errors import CheckpointError, ConfigError, PrivacyError
from spry.core.keys import Key
from spry.experiment import checkpoint
from spry.experiment.build import build, check_settings
from spry.experiment.config import read_config
from spry.experiment.log import read_rounds
from spry.experiment.privacy_budget import spending
from spry.experiment.run import resume, run
from spry.federated.privacy.accounting import spent


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'base = "plain"\n[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 6\n'
        "[schedule]\nrounds = 4\nclients_per_round = 3\nevaluate_every = 4\ncheckpoint_every = 1\n"
        '[client]\nsteps = 1\nbatch_size = 4\n[method]\nname = "fedavg"\n'
        '[privacy]\nmechanism = "central"\nclip = 0.1\nnoise = 1.0\n'
    )
    return read_config(path)


def weights(folder):
    return load_file(folder / checkpoint.CHECKPOINT_FILE)


def test_epsilon_stands_in_every_record_and_a_stopped_run_ends_with_the_same_bits(config, tmp_path):
    list(run(config, tmp_path / "whole"))
    list(islice(run(config, tmp_path / "parts"), 3))
    list(resume(tmp_path / "parts"))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    told = [entry["epsilon"] for entry in read_rounds(tmp_path / "parts")]
    assert told == [spent(1.0, 0.5, r, None, 1e-5) for r in (1, 2, 3, 4)]
    summary = json.loads((tmp_path / "parts" / "summary.json").read_text())
    assert summary["privacy"] == {
        "mechanism": "central", "unit": "client", "epsilon": told[-1], "delta": 1e-5, "noise": 1.0
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"method.name": "spry_per_iteration", "method.num_directions": 4, "privacy.unit": "example",
         "peft.exact": "nothing"},
        {"method.name": "spry_per_iteration", "method.num_directions": 4, "privacy.exact_clip": 0.2},
        {"method.name": "residual", "privacy.mechanism": "local", "step_factors.head": 0},
    ],
)  # fmt: skip
def test_slopes_examples_and_clients_that_trust_nobody(settings, config, tmp_path):
    *_, last = run(config.with_settings(settings), tmp_path / "run")
    assert 0 < last.epsilon < 50
    assert all(bool(torch.isfinite(value).all()) for value in last.weights.values())


def test_a_head_in_closed_form_spends_its_share(config, tmp_path):
    settings = {
        "head.start": "closed-form", "privacy.noise": "none", "privacy.epsilon": 8.0, "privacy.head_clip": 1.0,
        "schedule.rounds": 2, "method.name": "residual",
    }  # fmt: skip
    *_, last = run(config.with_settings(settings), tmp_path / "run")
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["privacy"]
    assert spent(0.0, 1.0, 0, told["head_noise"], 1e-5) == pytest.approx(2.0, rel=0.01)
    assert last.epsilon == spent(told["noise"], 0.5, 2, told["head_noise"], 1e-5) <= 8.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"privacy\.head_clip is unset"),
        ({"privacy.head_clip": 1.0, "head.clients": 3}, r"head\.clients"),
        ({"privacy.head_clip": 1.0, "privacy.mechanism": "local"}, r"head\.start=drawn"),
    ],
)
def test_a_head_whose_sums_would_not_be_private_is_refused(settings, told, config):
    with pytest.raises(ConfigError, match=told):
        build(config.with_settings({"head.start": "closed-form", **settings}))


def test_a_secret_seed_gives_other_noise_each_time(config, tmp_path):
    secret = config.with_settings({"privacy.seed": "secret", "schedule.rounds": 1})
    first, second = (next(islice(run(secret, tmp_path / name), 1, None)).weights for name in "ab")
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_noise_follows_from_the_budget_and_the_rounds_which_then_stay(config, tmp_path):
    planned = config.with_settings({"privacy.noise": "none", "privacy.epsilon": 20.0, "schedule.rounds": 1})
    *_, last = run(planned, tmp_path / "run")
    assert 19 < last.epsilon <= 20
    with pytest.raises(CheckpointError, match="a run keeps their number"):
        list(run(planned.with_settings({"schedule.rounds": 2}), tmp_path / "run", resume=True))


def test_a_run_made_longer_than_its_budget_is_refused(config, tmp_path):
    enough = spent(1.0, 0.5, 4, None, 1e-5)
    bounded = config.with_settings({"privacy.epsilon": enough})
    list(run(bounded, tmp_path / "run"))
    with pytest.raises(PrivacyError, match=r"round 5 would bring epsilon.*Keep the 4 rounds"):
        list(run(bounded.with_settings({"schedule.rounds": 5}), tmp_path / "run", resume=True))


def test_local_noise_counts_the_rounds_of_whoever_is_asked_most(config):
    local = config.with_settings({"privacy.mechanism": "local"})
    counted = spending(local, range(6), 3, Key(0))
    assert list(counted.releases or ()) == sorted(counted.releases or ()) and counted.releases[-1] <= 4
    assert counted.epsilon(4) == spent(1.0, 1.0, counted.releases[-1], None, 1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"privacy.clip": "none"}, r"privacy\.clip is unset"),
        ({"privacy.noise": "none"}, r"privacy\.epsilon and privacy\.noise are both unset"),
        ({"privacy.unit": "example", "client.steps": 2}, r"client\.steps=1"),
        ({"privacy.unit": "example"}, r"fedavg cannot bound.*spry_per_iteration"),
        ({"privacy.seed": "secret", "schedule.checkpoint_every": 5}, r"checkpoint_every=1"),
        ({"runtime.over_select": 1}, r"runtime\.over_select=0"),
        ({"method.name": "fwdllm"}, "fwdllm needs more of replies"),
        ({"method.name": "spry_per_iteration", "server.send": "slopes"}, r"server\.send = 'weights'"),
        ({"method.name": "spry_per_iteration", "client.steps": "none"}, r"client\.steps"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_loaded(settings, told, config):
    with pytest.raises(ConfigError, match=told):
        check_settings(config.with_settings(settings))


def test_a_budget_below_its_noise_is_refused_at_the_start(config):
    with pytest.raises(PrivacyError, match="round 1 would bring epsilon from 0 to"):
        build(config.with_settings({"privacy.epsilon": 0.5}))


def test_a_run_under_secure_aggregation_is_the_plain_one_but_for_rounding(config, tmp_path):
    hidden = config.with_settings({
        "privacy.mechanism": "none",
        "privacy.secure_aggregation": True,
        "privacy.bits": 64,
        "schedule.rounds": 1,
        "server.optimizer": "sgd",
        "server.lr": 1.0,
    })
    *_, last = run(hidden, tmp_path / "hidden")
    assert last.epsilon is None and all(record.failed is None for record in last.clients)
    assert all(record.bytes_up > 1000 for record in last.clients)
    noisy = hidden.with_settings({
        "privacy.mechanism": "central",
        "privacy.noise": 0.5,
        "schedule.clients_per_round": 6,
    })
    *_, last = run(noisy, tmp_path / "noisy")
    assert last.epsilon == spent(0.5, 1.0, 1, None, 1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method.name": "fwdllm"}, "fwdllm needs more of replies"),
        ({"method.split": [0.5, 1.0], "method.name": "spry"}, "method.split has the budgets"),
        ({"runtime.over_select": 1}, r"runtime\.over_select=0"),
    ],
)
def test_what_cannot_be_aggregated_securely_is_refused(settings, told, config):
    hidden = {"privacy.mechanism": "none", "privacy.secure_aggregation": True}
    with pytest.raises(ConfigError, match=told):
        check_settings(config.with_settings({**hidden, **settings}))
