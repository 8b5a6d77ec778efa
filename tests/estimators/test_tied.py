"""Tokens that move together: what is estimated, where that is the gradient, and that it errs less."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from spry.estimators.activation import activation
from spry.estimators.amplitudes import places
from tests.estimators import tokens
from tests.estimators.test_activation import flat, mean_within_bound, measurement
from tests.estimators.tokens import HEAD, TokenLoss
from tests.laws.problem import gradient

from spry.core.keys import Key
from spry.estimators.directions import gaussian, rademacher


def expected(loss, w):
    """``sum_place (sum_t G_bt) (mean_t x_bt)'``, averaged over examples, with G and x from autograd."""
    leaves = {n: v.clone().requires_grad_() for n, v in w.items()}
    inputs, outputs, linear = {}, {}, F.linear
    names = {id(v): n for n, v in leaves.items()}

    def spy(x, weight, bias=None):
        z = linear(x, weight, bias)
        if names.get(id(weight), "").endswith(".A"):
            inputs[names[id(weight)]], outputs[names[id(weight)]] = x.detach(), z
        return z

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", spy)
        losses = loss.examples(leaves)
    g = dict(zip(outputs, torch.autograd.grad(losses.sum(), [*outputs.values()]), strict=True))
    where = places(loss.mask).double()
    mean = where / where.sum(1, keepdim=True).clamp(min=1)
    return {
        n: torch.einsum("btp,btr,bsp,bsd->rd", where, g[n], mean, inputs[n]) / len(losses) for n in inputs
    }


def body(w):
    return {n: v for n, v in w.items() if n not in HEAD}


@pytest.mark.parametrize("directions", [gaussian, rademacher])
@pytest.mark.parametrize("amplitudes", [None, {"layer0.A": (3.0, 0.5, 1.0), "layer2.A": (0.2, 1.0, 2.0)}])
def test_the_mean_is_as_said(directions, amplitudes):
    loss, w = TokenLoss.make(examples=5, tokens=7), tokens.weights()
    estimate = activation(measurement(directions, HEAD), 2, amplitudes=amplitudes, tied=True)
    wanted = expected(loss, w)
    mean_within_bound(
        lambda loss, w, key: estimate_of(estimate(loss, w, key), wanted), loss, w, wanted, draws=600
    )
    assert not torch.allclose(flat(wanted), flat({n: gradient(loss, w)[n] for n in wanted}), rtol=1e-2)


def estimate_of(found, names):
    return replace(found, gradient={n: found.gradient[n] for n in names})


@pytest.mark.parametrize("length", [1, 2, 3])
def test_one_token_a_place_is_unbiased(length):
    loss, w = TokenLoss.make(tokens=length), tokens.weights()
    wanted, true = expected(loss, w), gradient(loss, w)
    for n in wanted:
        torch.testing.assert_close(wanted[n], true[n])
    estimate = activation(measurement(rademacher, HEAD), tied=True)
    mean_within_bound(lambda loss, w, key: estimate_of(estimate(loss, w, key), wanted), loss, w, wanted)


def test_micro_batches_change_nothing():
    whole, parts = TokenLoss.make(examples=5, tokens=6), TokenLoss.make(examples=5, tokens=6, micro=2)
    estimate = activation(measurement(gaussian, HEAD), 3, tied=True)
    first, second = (estimate(loss, tokens.weights(), Key(1)) for loss in (whole, parts))
    torch.testing.assert_close(flat(first.gradient), flat(second.gradient))


def test_it_errs_less_in_long_texts():
    loss, w = TokenLoss.make(examples=4, tokens=30), tokens.weights()
    true = flat(body(gradient(loss, w)))

    def error(tied):
        estimate = activation(measurement(rademacher, HEAD), tied=tied)
        drawn = [flat(body(estimate(loss, w, Key(i)).gradient)) for i in range(100)]
        return sum(float((d - true).square().sum()) for d in drawn)

    assert error(tied=True) < 0.4 * error(tied=False)


def test_the_head_stays_exact():
    loss, w = TokenLoss.make(), tokens.weights()
    found, true = activation(measurement(exact=HEAD), tied=True)(loss, w, Key(0)).gradient, gradient(loss, w)
    for n in HEAD:
        torch.testing.assert_close(found[n], true[n])
