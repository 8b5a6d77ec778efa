"""Activation directions through unmodified models: unbiased on every architecture, whatever is dealt to the client."""

from __future__ import annotations

import math

import pytest
import torch
from spry.estimators.activation import activation, maps, narrow

from spry.core.keys import Key
from spry.core.params import restrict
from spry.estimators.backprop import backprop
from spry.estimators.directions import rademacher
from spry.estimators.projected import Measurement
from spry.models.adapters.lora import Lora, LoraA
from spry.tasks.classification import ClassificationTask

DRAWS = 60


def setting(folder, reviews, method, micro=None):
    task = ClassificationTask(
        str(folder), labels=3, key=Key(3), method=method, dtype=torch.float64, micro_batch_size=micro
    )
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape), like=w) for n, w in task.init().items()}
    loss = task.loss(task.encode(reviews, max_length=16).batch(range(5)), Key(0))
    return task, loss, weights


def flat(tree):
    return torch.cat([v.flatten() for v in tree.values()])


def check_unbiased(estimate, loss, weights):
    """On random projections too, whose z-values the many entries of single weights would drown."""
    true = flat(backprop()(loss, weights, Key(0)).gradient)
    drawn = torch.stack([flat(estimate(loss, weights, Key(i)).gradient) for i in range(DRAWS)])
    looks = torch.stack([true, *(Key(1).normal(f"{i}", (len(true),)).double() for i in range(4))])
    seen, wanted = drawn @ looks.T, looks @ true
    z = (seen.mean(0) - wanted) / (seen.std(0) / math.sqrt(DRAWS))
    assert z.abs().max() < 4.5
    return drawn, true


def test_unbiased_on_every_architecture(folder, reviews):
    task, loss, weights = setting(folder, reviews, LoraA(rank=2))
    head = frozenset(task.units[-1].names)
    estimate = activation(Measurement(directions=rademacher, exact=head), 8)
    drawn, true = check_unbiased(estimate, loss, weights)
    exact = slice(-sum(weights[n].numel() for n in task.units[-1].names), None)
    torch.testing.assert_close(drawn[0][exact], true[exact])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("choice", [maps, narrow])
def test_unbiased_for_a_client_s_slice_of_lora(folder, reviews, choice, kind):
    task, loss, weights = setting(folder, reviews, Lora(rank=2))
    estimate = activation(
        Measurement(directions=rademacher, exact=frozenset(task.units[-1].names)), 4, choice
    )
    own = {**restrict(weights, task.units[1].names), **restrict(weights, task.units[-1].names)}
    check_unbiased(estimate, Fixed(loss, weights), own)


class Fixed:
    def __init__(self, loss, weights):
        self.loss, self.weights, self.mask = loss, weights, loss.mask

    def __call__(self, params, *, checkpoint=False):
        return self.loss({**self.weights, **params}, checkpoint=checkpoint)

    def examples(self, params):
        return self.loss.examples({**self.weights, **params})

    def parts(self):
        return [(share, Fixed(part, self.weights)) for share, part in self.loss.parts()]


@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "gpt2"])
def test_micro_batches_change_nothing(folder, reviews, kind):
    results = []
    for micro in (None, 2):
        _, loss, weights = setting(folder, reviews, LoraA(), micro)
        results.append(activation(Measurement(directions=rademacher), 2)(loss, weights, Key(0)).gradient)
    torch.testing.assert_close(flat(results[1]), flat(results[0]))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_model_s_own_examples_have_the_mean_loss(folder, reviews, kind):
    for micro in (None, 2):
        _, loss, weights = setting(folder, reviews, Lora(), micro)
        losses = loss.examples(weights)
        assert losses.shape == (5,)
        torch.testing.assert_close(losses.mean(), loss(weights))


def test_a_probe_is_a_batch_of_its_own_key(folder, reviews):
    task, *_ = setting(folder, reviews, Lora())
    probe, again, other = (task.probe(Key(seed), examples=6, tokens=8) for seed in (0, 0, 1))
    assert len(probe["labels"]) == 6
    assert int(probe["labels"].max()) < 3
    assert 1 <= probe["attention_mask"].sum(1).min() <= probe["attention_mask"].sum(1).max() <= 16
    assert all(torch.equal(probe[name], again[name]) for name in probe)
    assert any(probe[name].shape != other[name].shape or not probe[name].equal(other[name]) for name in probe)
