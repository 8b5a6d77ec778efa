"""Slopes by example: torch's forward mode one by one, and that no example adds more than its share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.laws import problem

from spry.core.errors import ConfigError, ModelError
from spry.core.keys import Key
from spry.core.params import dot
from spry.estimators.directions import gaussian
from spry.estimators.example_slopes import bounded_examples
from spry.forward import row_slopes

PARAMS = problem.weights()
DIRECTIONS = gaussian(Key(1), PARAMS, 3)


def rows(batch):
    """Each example's slopes, shape (B, K), by torch's autograd."""
    leaves = {name: value.clone().requires_grad_() for name, value in PARAMS.items()}
    losses = problem.ProblemLoss(batch).examples(leaves)
    gradients = [
        dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), retain_graph=True), strict=True))
        for loss in losses
    ]
    return torch.tensor([[dot(g, v) for v in DIRECTIONS] for g in gradients], dtype=torch.float64)


@pytest.mark.parametrize("micro", [None, 3])
@pytest.mark.parametrize("clip", [1e-2, 0.3, 1e3])
def test_each_example_is_shortened_by_itself(micro, clip):
    batch = problem.batch(0)
    wanted = rows(batch)
    wanted = wanted * (clip / wanted.norm(dim=1, keepdim=True)).clamp(max=1)
    found = bounded_examples(clip, 8)(problem.ProblemLoss(batch, micro), PARAMS, DIRECTIONS, {})
    torch.testing.assert_close(found.slopes, wanted.sum(0) / 8)
    assert found.value == pytest.approx(float(problem.ProblemLoss(batch)(PARAMS)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-2, 1e2), st.floats(1e-3, 10))
def test_no_example_adds_more_than_its_share(seed, size, clip):
    batch = problem.batch(seed)
    odd = problem.Batch(torch.cat([batch.x[:7], size * batch.x[7:]]), batch.y)
    fewer = problem.Batch(batch.x[:7], batch.y[:7])
    measure = bounded_examples(clip, 8)
    with_it, without = (
        measure(problem.ProblemLoss(one), PARAMS, DIRECTIONS, {}).slopes for one in (odd, fewer)
    )
    assert float((with_it - without).norm()) <= clip / 8 * (1 + 1e-9)


def test_an_example_whose_slopes_are_not_finite_takes_no_other_along():
    batch = problem.batch(0)
    odd = problem.Batch(torch.cat([batch.x[:7], torch.full_like(batch.x[7:], float("nan"))]), batch.y)
    fewer = problem.Batch(batch.x[:7], batch.y[:7])
    measure = bounded_examples(1.0, 8)
    found, wanted = (measure(problem.ProblemLoss(one), PARAMS, DIRECTIONS, {}).slopes for one in (odd, fewer))
    torch.testing.assert_close(found, wanted)


def test_what_is_exact_is_refused():
    with pytest.raises(ConfigError, match=r"head\.weight is exact.*step_factors\.head = 0"):
        bounded_examples(1.0, 8)(
            problem.ProblemLoss(problem.batch(0)), PARAMS, DIRECTIONS, {"head.weight": PARAMS["head.weight"]}
        )


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_a_bound_that_is_not_positive_is_refused(clip):
    with pytest.raises(ConfigError, match=r"privacy\.clip"):
        bounded_examples(clip, 8)


def test_losses_that_are_no_row_are_refused():
    with pytest.raises(ModelError, match="shape"):
        row_slopes(lambda p: p["w"].sum(), {"w": torch.ones(2)}, [{"w": torch.ones(2)}])
