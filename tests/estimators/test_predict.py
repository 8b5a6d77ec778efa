"""Predicted errors against measured ones, and the length at which they cross."""

from __future__ import annotations

import pytest
import torch
from tests.estimators import tokens
from tests.estimators.test_activation import Bound
from tests.estimators.tokens import DEPTH, TokenLoss
from tests.laws import problem

from spry.core.keys import Key
from spry.estimators.activation import activation, maps
from spry.estimators.directions import gaussian, rademacher
from spry.estimators.predict import Prediction, predict, shorter
from spry.estimators.projected import Measurement, projected
from spry.estimators.slopes import forward_mode

NAMES = [f"layer{i}.A" for i in range(DEPTH)]


def error(estimate, loss, w, name, draws=200):
    """The relative squared error for one map alone in its slice."""
    bound, own = Bound(loss, {n: v for n, v in w.items() if n != name}), {name: w[name]}
    true = tokens.gradient(bound, own)[name]
    found = [estimate(bound, own, Key(i)).gradient[name] - true for i in range(draws)]
    return float(torch.stack(found).square().sum((1, 2)).mean() / true.square().sum())


@pytest.mark.parametrize("amplitudes", [None, {name: [4.0, 1.0, 2.0] for name in NAMES}])
@pytest.mark.parametrize(("examples", "length", "micro"), [(4, 5, None), (5, 4, 2)])
def test_predictions_are_what_is_measured(examples, length, micro, amplitudes):
    loss, w = TokenLoss.make(examples, length, micro), tokens.weights()
    found = predict(loss, w, NAMES, Key(0), amplitudes)
    for name in NAMES[:1]:
        tap = activation(Measurement(directions=gaussian), 1, maps, amplitudes)
        whole = TokenLoss.make(examples, length)
        measured = error(tap, whole, w, name)
        assert found[name].activation + 1 / examples == pytest.approx(measured, rel=0.4, abs=1.0)
        along = projected(forward_mode, Measurement(directions=rademacher), 1)
        assert found[name].weight - 1 == pytest.approx(error(along, whole, w, name), rel=0.3)
        assert found[name].tokens == pytest.approx(float(loss.mask.sum()) / examples)


def test_the_limit_is_where_the_errors_cross():
    one = Prediction(tokens=10.0, weight=400.0, activation=50.0, inputs=384)
    assert one.limit == pytest.approx(80)
    assert Prediction(10.0, 400.0, float("nan"), 384).limit == 384
    w = {"a": torch.zeros(2, 4), "b": torch.zeros(2, 4), "c": torch.zeros(2, 4), "bias": torch.zeros(4)}
    choice = shorter({"a": one, "b": Prediction(10.0, 400.0, 500.0, 384)})
    assert choice(w, 7.0) == ["a", "b"]
    assert choice(w, 20.0) == ["a"]
    assert choice(w, 80.0) == []


def test_weights_that_are_zero_are_woken():
    """LoRA's A has no gradient while B is zero, so nothing could be measured there."""
    loss, w = problem.ProblemLoss(problem.batch(0)), problem.weights()
    asleep = {n: torch.zeros_like(v) if n.endswith("B") else v for n, v in w.items()}
    found = predict(loss, asleep, ["layer0.A", "layer1.B"], Key(0))
    assert all(0 < one.activation < float("inf") for one in found.values())


def test_where_there_are_no_slopes_the_width_decides():
    class Flat(TokenLoss):
        def examples(self, params):
            return super().examples(params) * 0

    made = TokenLoss.make()
    found = predict(Flat(made.x, made.mask, made.y), tokens.weights(), NAMES[:1], Key(0))
    assert found[NAMES[0]].limit == tokens.D
