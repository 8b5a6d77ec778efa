"""The head's gradient by itself: equal to autograd's over every kind of head and model, without a tape of the rest."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from tests.laws.problem import gradient
from tests.tasks.test_taps import setting
from tests.tasks.test_top import KINDS, long_texts

from spry.core.keys import Key
from spry.estimators.backprop import backprop
from spry.estimators.head import exact_head
from spry.metrics.meter import tensor_peak
from spry.tasks.classification import ClassificationTask
from spry.tasks.kinds.lora import Lora

HEADS = ("layer", "top", "block")


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("micro", [2, 5])
def test_it_is_the_gradient(folder, reviews, name, head, micro, kind):
    task, loss, weights = setting(folder, reviews, replace(KINDS[name], head=head), micro=micro)
    own = {n: weights[n] for n in task.units[-1].names}
    estimate, exact = exact_head()(loss, own, Key(1)), gradient(loss, own)
    precision = {"rtol": 1e-4, "atol": 1e-6} if kind == "llama" else {"rtol": 1e-7, "atol": 1e-10}
    assert estimate.gradient.keys() == own.keys()
    for n in own:
        torch.testing.assert_close(estimate.gradient[n], exact[n], **precision)
    assert estimate.value == pytest.approx(float(loss(own)))
    assert not len(estimate.slopes)


@pytest.mark.parametrize("kind", ["bert"])
def test_weights_that_all_positions_pass_get_theirs_too(folder, reviews):
    _, loss, weights = setting(folder, reviews, KINDS["lora"], micro=5)
    found, exact = exact_head()(loss, weights, Key(1)).gradient, gradient(loss, weights)
    for n in weights:
        torch.testing.assert_close(found[n], exact[n], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_head_of_a_whole_block_takes_little_more_than_the_layer_alone(folder, monkeypatch):
    """Plain backpropagation of the same weights keeps the last block's tape, for all positions."""
    dataset, tokens = long_texts(monkeypatch)
    texts = len(dataset.texts)

    def peak(head, estimator):
        task = ClassificationTask(str(folder), labels=2, key=Key(3), method=Lora(head=head))
        weights = {n: w for n, w in task.init().items() if n in task.units[-1].names}
        loss = task.loss(task.encode(dataset, max_length=tokens).batch(range(texts)), Key(0))
        estimator(loss, weights, Key(1))
        gc.collect()
        return tensor_peak(lambda: estimator(loss, weights, Key(1)))

    layer = peak("layer", backprop())
    assert peak("top", exact_head()) <= 1.05 * layer
    assert peak("block", exact_head()) <= 1.3 * layer < 0.8 * peak("block", backprop())
