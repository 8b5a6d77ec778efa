"""Discriminative sampling against hand-worked cases, and the bias it has."""

from __future__ import annotations

import math

import pytest
import torch
from tests.laws import problem

from spry.core.keys import Key
from spry.estimators.directions import gaussian
from spry.estimators.projected import SlopeSpec, from_slopes, projected
from spry.estimators.slopes import forward_mode
from spry.federated.methods.aligned import aligned_directions, cosine, most_aligned


def vectors(*rows):
    return [{"a": torch.tensor(row[:1]), "b": torch.tensor(row[1:])} for row in rows]


HINT = vectors((3.0, 4.0))[0]


def test_cosine_by_hand():
    assert cosine(*vectors((1.0, 0.0), (3.0, 4.0))) == pytest.approx(0.6)
    assert cosine(*vectors((-3.0, -4.0), (3.0, 4.0))) == pytest.approx(-1.0)
    assert cosine(*vectors((0.0, 0.0), (3.0, 4.0))) == pytest.approx(0.0)
    part = {"a": torch.tensor([2.0])}
    assert cosine(part, HINT) == pytest.approx(1.0)


def test_the_highest_cosines_are_kept_whatever_the_length_and_in_the_order_of_the_pool():
    """Cosines to (3, 4): 0.6, -1, 0.8, 1, 0; the opposite direction is the worst, not as good as the best."""
    pool = vectors((1.0, 0.0), (-6.0, -8.0), (0.0, 100.0), (0.03, 0.04), (4.0, -3.0))
    kept = most_aligned(pool, HINT, 3)
    assert [v["b"].item() for v in kept] == pytest.approx([0.0, 100.0, 0.04])


def test_without_a_gradient_to_follow_the_first_are_kept():
    pool = vectors((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    assert most_aligned(pool, vectors((0.0, 0.0))[0], 2) == pool[:2]


def test_without_a_guess_directions_are_drawn_as_always():
    w = problem.weights()
    plain, pooled = gaussian(Key(0), w, 3), aligned_directions(None, 10)(Key(0), w, 3)
    assert all(torch.equal(plain[k][n], pooled[k][n]) for k in range(3) for n in w)


def test_the_kept_tenth_is_the_best_of_those_drawn_from_the_same_key():
    w, guess = problem.weights(), problem.weights(1)
    drawn = gaussian(Key(4), w, 20)
    kept = aligned_directions(guess, 10)(Key(4), w, 2)
    best = sorted((cosine(v, guess) for v in drawn), reverse=True)[:2]
    assert sorted((cosine(v, guess) for v in kept), reverse=True) == best


def test_slopes_are_replayed_along_the_same_choice():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    spec = SlopeSpec(directions=aligned_directions(problem.weights(1), 10))
    measured = projected(forward_mode, spec, 2)(loss, w, Key(1))
    again = from_slopes(measured.slopes[None], spec)(loss, w, Key(1))
    assert all(torch.equal(measured.gradient[n], again.gradient[n]) for n in w)


def test_the_bias_is_a_stretch_along_the_hint():
    """E[v v'] = I + (c - 1) u u', c = E[max of ten standard normals squared] = 2.71, in many dimensions."""
    w = {"w": torch.zeros(100, dtype=torch.float64)}
    hint = {"w": torch.cat([torch.ones(1), torch.zeros(99)]).double()}
    kept = torch.stack([aligned_directions(hint, 10)(Key(i), w, 1)[0]["w"] for i in range(1500)])
    squares = kept.square()
    best = torch.tensor([[float(x) for x in Key(i).normal("x", (10,))] for i in range(4000)]).max(1).values
    c = float(best.square().mean())
    assert c == pytest.approx(2.71, abs=0.12)
    along, across = squares[:, 0], squares[:, 1:]
    assert float(along.mean()) == pytest.approx(c, abs=0.05 * c + 4.5 * float(along.std()) / math.sqrt(1500))
    assert float(across.mean()) == pytest.approx(1.0, abs=0.03)
    assert (kept[:, 0] > 0).float().mean() > 0.98
