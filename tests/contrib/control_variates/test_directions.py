"""Control variates by exact enumeration: unbiased for any guess, and less noisy for good ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from tests.laws import problem

from spry.contrib.control_variates import corrected, guided, guided_directions
from spry.core.keys import Key
from spry.estimators.projected import SlopeSpec, from_slopes, projected
from spry.estimators.slopes import forward_mode

SHAPES = {"a": (3,), "b": (2, 1)}
G = {n: Key(1).normal(n, s).double() for n, s in SHAPES.items()}
D = 5
ALL = [torch.tensor(signs, dtype=torch.float64) for signs in product([-1.0, 1.0], repeat=D)]


@dataclass(frozen=True)
class Linear:
    """``L(w) = <g, w>``."""

    def __call__(self, params, *, checkpoint=False):
        return sum((G[n] * w).sum() for n, w in params.items())

    def microbatches(self):
        return [(1.0, self)]


def flat(tree):
    return torch.cat([v.flatten() for v in tree.values()])


def shaped(v):
    return {"a": v[:3], "b": v[3:].view(2, 1)}


def every_estimate(control, hint):
    """One estimate for each of the 2^d sign vectors, so that means over them are expectations."""
    w = {n: torch.zeros_like(g) for n, g in G.items()}
    found = []
    for v in ALL:
        signs = lambda key, params, count, v=v: [shaped(v)] * count  # ruff: ignore[lambda-assignment]
        if control == "guided":
            spec, count = SlopeSpec(directions=lambda key, params, count, v=v: guided([shaped(v)], hint)), 2
        else:
            spec, count = SlopeSpec(directions=signs), 1
        estimator = projected(forward_mode, spec, count)
        estimator = corrected(estimator, spec, hint) if control == "previous" else estimator
        found.append(flat(estimator(Linear(), w, Key(0)).gradient))
    return torch.stack(found)


HINTS = {
    "far": shaped(torch.tensor([3.0, -1.0, 0.5, 2.0, -4.0]).double()),
    "near": {n: g + 0.1 * Key(2).normal(n, tuple(g.shape)).double() for n, g in G.items()},
    "too long": {n: 40 * g for n, g in G.items()},
    "the gradient": G,
}


@pytest.mark.parametrize("control", ["previous", "guided"])
@pytest.mark.parametrize("name", HINTS)
def test_unbiased_for_any_guess(control, name):
    torch.testing.assert_close(every_estimate(control, HINTS[name]).mean(0), flat(G))


@pytest.mark.parametrize("name", HINTS)
def test_errors_are_as_predicted(name):
    """Signs err by (d - 1) |g|^2; a guess believed leaves (d - 1) |g - h|^2, one asked about at most d |g_rest|^2."""
    h, g = flat(HINTS[name]), flat(G)
    rest = g - h * (g @ h) / (h @ h)
    error = {
        c: float((every_estimate(c, HINTS[name]) - g).square().sum(1).mean()) for c in ("previous", "guided")
    }
    assert error["previous"] == pytest.approx(float((D - 1) * (g - h).square().sum()), abs=1e-9)
    assert error["guided"] <= D * float(rest.square().sum()) + 1e-9
    if name == "near":
        assert max(error.values()) < 0.1 * float((D - 1) * g.square().sum())


def test_along_the_guess_each_guided_estimate_is_exact():
    h = flat(HINTS["far"])
    torch.testing.assert_close(every_estimate("guided", HINTS["far"]) @ h, (flat(G) @ h).expand(len(ALL)))


@pytest.mark.parametrize("control", ["previous", "guided"])
def test_recorded_slopes_expand_to_the_same_bits(control):
    loss, w, hint = problem.ProblemLoss(problem.batch(0)), problem.weights(), problem.weights(1)
    for guess in (hint, None, {n: 0 * v for n, v in hint.items()}):
        drawn = {"directions": guided_directions(guess)} if control == "guided" else {}
        spec = SlopeSpec(exact=frozenset({"head.weight"}), **drawn)
        believed = guess if control == "previous" else None
        measured = corrected(projected(forward_mode, spec, 3), spec, believed)(loss, w, Key(1))
        again = corrected(from_slopes(measured.slopes[None], spec), spec, believed)(loss, w, Key(1)).gradient
        assert set(again) == set(w) - {"head.weight"}
        assert all(torch.equal(measured.gradient[n], again[n]) for n in again)
