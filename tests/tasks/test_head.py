"""The head's gradient by itself: equal to autograd's over every kind of head and model, without a tape of the rest."""

from __future__ import annotations

import gc
from functools import partial

import pytest
import torch

from spry.core.keys import Key
from spry.core.units import exact_names
from spry.estimators.backprop import backprop
from spry.estimators.exact import exact_head
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import central_difference, forward_difference, forward_mode
from spry.measure.meter import tensor_peak
from spry.models.adapters import Lora
from spry.tasks.classification import ClassificationTask
from tests.laws.problem import gradient
from tests.models.setting import setting
from tests.models.test_last_block import long_texts

EXACT = ("head", "last_block")
BESIDE = {
    "forward_mode": partial(projected, forward_mode),
    "central_difference": partial(projected, central_difference(1e-4)),
    "forward_difference": partial(projected, forward_difference(1e-4)),
}
"""Estimators that take the head's gradient exactly, beside directions for the rest."""


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize(("exact_part", "micro"), [("head", 5), ("last_block", 2), ("last_block", 5)])
def test_it_is_the_gradient(folder, reviews, exact_part, micro, kind):
    task, loss, weights = setting(folder, reviews, Lora(rank=2), micro=micro, exact=exact_part)
    own = {n: weights[n] for n in exact_names(task.units)}
    estimate, exact = exact_head()(loss, own, Key(1)), gradient(loss, own)
    precision = {"rtol": 1e-4, "atol": 1e-6} if kind == "llama" else {"rtol": 1e-7, "atol": 1e-10}
    assert estimate.gradient.keys() == own.keys()
    for n in own:
        torch.testing.assert_close(estimate.gradient[n], exact[n], **precision)
    assert estimate.value == pytest.approx(float(loss(own)))
    assert not len(estimate.slopes)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("how", BESIDE)
@pytest.mark.parametrize("exact_part", EXACT)
def test_a_client_dealt_nothing_else_gets_the_gradient(folder, reviews, exact_part, how, kind):
    task, loss, weights = setting(folder, reviews, Lora(rank=2), micro=2, exact=exact_part)
    own = {n: weights[n] for n in exact_names(task.units)}
    estimate, exact = BESIDE[how](measured(own))(loss, own, Key(1)), gradient(loss, own)
    precision = {"rtol": 1e-4, "atol": 1e-6} if kind == "llama" else {"rtol": 1e-7, "atol": 1e-10}
    for n in own:
        torch.testing.assert_close(estimate.gradient[n], exact[n], **precision)
    assert estimate.value == pytest.approx(float(loss(own)))


@pytest.mark.parametrize("kind", ["bert"])
def test_weights_that_all_positions_pass_get_theirs_too(folder, reviews):
    _, loss, weights = setting(folder, reviews, Lora(rank=2), micro=5)
    found, exact = exact_head()(loss, weights, Key(1)).gradient, gradient(loss, weights)
    for n in weights:
        torch.testing.assert_close(found[n], exact[n], rtol=1e-7, atol=1e-10)


def measured(own):
    return SlopeSpec(exact=frozenset(own))


def peak(folder, monkeypatch, exact, how, moved=False):
    """Of the head alone, or with adapters below it that directions move."""
    dataset, tokens = long_texts(monkeypatch)
    task = ClassificationTask(str(folder), labels=2, key=Key(3), adapter=Lora(), exact=exact)
    weights, own = task.init(), exact_names(task.units)
    if not moved:
        weights = {n: weights[n] for n in own}
    loss = task.loss(task.encode(dataset, max_length=tokens).batch(range(len(dataset.texts))), Key(0))
    estimator = how(measured(own))
    estimator(loss, weights, Key(1))
    gc.collect()
    return tensor_peak(lambda: estimator(loss, weights, Key(1)))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_head_of_a_whole_block_takes_little_more_than_the_layer_alone(folder, monkeypatch):
    """Plain backpropagation of the same weights keeps the last block's tape, for all positions."""
    at = partial(peak, folder, monkeypatch)
    layer = at("head", lambda _: backprop())
    assert (
        at("last_block", lambda _: exact_head()) <= 1.3 * layer < 0.8 * at("last_block", lambda _: backprop())
    )


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("how", BESIDE)
def test_so_does_it_where_nothing_else_is_dealt(folder, monkeypatch, how):
    layer = peak(folder, monkeypatch, "head", lambda _: backprop())
    assert peak(folder, monkeypatch, "last_block", BESIDE[how]) <= 1.3 * layer


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("how", ["central_difference", "forward_difference"])
def test_so_does_it_beside_differences(folder, monkeypatch, how):
    """Inference has no tangents: the passes of a difference take what the head's alone does."""
    alone = peak(folder, monkeypatch, "last_block", lambda _: exact_head())
    assert peak(folder, monkeypatch, "last_block", BESIDE[how], moved=True) <= 1.02 * alone


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_both_points_of_a_forward_difference_round_alike(folder, monkeypatch):
    """One point is where the head's gradient is taken, the other not: along nothing they are the same to the bit."""
    dataset, tokens = long_texts(monkeypatch)
    task = ClassificationTask(str(folder), labels=2, key=Key(3), adapter=Lora(), exact="last_block")
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    exact = {n: weights.pop(n) for n in exact_names(task.units)}
    loss = task.loss(task.encode(dataset, max_length=tokens).batch(range(32)), Key(0))
    still = {n: torch.zeros_like(w) for n, w in weights.items()}
    assert not forward_difference(1e-3)(loss, weights, [still], exact).slopes.any()
