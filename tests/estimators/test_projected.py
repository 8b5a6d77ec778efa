"""Estimators against autograd: unbiased, with the error that theory predicts."""

from __future__ import annotations

import math

import pytest
import torch
from tests.laws import problem

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import dot
from spry.estimators.backprop import backprop
from spry.estimators.directions import coordinate, gaussian, orthogonal, rademacher
from spry.estimators.projected import SlopeSpec, expand, projected
from spry.estimators.slopes import central_difference, forward_mode

DIRECTIONS = {  # and the error of their estimate, given d and K
    "gaussian": (gaussian, lambda d, k: (d + 1) / k),
    "rademacher": (rademacher, lambda d, k: (d - 1) / k),
    "orthogonal": (orthogonal, lambda d, k: d / k - 1),
    "coordinate": (coordinate, lambda d, k: d / k - 1),
}
INDEPENDENT = ["gaussian", "rademacher"]
HEAD = ("head.weight", "head.bias")
EXACT = SlopeSpec(exact=frozenset(HEAD))
DRAWS = 600


def flat(tree):
    return torch.cat([v.flatten() for v in tree.values()])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_mean_is_the_gradient_and_error_is_as_predicted(name, count):
    directions, error = DIRECTIONS[name]
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    true = flat(problem.gradient(loss, w))
    estimate = projected(forward_mode, SlopeSpec(directions=directions), count)
    draws = torch.stack([flat(estimate(loss, w, Key(i)).gradient) for i in range(DRAWS)])
    looks = (
        Key(9).normal("looks", (20, len(true))).double()
    )  # coordinate directions hit a single weight too rarely for a z-value
    seen = draws @ looks.T
    z = (seen.mean(0) - looks @ true) / (seen.std(0) / math.sqrt(DRAWS))
    assert z.abs().max() < 4.5
    errors = (draws - true).square().sum(1) / true.square().sum()
    predicted = error(len(true), count)
    standard_error = errors.std() / math.sqrt(DRAWS)
    assert abs(errors.mean() - predicted) < 4.5 * standard_error + 1e-9


@pytest.mark.parametrize("slope", [forward_mode, central_difference(1e-4)])
def test_the_exact_head_is_the_gradient(slope):
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    true = problem.gradient(loss, w)
    got = projected(slope, EXACT, 2)(loss, w, Key(0)).gradient
    assert list(got) == list(w)
    for name in HEAD:  # the two sides of a finite difference average to the gradient up to h^2
        torch.testing.assert_close(got[name], true[name], rtol=1e-6, atol=1e-7)


def test_forward_slopes_are_the_directional_derivatives():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    estimate = projected(forward_mode, num_directions=4)(loss, w, Key(5))
    true = problem.gradient(loss, w)
    for slope, v in zip(estimate.slopes, gaussian(Key(5), w, 4), strict=True):
        assert float(slope) == pytest.approx(dot(true, v), rel=1e-10)
    assert estimate.value == pytest.approx(float(loss(w)), rel=1e-12)


def test_finite_differences_approach_the_jvp_with_the_square_of_h():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    v = gaussian(Key(3), w, 1)
    exact = forward_mode(loss, w, v, {}).slopes
    errors = [abs(float(central_difference(h)(loss, w, v, {}).slopes - exact)) for h in (4e-2, 2e-2, 1e-2)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("count", [1, 3])
def test_expanding_key_and_slopes_gives_the_same_bits(name, count):
    directions, _ = DIRECTIONS[name]
    w = {n: v.float() for n, v in problem.weights().items()}
    loss = problem.ProblemLoss(problem.Batch(problem.batch(0).x.float(), problem.batch(0).y))
    estimate = projected(forward_mode, SlopeSpec(directions=directions), count)(loss, w, Key(1))
    assert estimate.slopes.dtype == torch.float32
    again = expand(estimate.slopes.clone(), directions(Key(1), w, count))
    assert all(torch.equal(estimate.gradient[n], again[n]) for n in w)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_slice_is_drawn_the_same_numbers_as_the_whole(name):
    directions, _ = DIRECTIONS[name]
    w = problem.weights()
    part = {n: w[n] for n in ("layer1.A", "head.bias")}
    whole, slice_ = directions(Key(0), w, 2), directions(Key(0), part, 2)
    assert all(torch.equal(whole[k][n], slice_[k][n]) for k in range(2) for n in part)


ESTIMATORS = {
    "forward": projected(forward_mode, EXACT, 2),
    "central": projected(central_difference(1e-4), EXACT, 2),
    "backprop": backprop(),
}


@pytest.mark.parametrize("micro", [1, 3, 8])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_micro_batches_change_nothing(name, micro):
    w = problem.weights()
    whole = ESTIMATORS[name](problem.ProblemLoss(problem.batch(0)), w, Key(0))
    parts = ESTIMATORS[name](problem.ProblemLoss(problem.batch(0), micro), w, Key(0))
    torch.testing.assert_close(flat(parts.gradient), flat(whole.gradient), rtol=1e-6, atol=1e-8)
    assert parts.value == pytest.approx(whole.value)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_weights_are_not_written(name):
    w = problem.weights()
    before = {n: v.clone() for n, v in w.items()}
    ESTIMATORS[name](problem.ProblemLoss(problem.batch(0)), w, Key(0))
    assert all(torch.equal(w[n], before[n]) and not w[n].requires_grad for n in w)


def test_backprop_is_autograd():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    true = problem.gradient(loss, w)
    got = backprop()(loss, w, Key(0)).gradient
    assert all(torch.equal(got[n], true[n]) for n in w)


@pytest.mark.parametrize("make", [lambda: projected(num_directions=0), lambda: central_difference(0.0)])
def test_senseless_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()
