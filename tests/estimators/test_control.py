"""Control variates by exact enumeration: unbiased for any guess, and less noisy for good ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from spry.federated.settings import Settings
from tests.laws import problem

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import dot
from spry.estimators.directions import basis, gaussian, orthogonal, rademacher
from spry.estimators.projected import Measurement, projected, recorded
from spry.estimators.slopes import forward_mode
from spry.federated.methods import method
from spry.federated.split import everything
from spry.optim.rules import sgd
from spry.wire.messages import Answer

SHAPES = {"a": (3,), "b": (2, 1)}
G = {n: Key(1).normal(n, s).double() for n, s in SHAPES.items()}
D = 5
ALL = [torch.tensor(signs, dtype=torch.float64) for signs in product([-1.0, 1.0], repeat=D)]


@dataclass(frozen=True)
class Linear:
    """``L(w) = <g, w>``."""

    def __call__(self, params, *, checkpoint=False):
        return sum((G[n] * w).sum() for n, w in params.items())

    def parts(self):
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
        measurement = Measurement(
            directions=lambda key, params, count, v=v: [shaped(v)] * count, control=control
        )
        count = 2 if control == "guided" else 1  # one of which is the guess
        found.append(flat(projected(forward_mode, measurement, count)(Linear(), w, Key(0), hint).gradient))
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


@pytest.mark.parametrize("directions", [gaussian, rademacher, orthogonal, basis])
@pytest.mark.parametrize("control", ["previous", "guided"])
def test_recorded_slopes_expand_to_the_same_bits(control, directions):
    loss, w, hint = problem.ProblemLoss(problem.batch(0)), problem.weights(), problem.weights(1)
    measurement = Measurement(directions=directions, control=control, exact=frozenset({"head.weight"}))
    for guess in (hint, None, {n: 0 * v for n, v in hint.items()}):
        measured = projected(forward_mode, measurement, 3)(loss, w, Key(1), guess)
        again = recorded(measured.slopes[None], measurement)(loss, w, Key(1), guess).gradient
        assert set(again) == set(w) - {"head.weight"}
        assert all(torch.equal(measured.gradient[n], again[n]) for n in again)


@pytest.mark.parametrize("control", ["previous", "guided"])
def test_the_server_sends_the_running_mean_of_what_it_found(control):
    """M = 3, K = 2, d = 60 moved weights: a believed mean is shrunk by the noise it has if gradients are steady."""
    settings = Settings(control=control, decay=0.75, count=2, server=sgd(1e-3), split=everything)
    made = method("spry_per_iteration", problem.UNITS, settings)
    state, found = made.init(problem.weights()), []
    for round in range(3):
        orders = made.plan(state, [0, 1, 2], Key(0))
        squares = {1: 1.0, 2: 0.75**2 + 0.25**2}.get(round, 0.0)
        for order in orders.values():
            assert (order.hint is None) == (round == 0)
            if order.hint is not None:
                assert set(order.hint) == set(state.weights) - {"head.weight", "head.bias"}
                mean = found[0] if round == 1 else 0.75 * found[0] + 0.25 * found[1]
                shrunk = 1 / (1 + 60 / 6 * squares) if control == "previous" else 1.0
                torch.testing.assert_close(order.hint["layer0.A"], shrunk * mean, rtol=1e-6, atol=1e-9)
        answers = [
            Answer(o, made.train(problem.loss_of, o, [problem.batch(c)], 1).reply) for c, o in orders.items()
        ]
        before, state = state, made.absorb(state, answers)
        found.append((before.weights["layer0.A"] - state.weights["layer0.A"]) * 1e3)


def test_with_steady_losses_noise_falls_over_the_rounds_and_never_grows():
    """The clients' data stay the same and the server hardly moves, so past aggregates foresee the next."""
    true = flat(problem.gradient(problem.ProblemLoss(problem.batch(0)), problem.weights()))
    errors = {}
    for control, count, decay in product((None, "previous", "guided"), (2, 8), (0.0, 0.9)):
        settings = Settings(
            control=control,
            count=count,
            decay=decay,
            server=sgd(1e-6),
            exact_head=False,
            directions=rademacher,
        )
        made = method("spry_per_iteration", problem.UNITS, settings)
        state, squares = made.init(problem.weights()), []
        for _ in range(50):
            orders = made.plan(state, [0, 1], Key(0))
            answers = [
                Answer(o, made.train(problem.loss_of, o, [problem.batch(0)], 1).reply)
                for o in orders.values()
            ]
            after = made.absorb(state, answers)
            step = {n: (w - after.weights[n]) / 1e-6 for n, w in state.weights.items()}
            squares.append(float((flat(step) - true).square().sum()))
            state = after
        errors[control, count, decay] = sum(squares[20:]) / 30
    for count, decay in product((2, 8), (0.0, 0.9)):
        plain, believed = errors[None, count, decay], errors["previous", count, decay]
        assert believed < 1.1 * plain  # d > M K: without shrinking it would double in each round
    assert errors["previous", 8, 0.9] < 0.6 * errors[None, 8, 0.9]
    assert errors["guided", 8, 0.9] < 0.9 * errors[None, 8, 0.9]


def test_what_clients_send_after_steps_is_no_gradient_to_believe():
    with pytest.raises(ConfigError, match=r"choose 'guided', or spry_per_iteration"):
        method("spry", problem.UNITS, Settings(control="previous"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(control="guided", count=1), "at least 2"),
        (Settings(control="previous", tap=lambda params, tokens: []), "method.estimator = 'weight'"),
    ],
)
def test_what_cannot_be_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        method("spry", problem.UNITS, settings)


def test_a_guess_of_nothing_changes_nothing():
    zero = {n: 0 * g for n, g in G.items()}
    assert dot(zero, zero) == 0
    torch.testing.assert_close(every_estimate("previous", zero), every_estimate(None, None))
