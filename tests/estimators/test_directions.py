"""Directions that depend on each other: at right angles, exact when there are as many as weights, and never stuck."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from tests.laws import problem

from spry.core.keys import Key
from spry.core.params import size
from spry.estimators.directions import coordinate, gaussian, orthogonal, rademacher
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import forward_mode

JOINT_DRAWS = (orthogonal, coordinate)
SHAPES = {"a": (2, 3), "b": (), "empty": (0, 4), "c": (4,)}  # d = 11


def weights(dtype=torch.float64, **shapes):
    return {name: torch.zeros(shape, dtype=dtype) for name, shape in (shapes or SHAPES).items()}


def rows(drawn):
    return torch.stack([torch.cat([v.flatten() for v in one.values()]) for one in drawn])


@pytest.mark.parametrize("directions", JOINT_DRAWS)
@pytest.mark.parametrize("count", [1, 5, 11])
def test_they_stand_at_right_angles_with_squares_of_d(directions, count):
    w = weights()
    v = rows(directions(Key(0), w, count))
    torch.testing.assert_close(v @ v.T, size(w) * torch.eye(count, dtype=torch.float64))


@pytest.mark.parametrize("directions", JOINT_DRAWS)
@pytest.mark.parametrize("count", [11, 22])
def test_as_many_as_weights_give_the_gradient_itself(directions, count):
    v = rows(directions(Key(0), weights(), count))
    torch.testing.assert_close(v.T @ v / count, torch.eye(11, dtype=torch.float64))


@pytest.mark.parametrize(
    ("directions", "count"), [(gaussian, 1), (rademacher, 1), *product(JOINT_DRAWS, [1, 3, 14])]
)
def test_the_mean_of_their_squares_is_the_identity(directions, count):
    """E[v v'] = I for each of the K on its own, also those of a second set."""
    w, draws = weights(), 600
    v = torch.stack([rows(directions(Key(i), w, count)) for i in range(draws)])
    squares = torch.einsum("nki,nkj->nkij", v, v)
    z = (squares.mean(0) - torch.eye(11)) / (squares.std(0) / math.sqrt(draws)).clamp_min(1e-9)
    assert z.abs().max() < 5.0


@pytest.mark.parametrize(("directions", "count"), product(JOINT_DRAWS, [1, 2, 3]))
def test_one_weight_alone(directions, count):
    v = rows(directions(Key(0), weights(only=()), count))
    torch.testing.assert_close(v.abs(), torch.ones(count, 1, dtype=torch.float64))


@pytest.mark.parametrize("directions", JOINT_DRAWS)
def test_shapes_and_types_are_the_weights_own(directions):
    w = {"a": torch.zeros(2, 3), "b": torch.zeros((), dtype=torch.float64)}
    for v in directions(Key(0), w, 2):
        assert [(n, x.shape, x.dtype) for n, x in v.items()] == [(n, x.shape, x.dtype) for n, x in w.items()]


def test_basis_is_coordinate_descent_by_hand():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    true = torch.cat([g.flatten() for g in problem.gradient(loss, w).values()])
    got = projected(forward_mode, SlopeSpec(directions=coordinate), 4)(loss, w, Key(2)).gradient
    found = torch.cat([g.flatten() for g in got.values()])
    drawn = found != 0
    assert int(drawn.sum()) == 4
    torch.testing.assert_close(found[drawn], true[drawn] * len(true) / 4)


def test_a_slice_of_fewer_weights_than_directions_is_estimated_exactly_at_multiples():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    part, rest = {"head.bias": w["head.bias"]}, {n: v for n, v in w.items() if n != "head.bias"}

    class Within(problem.ProblemLoss):
        def __call__(self, params, *, checkpoint=False):
            return super().__call__({**rest, **params})

    for directions in JOINT_DRAWS:
        got = projected(forward_mode, SlopeSpec(directions=directions), 6)(Within(loss.batch), part, Key(0))
        torch.testing.assert_close(got.gradient["head.bias"], problem.gradient(loss, w)["head.bias"])
