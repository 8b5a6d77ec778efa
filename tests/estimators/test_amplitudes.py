"""Amplitudes: the estimate stays unbiased, its error is the predicted one, and calibration makes it smaller."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.estimators import tokens
from tests.estimators.test_activation import Bound, flat, mean_within_bound, measurement
from tests.estimators.tokens import HEAD, TokenLoss
from tests.laws import problem

from spry.core.keys import Key
from spry.estimators.activation import activation, mean_tokens
from spry.estimators.amplitudes import calibrate, places, spread

LAYERS = [f"layer{i}.A" for i in range(tokens.DEPTH)]


class FirstTokenLoss(TokenLoss):
    """Pools the first token, as many classifiers do."""

    def examples(self, params):
        h = self.x
        for i in range(tokens.DEPTH):
            up = 0.5 * tokens.normal(Key(11), f"B{i}", tokens.D, params[f"layer{i}.A"].shape[0])
            h = h + torch.tanh(F.linear(F.linear(h, params[f"layer{i}.A"]), up))
            h = h + 0.3 * h.mean(1, keepdim=True)
        return F.cross_entropy(
            F.linear(h[:, 0], params["head.weight"], params["head.bias"]), self.y, reduction="none"
        )


class Flat(FirstTokenLoss):
    """Says the same whatever the weights."""

    def examples(self, params):
        return 0 * super().examples(params)


def first_token(examples=6, length=9):
    made = TokenLoss.make(examples, length)
    return FirstTokenLoss(made.x, made.mask, made.y)


def test_places():
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 0, 0]])
    first, last, between = places(mask).unbind(-1)
    assert first.int().tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert last.int().tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert torch.equal(first | last | between, mask.bool())
    assert spread({"w": [2.0, 3.0, 4.0]}, mask)["w"].tolist()[0] == [2.0, 4.0, 3.0, 1.0]


@pytest.mark.parametrize("micro", [None, 2])
def test_unbiased_whatever_the_amplitudes(micro):
    loss, w = TokenLoss.make(5, 4, micro), tokens.weights()
    uneven = {name: [0.3 + i, 2.0, 0.7] for i, name in enumerate(LAYERS[:2])}
    true = {n: g for n, g in tokens.gradient(loss, w).items() if n not in HEAD}
    estimate = activation(measurement(), 2, amplitudes=uneven)
    mean_within_bound(estimate, loss, {n: w[n] for n in LAYERS}, true)
    whole = estimate(TokenLoss.make(5, 4), w, Key(0)).gradient
    torch.testing.assert_close(flat(estimate(loss, w, Key(0)).gradient), flat(whole))


def test_amplitudes_of_one_size_change_nothing():
    loss, w = TokenLoss.make(), tokens.weights()
    same = {name: [3.0, 3.0, 3.0] for name in w}
    plain, scaled = (
        activation(measurement(exact=HEAD), 2, amplitudes=a)(loss, w, Key(0)) for a in (None, same)
    )
    torch.testing.assert_close(flat(scaled.gradient), flat(plain.gradient))


def test_calibration_measures_what_autograd_gives():
    loss, w = first_token(), tokens.weights()
    found = calibrate(loss, w, LAYERS[1:2], Key(0))["layer1.A"]
    inputs, outputs, linear = [], [], F.linear

    def spy(x, weight, bias=None):
        z = linear(x, weight, bias)
        if weight is leaf:
            inputs.append(x.detach())
            outputs.append(z)
        return z

    leaf = w["layer1.A"].clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", spy)
        losses = loss.examples({**w, "layer1.A": leaf})
    (g,) = torch.autograd.grad(losses.sum(), outputs)
    where = places(loss.mask).double()
    energies = [torch.einsum("btd,btp->p", t.square(), where) for t in (inputs[0], g)]
    wanted = (energies[0] / energies[1]).pow(0.25)
    torch.testing.assert_close(torch.tensor(found), (wanted / wanted.median()).float())


def test_calibrated_amplitudes_err_less_where_one_token_is_pooled():
    loss, w = first_token(), tokens.weights()
    own = {n: w[n] for n in LAYERS}
    full = {n: g for n, g in tokens.gradient(loss, w).items() if n in own}
    errors = []
    for amplitudes in (None, calibrate(first_token(60), w, LAYERS, Key(1))):
        estimate = activation(measurement(), amplitudes=amplitudes)
        drawn = torch.stack([flat(estimate(Bound(loss, w), own, Key(i)).gradient) for i in range(200)])
        errors.append(float((drawn - flat(full)).square().sum(1).mean()))
    assert errors[1] < 0.7 * errors[0]


def test_calibration_wakes_what_sleeps_above_the_tapped_maps():
    """A head of zeros lets no slope through; nudged, it says as much of the places as any other."""
    asleep = {**tokens.weights(), "head.weight": torch.zeros(tokens.C, tokens.D, dtype=torch.float64)}
    found = calibrate(first_token(60), asleep, LAYERS, Key(0))
    wanted = calibrate(
        first_token(60), {**asleep, "head.weight": tokens.weights()["head.weight"]}, LAYERS, Key(0)
    )
    for name in LAYERS:
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(wanted[name]), rtol=0.6, atol=0)
    assert max(found["layer0.A"]) > 2 * min(found["layer0.A"])


def test_nothing_to_measure_gives_equal_amplitudes():
    w = problem.weights()
    loss = problem.ProblemLoss(problem.batch(0))
    assert calibrate(loss, w, ["layer0.A"], Key(0)) == {"layer0.A": [1.0, 1.0, 1.0]}
    flat_loss = Flat(first_token().x, first_token().mask, first_token().y)
    assert calibrate(flat_loss, tokens.weights(), LAYERS[:1], Key(0)) == {"layer0.A": [1.0, 1.0, 1.0]}
    assert math.isclose(mean_tokens(loss), 1.0)
    assert math.isclose(mean_tokens(TokenLoss.make(3, 5)), 4.0)
