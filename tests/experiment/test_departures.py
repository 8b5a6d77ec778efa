"""A run names its recipe and every setting in which it departs from it."""

from __future__ import annotations

import pytest

from spry.experiment.config import Config, load_config, read_config
from spry.experiment.departures import comparison_lines, departures, recipe_lines


@pytest.mark.parametrize("name", ["spry", "head_only", "head_only_block", "fedavg", "fwdllm"])
def test_the_recipe_itself_departs_in_nothing(name):
    assert recipe_lines(load_config("quickstart", [f"method.name={name}"])) == ["recipe quickstart"]


def test_what_it_runs_on_is_no_departure():
    settings = ["data.name=a.csv", "data.clients=3", "model.name=gpt2", "model.device=cuda", "seed=3"]
    assert recipe_lines(load_config("quickstart", settings)) == ["recipe quickstart"]


def test_departures_are_named_with_what_the_recipe_says():
    config = load_config("quickstart", ["client.lr=2e-3", "schedule.rounds=24", "client.clip=1"])
    assert departures(config) == {
        "client.lr": (0.002, 0.001),
        "client.clip": (1.0, None),
        "schedule.rounds": (24, 16),
    }
    assert recipe_lines(config) == [
        "recipe quickstart, but client.lr = 0.002 (0.001), client.clip = 1 (none), schedule.rounds = 24 (16)"
    ]


def test_options_of_a_task_are_departures_where_they_are_not_the_tasks_own():
    named = ["task.name=question-answering"]
    assert recipe_lines(load_config("quickstart", named)) == [
        "recipe quickstart, but task.name = question-answering (auto)"
    ]
    assert recipe_lines(load_config("quickstart", [*named, "task.threshold=0.5"])) == [
        "recipe quickstart, but task.name = question-answering (auto), task.threshold = 0.5 (0)"
    ]


def test_step_sizes_by_group_and_their_decay_are_departures():
    settings = ["step_factors.head=0.1", "step_factors.body=0", "schedule.decay=linear"]
    assert recipe_lines(load_config("quickstart", settings)) == [
        "recipe quickstart, but step_factors.head = 0.1 (auto), step_factors.body = 0 (1), "
        "schedule.decay = linear (none)"
    ]
    assert recipe_lines(load_config("quickstart", ["schedule.decay=none"])) == ["recipe quickstart"]


def test_many_departures_have_a_line_for_each_table():
    settings = ["client.lr=2e-3", "client.steps=4", "schedule.rounds=24", "peft.rank=4", "peft.alpha=2"]
    assert recipe_lines(load_config("quickstart", settings)) == [
        "recipe quickstart, but",
        "  peft.rank = 4 (16), peft.alpha = 2 (4)",
        "  client.lr = 0.002 (0.001), client.steps = 4 (2)",
        "  schedule.rounds = 24 (16)",
    ]


def test_a_method_without_settings_in_the_recipe_is_named():
    assert recipe_lines(load_config("quickstart", ["method.name=local"]))[1].startswith(
        "local: the recipe has no step"
    )
    assert recipe_lines(Config()) == ["recipe plain"]


def test_a_comparison_names_what_all_share_once():
    config = read_config("quickstart", ["schedule.rounds=2", "methods.fedavg.client.lr=0.5"])
    runs = {name: config.for_method(name, 0) for name in ("spry", "head_only_block", "fedavg", "local")}
    assert comparison_lines(runs) == [
        "recipe quickstart, but schedule.rounds = 2 (16)",
        "recipe of fedavg, but client.lr = 0.5 (0.001)",
        "local: the recipe has no step sizes; the method's own are taken",
    ]
