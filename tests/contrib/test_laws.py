"""Plugins are methods like any other: every law of tests/laws/test_methods.py holds for them."""

from __future__ import annotations

import pytest
import torch

from spry.contrib.guided import Guided  # ruff: ignore[unused-import]  # also where it was installed without
from spry.core.plugins import load_plugins
from spry.core.units import GROUPS
from spry.federated.methods import METHODS, find_method
from tests.laws import problem, test_methods, test_step_sizes
from tests.laws.test_methods import VARIANTS, run

PLUGINS = {
    "spry_activation": ("spry_activation", {}),
    "spry_activation, untied": ("spry_activation", {"tied": False}),
    "guided": ("guided", {}),
    "guided, referee": ("guided", {"length": "guess", "referee": True}),
    "spry_control_variate": ("spry_control_variate", {"num_directions": 2}),
    "spry_control_variate, guided": ("spry_control_variate", {"num_directions": 2, "variate": "guided"}),
}
LAWS = [
    test_methods.test_orders_carry_what_the_method_trains_and_nothing_else,
    test_methods.test_two_runs_agree_bit_for_bit,
    test_methods.test_the_order_of_replies_does_not_matter,
    test_methods.test_stopping_and_going_on_changes_nothing,
    test_methods.test_orders_and_state_are_never_written,
    test_methods.test_a_unit_whose_owner_fell_out_keeps_value_and_state,
    test_methods.test_a_client_trains_only_what_it_was_dealt,
    test_methods.test_a_client_without_batches_changes_nothing,
    test_step_sizes.test_a_factor_on_all_groups_is_another_step_size,
    test_step_sizes.test_a_groups_first_step_is_its_factor_times_as_long,
    test_step_sizes.test_with_a_decay_the_steps_are_those_computed_by_hand,
]


@pytest.fixture(autouse=True)
def _plugins(monkeypatch):
    load_plugins()
    for name, variant in PLUGINS.items():
        monkeypatch.setitem(VARIANTS, name, variant)


def test_plugins_are_found_by_their_names():
    assert {find_method(method).name for method, _ in PLUGINS.values()} <= METHODS.keys()


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_laws_hold(law, name):
    law(name)


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("frozen", GROUPS)
def test_a_group_with_factor_0_stays(frozen, name):
    test_step_sizes.test_a_group_with_factor_0_stays_and_is_not_sent_back(name, frozen)


@pytest.mark.parametrize("name", [name for name in PLUGINS if "control" in name])
def test_a_guess_lowers_the_loss_as_without_one(name):
    _, losses, _ = run(name, rounds=40)
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_without_a_guess_yet_the_first_round_is_plain_spry_per_iteration():
    first = run("spry_control_variate", rounds=1)[0]
    plain = run("spry_per_iteration", rounds=1, given={"num_directions": 2})[0]
    assert all(torch.equal(first.weights[n], plain.weights[n]) for n in problem.weights())
