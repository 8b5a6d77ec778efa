"""Step sizes by group and round: what is allowed, and what each round's factor is; tests/laws has what they do."""

from __future__ import annotations

import math

import pytest

from spry.core.errors import ConfigError
from spry.core.units import Unit
from spry.federated.step_sizes import StepSizes

UNITS = (
    Unit(name="layer", names=("A", "B")),
    Unit(name="last_block", names=("C",), head=True, exact=True, last_block=True),
    Unit(name="head", names=("w",), head=True, exact=True),
)


def test_each_weight_has_the_factor_of_its_group():
    assert [unit.group for unit in UNITS] == ["body", "exact", "head"]
    steps = StepSizes(factors={"head": 0.5, "exact": 0.0})
    assert steps.of_weights(UNITS, 7) == {"A": 1.0, "B": 1.0, "C": 0.0, "w": 0.5}
    assert steps.frozen(UNITS) == UNITS[1:2]


@pytest.mark.parametrize("rounds", [1, 3, 10])
def test_a_linear_decay_begins_with_the_whole_and_ends_with_a_rounds_share(rounds):
    steps = StepSizes(decay="linear", rounds=rounds)
    found = [steps.of_round(r) for r in range(rounds)]
    assert found == pytest.approx([(rounds - r) / rounds for r in range(rounds)])
    assert found[0] == 1 and found[-1] == pytest.approx(1 / rounds)
    assert steps.of_round(rounds) == steps.of_round(rounds + 5) == 0


def test_without_a_decay_every_round_is_the_same():
    assert StepSizes().of_round(10**6) == 1
    assert StepSizes(factors={"body": 1}).change_nothing(UNITS)
    assert not StepSizes(factors={"body": 0.5}).change_nothing(UNITS)
    assert StepSizes(factors={"body": 0.5}).change_nothing(UNITS[1:])
    assert not StepSizes(decay="linear", rounds=1).change_nothing(UNITS)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"factors": {"heads": 1.0}}, r"no group 'heads'.*'head'"),
        ({"factors": {"head": -0.1}}, r"step_factors\.head is -0\.1; .* at least 0"),
        ({"factors": {"body": math.nan}}, "body is nan"),
        ({"factors": {"exact": math.inf}}, "exact is inf"),
        ({"decay": "linaer", "rounds": 3}, r"decay is 'linaer'.*'linear'"),
        ({"decay": "linear"}, "say rounds"),
    ],
)
def test_mistakes_are_told(given, says):
    with pytest.raises(ConfigError, match=says):
        StepSizes(**given)
