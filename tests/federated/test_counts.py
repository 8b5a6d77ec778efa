"""K shared out among clients: the least error there is for as many directions, from noise that is estimated right."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tests.laws import problem, test_catch_up, test_replay
from tests.laws.test_methods import run

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.unit import Unit
from spry.experiment import checkpoint
from spry.federated.counts import Allotment
from spry.federated.methods import METHODS, method
from spry.federated.settings import Settings

UNITS = [Unit(name=f"unit {i}", names=(f"{i}.A", f"{i}.B")) for i in range(4)]
HEAD = Unit(name="head", names=("h",), head=True)
SHARED = ["spry", "spry_per_iteration", "fedfgd", "fedmezo", "baffle"]
SETTINGS = {"count": 3, "most": 6}


def remembered(allotment, deviations, rounds, count=lambda n: 1, mean=0.0):
    """The memory after rounds whose aggregates scatter by ``deviation / sqrt(K)`` around a mean."""
    memory = {}
    for n in range(rounds):
        k = count(n)
        found = {
            name: mean + deviations[i] / k**0.5 * Key(n).normal(name, (25,)).double()
            for i, unit in enumerate(UNITS)
            for name in unit.names
        }
        memory = allotment.take(memory, UNITS, found, [(frozenset(found), k)])
    return memory


@pytest.mark.parametrize("mean", [0.0, 2.0])
@pytest.mark.parametrize("count", [lambda n: 1, lambda n: 4, lambda n: 2 if n % 2 else 8])
def test_noise_is_that_of_one_direction_whatever_was_spent(mean, count):
    """50 weights a unit, each of variance deviation^2 along one direction."""
    allotment, deviations = Allotment(most=9, beta=0.99), [1.0, 3.0, 0.2, 5.0]
    memory = remembered(allotment, deviations, 400, count, mean)
    for unit, deviation in zip(UNITS, deviations, strict=True):
        assert allotment._noise(memory, unit) == pytest.approx(50 * deviation**2, rel=0.15)


@pytest.mark.parametrize("deviations", [(1, 1, 1, 1), (1, 2, 5, 9), (0, 0, 0, 1), (3, 0, 3, 1)])
@pytest.mark.parametrize(("mean", "most"), [(1, 4), (2, 3), (3, 8), (4, 4)])
def test_no_other_sharing_out_errs_less(deviations, mean, most):
    allotment = Allotment(most=most, exact=frozenset({"h"}))
    memory = remembered(allotment, deviations, 20)
    noise = [allotment._noise(memory, unit) for unit in UNITS]
    found = allotment.counts(memory, {9 - i: [unit, HEAD] for i, unit in enumerate(UNITS)}, mean).values()
    others = [ks for ks in product(range(1, most + 1), repeat=4) if sum(ks) == 4 * mean]
    assert tuple(found) in others
    error = [sum(n / k for n, k in zip(noise, ks, strict=True)) for ks in (found, *others)]
    assert error[0] <= min(error) * (1 + 1e-12)


def test_before_noise_is_known_all_get_the_same_and_new_units_the_usual():
    allotment = Allotment(most=8)
    dealt = {i: [unit] for i, unit in enumerate(UNITS)}
    assert set(allotment.counts({}, dealt, 3).values()) == {3}
    memory = remembered(allotment, [1.0, 1.0, 1.0, 1.0], 20)
    strange = {**dealt, 4: [Unit(name="new", names=("new",))], 5: []}
    counts = allotment.counts(memory, strange, 3)
    assert counts[5] == 1 and all(2 <= counts[c] <= 4 for c in (0, 1, 2, 3, 4)) and sum(counts.values()) == 18


def test_what_is_exact_and_what_nobody_trained_has_no_say():
    allotment = Allotment(most=8, exact=frozenset({"h"}))
    found = {"h": torch.ones(3), "0.A": torch.ones(3)}
    memory = allotment.take({}, [*UNITS, HEAD], found, [(frozenset(found), 2)])
    assert {name for slot in memory.values() for name in slot} == {"0.A", "unit 0"}
    assert allotment.counts(memory, {0: [HEAD], 1: [HEAD]}, 2) == {0: 2, 1: 2}


@pytest.mark.parametrize("name", SHARED)
def test_slopes_are_enough(name):
    full, _ = test_replay.rounds(name, slopes_only=False, **SETTINGS)
    sent, last = test_replay.rounds(name, slopes_only=True, wire=True, **SETTINGS)
    assert all(torch.equal(full.weights[n], sent.weights[n]) for n in full.weights)
    asked = [order.choices["count"] for order, _ in last]
    assert asked == [reply.payload.slopes.shape[1] for _, reply in last]
    assert sum(asked) == 4 * 3
    assert (len(set(asked)) > 1) == name.startswith("spry")  # the others' clients have equal slices


@pytest.mark.parametrize("name", SHARED)
def test_clients_that_skipped_rounds_catch_up(name):
    assert test_catch_up.kinds(test_catch_up.play(name, **SETTINGS)[0])[True] > 8


@pytest.mark.parametrize("name", SHARED)
def test_a_run_that_is_stopped_goes_on(name, tmp_path):
    settings = Settings(**SETTINGS)
    whole = run(name, rounds=4, settings=settings)[0]
    checkpoint.write(run(name, rounds=2, settings=settings)[0], tmp_path)
    fresh = method(name, problem.UNITS, settings).init(problem.weights())
    rest = run(name, rounds=4, settings=settings, state=checkpoint.read(tmp_path, fresh))[0]
    assert all(torch.equal(whole.weights[n], rest.weights[n]) for n in whole.weights)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {*SHARED}))
def test_the_others_know_nothing_of_it(name):
    on, off = (run(name, settings=Settings(count=3, most=most))[0] for most in (6, None))
    assert all(torch.equal(on.weights[n], off.weights[n]) for n in on.weights)


@pytest.mark.parametrize(("count", "most"), [(1, 6), (3, 2), (3, 1 << 20)])
def test_what_cannot_be_shared_out_is_refused(count, most):
    with pytest.raises(ConfigError, match=r"method\.count_max"):
        method("spry", problem.UNITS, Settings(count=count, most=most))
