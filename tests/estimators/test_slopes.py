"""Finite differences: their order in h, what they cost, and one set of dropout masks for all evaluations of a slope."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from tests.laws import problem
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import dot
from spry.estimators.directions import gaussian
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import central_difference, forward_difference, forward_mode
from spry.forward.dropout import dropout

HEAD = ("head.weight", "head.bias")
DIFFERENCES = {
    "forward": (forward_difference, 1, lambda k: k + 1),
    "central": (central_difference, 2, lambda k: 2 * k),
}


@dataclass
class Counted:
    """A loss that counts its evaluations."""

    loss: problem.ProblemLoss
    seen: list[float] = field(default_factory=list)

    def __call__(self, params, *, checkpoint=False):
        value = self.loss(params)
        self.seen.append(float(value.detach()))
        return value

    def microbatches(self):
        return [(1.0, self)]


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_error_falls_with_h_to_its_order(name):
    difference, order, _ = DIFFERENCES[name]
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    v = gaussian(Key(3), w, 1)
    exact = forward_mode(loss, w, v, {}).slopes
    errors = [abs(float(difference(h)(loss, w, v, {}).slopes - exact)) for h in (4e-2, 2e-2, 1e-2)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_evaluations(name, count):
    difference, _, evaluations = DIFFERENCES[name]
    loss, w = Counted(problem.ProblemLoss(problem.batch(0))), problem.weights()
    projected(difference(1e-3), SlopeSpec(exact=frozenset(HEAD)), count)(loss, w, Key(0))
    assert len(loss.seen) == evaluations(count)


def test_a_forward_difference_reports_the_loss_and_the_head_at_the_weights_themselves():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    got = projected(forward_difference(1e-3), SlopeSpec(exact=frozenset(HEAD)), 2)(loss, w, Key(0))
    true = problem.gradient(loss, w)
    assert got.value == pytest.approx(float(loss(w)), rel=1e-12)
    assert all(torch.equal(got.gradient[n], true[n]) for n in HEAD)


@dataclass
class Dropping:
    """A loss with dropout drawn from a key, as a task's is; it keeps the masks it saw."""

    batch: problem.Batch
    key: Key
    masks: list[Tensor] = field(default_factory=list)

    def __call__(self, params, *, checkpoint=False):
        with dropout(self.key):
            mask = F.dropout(torch.ones_like(self.batch.x), 0.3, training=True)
        self.masks.append(mask)
        return problem.ProblemLoss(problem.Batch(self.batch.x * mask, self.batch.y))(params)

    def microbatches(self):
        return [(1.0, self)]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_all_evaluations_of_a_slope_see_the_same_masks(name, count):
    difference, _, evaluations = DIFFERENCES[name]
    loss, w = Dropping(problem.batch(0), Key(8)), problem.weights()
    directions = gaussian(Key(2), w, count)
    slopes = difference(1e-5)(loss, w, directions, {}).slopes
    assert len(loss.masks) == evaluations(count)
    assert all(torch.equal(mask, loss.masks[0]) for mask in loss.masks)
    assert float((loss.masks[0] == 0).double().mean()) > 0
    masked = problem.ProblemLoss(problem.Batch(problem.batch(0).x * loss.masks[0], problem.batch(0).y))
    true = [dot(problem.gradient(masked, w), v) for v in directions]
    assert slopes.tolist() == pytest.approx(true, rel=1e-3, abs=1e-4)


def test_other_masks_on_the_two_sides_would_be_no_slope_at_all():
    """What the published Spry code does to its zeroth-order rivals: the difference of two masks, divided by 2 h."""
    w, h = problem.weights(), 1e-5
    v = gaussian(Key(2), w, 1)[0]
    sides = [
        Dropping(problem.batch(0), Key(seed))({n: w[n] + sign * h * v[n] for n in w})
        for seed, sign in ((1, 1), (2, -1))
    ]
    assert abs(float(sides[0] - sides[1]) / (2 * h)) > 100


@pytest.mark.parametrize("difference", [forward_difference, central_difference])
@pytest.mark.parametrize("h", [0.0, -1e-3, float("nan")])
def test_a_step_that_is_none_is_refused(difference, h):
    with pytest.raises(ConfigError, match="greater than 0"):
        difference(h)
