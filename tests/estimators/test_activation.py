"""Activation directions against autograd: unbiased, with the error that theory predicts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from spry.estimators.activation import activation, maps, narrow
from tests.estimators import tokens
from tests.estimators.tokens import DEPTH, HEAD, TokenLoss
from tests.laws import problem

from spry.core.errors import ConfigError, ModelError
from spry.core.keys import Key
from spry.estimators.directions import gaussian, rademacher
from spry.estimators.projected import Measurement

DRAWS = 300


def measurement(directions=rademacher, exact=()):
    return Measurement(directions=directions, exact=frozenset(exact))


def flat(tree):
    return torch.cat([v.flatten() for v in tree.values()])


def mean_within_bound(estimate, loss, w, true, draws=DRAWS):
    drawn = torch.stack([flat(estimate(loss, w, Key(i)).gradient) for i in range(draws)])
    z = (drawn.mean(0) - flat(true)) / (drawn.std(0) / math.sqrt(draws)).clamp_min(1e-12)
    assert z.abs().max() < 4.5
    return drawn


def predicted(loss, w, taps, count):
    """``E|g - dL/dA|^2`` of gaussian directions, summed over the taps, with G and X of each example from autograd."""
    inputs, outputs, linear = {}, {}, F.linear
    names = {id(w[name]): name for name in taps}

    def spy(x, weight, bias=None):
        z = linear(x, weight, bias)
        if id(weight) in names:
            inputs[names[id(weight)]] = x.detach()
            outputs[names[id(weight)]] = z = z.detach().requires_grad_() if not z.requires_grad else z
        return z

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", spy)
        losses = loss.examples({n: v.requires_grad_(n in taps) for n, v in w.items()})
    g = torch.autograd.grad(losses.sum(), [outputs[n] for n in taps])
    kept = loss.mask.double().unsqueeze(-1)
    energy = sum((x * kept).square().sum((1, 2)) for x in g)
    total = 0.0
    for name, slope in zip(taps, g, strict=True):
        x = inputs[name] * kept
        own = (slope.transpose(1, 2) @ x).square().sum((1, 2))
        total += (w[name].shape[0] * energy * x.square().sum((1, 2)) + own).sum()
    return float(total.detach()) / (len(loss.y) ** 2 * count)


CASES = [(1, 4, 5, DEPTH, 1), (3, 4, 5, 1, 1), (2, 1, 5, DEPTH, 2), (2, 6, 1, 1, 3), (1, 1, 1, 1, 1)]


@pytest.mark.parametrize(("rank", "length", "examples", "depth", "count"), CASES)
def test_mean_is_the_gradient_and_error_is_as_predicted(rank, length, examples, depth, count):
    loss = TokenLoss.make(examples, length)
    w = tokens.weights(rank)
    trained = [f"layer{i}.A" for i in range(DEPTH - depth, DEPTH)]
    fixed = {n: v for n, v in w.items() if n not in trained}
    slice_ = {n: w[n] for n in trained}
    bound = Bound(loss, fixed)
    true = tokens.gradient(bound, slice_)
    drawn = mean_within_bound(activation(measurement(gaussian), count), bound, slice_, true)
    errors = (drawn - flat(true)).square().sum(1)
    assert abs(errors.mean() - predicted(loss, w, trained, count)) < 4.5 * errors.std() / math.sqrt(
        len(errors)
    )


class Bound:
    """A loss with some weights fixed, as a client sees its slice."""

    def __init__(self, loss, fixed):
        self.loss, self.fixed, self.mask = loss, fixed, loss.mask

    def __call__(self, params):
        return self.loss({**self.fixed, **params})

    def examples(self, params):
        return self.loss.examples({**self.fixed, **params})

    def parts(self):
        return [(share, Bound(part, self.fixed)) for share, part in self.loss.parts()]


@pytest.mark.parametrize("directions", [gaussian, rademacher])
@pytest.mark.parametrize("exact", [(), HEAD])
def test_taps_weight_directions_and_exact_head_in_one_pass(directions, exact):
    loss, w = TokenLoss.make(), tokens.weights()
    true = tokens.gradient(loss, w)
    estimate = activation(measurement(directions, exact), 2)
    mean_within_bound(
        estimate,
        loss,
        {n: w[n] for n in w if n not in exact},
        {n: g for n, g in true.items() if n not in exact},
    )
    got = estimate(loss, w, Key(0))
    assert list(got.gradient) == list(w)
    for name in exact:
        torch.testing.assert_close(got.gradient[name], true[name])
    assert got.value == pytest.approx(float(loss(w)), rel=1e-12)


def test_where_examples_are_no_sequences():
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    mean_within_bound(activation(measurement(), 1), loss, w, problem.gradient(loss, w))


@pytest.mark.parametrize("directions", [gaussian, rademacher])
@pytest.mark.parametrize("micro", [1, 3, 5])
@pytest.mark.parametrize("choice", [maps, lambda params, length: ["layer1.A"], lambda params, length: []])
def test_micro_batches_change_nothing(directions, micro, choice):
    w = tokens.weights()
    estimate = activation(measurement(directions, HEAD), 2, choice)
    whole, parts = (estimate(TokenLoss.make(5, 4, m), w, Key(0)) for m in (None, micro))
    torch.testing.assert_close(flat(parts.gradient), flat(whole.gradient))
    assert parts.value == pytest.approx(whole.value)


def test_padding_changes_nothing():
    w = tokens.weights()
    short = TokenLoss.make(3, 4)
    extra = torch.full((3, 2, tokens.D), 9.0, dtype=torch.float64)
    long = TokenLoss(
        torch.cat([short.x, extra], 1), torch.cat([short.mask, torch.zeros(3, 2).long()], 1), short.y
    )
    true = {n: g for n, g in tokens.gradient(long, w).items() if n not in HEAD}
    mean_within_bound(activation(measurement()), long, {n: w[n] for n in true}, true)
    noise = [
        (e.gradient["layer0.A"] - true["layer0.A"]).square().sum()
        for e in (activation(measurement(), 1, maps)(long, w, Key(i)) for i in range(100))
    ]
    assert torch.stack(noise).mean() < 3 * predicted(
        short, tokens.weights(), [f"layer{i}.A" for i in range(DEPTH)], 1
    )


def test_with_nothing_to_move_only_the_head_is_differentiated():
    loss, w = TokenLoss.make(), tokens.weights()
    bound = Bound(loss, {n: v for n, v in w.items() if n not in HEAD})
    true = tokens.gradient(loss, w)
    got = activation(measurement(exact=HEAD))(bound, {n: w[n] for n in HEAD}, Key(0))
    for name in HEAD:
        torch.testing.assert_close(got.gradient[name], true[name])


def test_weights_are_not_written():
    loss, w = TokenLoss.make(), tokens.weights()
    before = {n: v.clone() for n, v in w.items()}
    activation(measurement())(loss, w, Key(0))
    assert all(torch.equal(w[n], before[n]) and not w[n].requires_grad for n in w)


def test_the_narrow_choice_leaves_maps_with_more_outputs_than_inputs():
    w = {"A": torch.zeros(2, 64), "R": torch.zeros(4, 4), "B": torch.zeros(64, 2), "norm": torch.zeros(64)}
    assert narrow(w, 20.0) == ["A", "R"]
    assert maps(w, 20.0) == ["A", "R", "B"]


class Transposed(TokenLoss):
    def examples(self, params):
        return super().examples({**params, "layer0.A": params["layer0.A"] * 2})


def test_a_weight_that_is_no_map_is_refused_by_name():
    made = TokenLoss.make()
    with pytest.raises(ModelError, match=r"'layer0.A' is used in another way.*method.estimator = 'weight'"):
        activation(measurement())(Transposed(made.x, made.mask, made.y), tokens.weights(), Key(0))


def test_no_direction_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        activation(measurement(), 0)
