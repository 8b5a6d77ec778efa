"""K that grows over the rounds: replayed, resumed, and told in orders, for every method with directions."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.experiment import checkpoint
from spry.federated.fwdllm import Pacing
from spry.federated.methods import METHODS, method
from spry.federated.settings import Settings
from spry.wire.codec import MOST_CHOICE, decode_order, encode_order
from tests.laws import problem, test_catch_up, test_replay
from tests.laws.test_methods import CLIENTS, run
from tests.laws.test_replay import PROJECTED

PACING = Pacing(attempts=1)
GROWING = {"count": 2, "growth": 2, "phases": 3, "rounds": 3, "pacing": PACING}


@pytest.mark.parametrize("name", METHODS)
def test_only_what_has_directions_changes_and_the_first_phase_is_as_it_was(name):
    fixed, growing = ({**GROWING, "growth": growth} for growth in (1, 2))
    for rounds, equal in ((1, True), (2, name not in PROJECTED)):
        left, right = (run(name, rounds=rounds, settings=Settings(**s))[0] for s in (fixed, growing))
        assert all(torch.equal(left.weights[n], right.weights[n]) for n in left.weights) == equal


@pytest.mark.parametrize("name", PROJECTED)
def test_slopes_have_the_columns_that_the_order_asks_for_and_are_enough(name):
    full, _ = test_replay.rounds(name, slopes_only=False, **GROWING)
    sent, last = test_replay.rounds(name, slopes_only=True, wire=True, **GROWING)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)
    for order, reply in last:  # of the third phase
        assert order.choices["count"] == reply.payload.slopes.shape[1] == 8
        assert decode_order(encode_order(order), order.weights).choices == order.choices


@pytest.mark.parametrize("name", PROJECTED)
def test_a_growing_count_is_the_fixed_one_of_its_phase(name):
    """From one state, round 2 of 1, 2, 4 is round 2 of a fixed 4."""
    state = run(name, rounds=2, settings=Settings(**{**GROWING, "count": 1}))[0]
    grown = run(name, settings=Settings(**{**GROWING, "count": 1}), state=state)[0]
    fixed = run(name, settings=Settings(count=4, pacing=PACING, rounds=3), state=state)[0]
    assert all(torch.equal(grown.weights[n], fixed.weights[n]) for n in grown.weights)


@pytest.mark.parametrize("name", PROJECTED)
def test_clients_that_skipped_rounds_catch_up(name):
    sent, _ = test_catch_up.play(name, **{**GROWING, "rounds": 6})
    assert test_catch_up.kinds(sent)[True] > 8


@pytest.mark.parametrize("name", PROJECTED)
def test_a_run_that_is_stopped_goes_on(name, tmp_path):
    settings = Settings(**GROWING)
    whole = run(name, settings=settings)[0]
    checkpoint.write(run(name, rounds=1, settings=settings)[0], tmp_path)
    fresh = method(name, problem.UNITS, settings).init(problem.weights())
    rest = run(name, settings=settings, state=checkpoint.read(tmp_path, fresh))[0]
    assert all(torch.equal(whole.weights[n], rest.weights[n]) for n in whole.weights)


def test_a_fixed_count_costs_no_byte():
    made = method("spry", problem.UNITS, Settings(count=4))
    orders = made.plan(made.init(problem.weights()), CLIENTS, Key(0))
    assert not any(order.choices for order in orders.values())


@pytest.mark.parametrize("name", PROJECTED)
def test_more_than_an_order_can_ask_for_is_refused(name):
    settings = Settings(count=2, growth=MOST_CHOICE, phases=2, rounds=9)
    with pytest.raises(ConfigError, match=r"method\.count_growth"):
        method(name, problem.UNITS, settings)
