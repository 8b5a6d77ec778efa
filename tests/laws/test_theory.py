"""The claims of docs/theory.md, each on a loss ``L_i(w) = <g_i, w>`` whose gradient is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from spry.core.keys import Key
from spry.core.units import Unit
from spry.estimators.backprop import backprop
from spry.estimators.directions import coordinate, gaussian, orthogonal, rademacher
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import forward_mode
from spry.federated.algorithm import compose
from spry.federated.split import contiguous, cyclic, everything
from spry.optim.rules import sgd
from spry.wire.messages import Answer

L, SIZE = 4, 3
UNITS = tuple(Unit(name=f"u{i}", names=(f"u{i}",), size=SIZE) for i in range(L))


@dataclass(frozen=True)
class Linear:
    gradient: dict

    def __call__(self, params, *, checkpoint=False):
        return sum((self.gradient[n] * w).sum() for n, w in params.items())

    def microbatches(self):
        return [(1.0, self)]


def gradients(clients, alike=False):
    keys = [Key(0) if alike else Key(c) for c in range(clients)]
    return [{u.name: k.fold("g").normal(u.name, (SIZE,)).double() for u in UNITS} for k in keys]


def flat(tree):
    return torch.cat([tree[u.name] for u in UNITS])


def aggregate(estimator, split, g, examples=None, round=0, seed=0):
    """The united gradient of one round: every client sends its estimate at the server's weights."""
    made = compose(
        name="made", units=UNITS, estimator=estimator, server=sgd(1.0), client=None,
        split=lambda units, clients, _: split(units, clients, round),
    )  # fmt: skip
    state = made.init({u.name: torch.zeros(SIZE, dtype=torch.float64) for u in UNITS})
    orders = made.plan(state, list(range(len(g))), Key(seed))
    answers = [
        Answer(
            o,
            made.train(lambda loss, key, base: loss, o, [Linear(g[c])], (examples or [1] * len(g))[c]).reply,
        )
        for c, o in orders.items()
    ]
    return -flat(made.absorb(state, answers).weights)


@pytest.mark.parametrize("split", [cyclic, contiguous])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6, 8])
def test_alike_clients_unite_to_the_gradient_whatever_the_deal(split, m):
    g = gradients(m, alike=True)
    for round in range(3):
        torch.testing.assert_close(
            aggregate(backprop(), split, g, round=round), flat(g[0]), rtol=1e-14, atol=1e-14
        )


@pytest.mark.parametrize("m", [2, 4, 8])
def test_over_all_deals_unlike_clients_of_equal_size_unite_to_their_mean(m):
    g = gradients(m)
    turned = torch.stack([aggregate(backprop(), cyclic, g, round=r) for r in range(m)]).mean(0)
    torch.testing.assert_close(turned, torch.stack([flat(x) for x in g]).mean(0), rtol=1e-12, atol=1e-12)


def test_one_deal_of_unlike_clients_is_off_by_their_spread():
    """M = L: each weight has one owner of M, so E|united - g|^2 = 1/M sum_i |g_i - g|^2 over the deals."""
    g = gradients(L)
    mean = torch.stack([flat(x) for x in g]).mean(0)
    bias = torch.stack([
        (aggregate(backprop(), cyclic, g, round=r) - mean).square().sum() for r in range(L)
    ]).mean()
    spread = torch.stack([(flat(x) - mean).square().sum() for x in g]).mean()
    assert float(bias) == pytest.approx(float(spread), rel=1e-12)


def test_of_unequal_sizes_a_bias_is_left_over_all_deals():
    """M = L: the deals average to the plain mean of the clients, not to the mean by examples."""
    g, n = gradients(L), [1, 2, 3, 10]
    turned = torch.stack([aggregate(backprop(), cyclic, g, examples=n, round=r) for r in range(L)]).mean(0)
    left = sum((1 / L - n[i] / sum(n)) * flat(g[i]) for i in range(L))
    by_examples = aggregate(backprop(), everything, g, examples=n)
    torch.testing.assert_close(turned - by_examples, left, rtol=1e-12, atol=1e-12)
    assert float(left.norm() / by_examples.norm()) > 0.1


SIGNS = {gaussian: lambda k: 1, rademacher: lambda k: -1, orthogonal: lambda k: -k, coordinate: lambda k: -k}


@pytest.mark.parametrize("directions", SIGNS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("m", "dealt"), [(2, True), (4, True), (8, True), (8, False)])
def test_one_step_identity(directions, count, m, dealt):
    """E|g_hat - g|^2 / |g|^2 = (d + s c) / (M K): s = 1, -1 or -K, c = min(M, L) slices or 1 without a split."""
    g = [{u.name: torch.ones(SIZE, dtype=torch.float64) for u in UNITS}] * m
    estimator = projected(forward_mode, SlopeSpec(directions=directions), count)
    true, d = flat(g[0]), L * SIZE
    found = [
        aggregate(estimator, cyclic if dealt else everything, g, seed=seed)
        for seed in range(150 if m > 2 else 250)
    ]
    errors = torch.stack([(x - true).square().sum() for x in found]) / true.square().sum()
    predicted = (d + SIGNS[directions](count) * (min(m, L) if dealt else 1)) / (m * count)
    assert abs(float(errors.mean()) - predicted) < 4.5 * float(errors.std()) / math.sqrt(len(found)) + 1e-9
    spread = (torch.stack(found).std(0) / math.sqrt(len(found))).clamp_min(1e-9)  # K = d is exact
    z = (torch.stack(found).mean(0) - true) / spread
    assert float(z.abs().max()) < 4.5
