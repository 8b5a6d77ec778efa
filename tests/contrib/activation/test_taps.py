"""Activation directions through unmodified models: unbiased on every architecture, whatever is dealt to the client."""

from __future__ import annotations

import math

import pytest
import torch
from tests.laws import problem
from tests.models.setting import setting

from spry.contrib.activation.estimator import activation, maps, narrow, places
from spry.contrib.lora_frozen_b import LoraA
from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import restrict
from spry.estimators.backprop import backprop
from spry.models.adapters import Lora

DRAWS = 60


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
    estimate = activation(head, 8, maps, tied=False)
    drawn, true = check_unbiased(estimate, loss, weights)
    exact = slice(-sum(weights[n].numel() for n in task.units[-1].names), None)
    torch.testing.assert_close(drawn[0][exact], true[exact])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("choice", [maps, narrow])
def test_unbiased_for_a_client_s_slice_of_lora(folder, reviews, choice, kind):
    task, loss, weights = setting(folder, reviews, Lora(rank=2))
    estimate = activation(task.units[-1].names, 4, choice, tied=False)
    own = {**restrict(weights, task.units[1].names), **restrict(weights, task.units[-1].names)}
    check_unbiased(estimate, Fixed(loss, weights), own)


class Fixed:
    def __init__(self, loss, weights):
        self.loss, self.weights, self.mask = loss, weights, loss.mask

    def __call__(self, params, *, checkpoint=False):
        return self.loss({**self.weights, **params}, checkpoint=checkpoint)

    def examples(self, params):
        return self.loss.examples({**self.weights, **params})

    def microbatches(self):
        return [(share, Fixed(part, self.weights)) for share, part in self.loss.microbatches()]


@pytest.mark.parametrize("kind", ["bert", "deberta-v2", "gpt2"])
def test_micro_batches_change_nothing(folder, reviews, kind):
    results = []
    for micro in (None, 2):
        _, loss, weights = setting(folder, reviews, LoraA(), micro)
        results.append(activation((), 2, tied=False)(loss, weights, Key(0)).gradient)
    torch.testing.assert_close(flat(results[1]), flat(results[0]))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_model_s_own_examples_have_the_mean_loss(folder, reviews, kind):
    for micro in (None, 2):
        _, loss, weights = setting(folder, reviews, Lora(), micro)
        losses = loss.examples(weights)
        assert losses.shape == (5,)
        torch.testing.assert_close(losses.mean(), loss(weights))


@pytest.mark.parametrize("kind", ["bert"])
def test_one_token_a_place_is_unbiased_also_tied(folder, reviews, kind):
    """Texts of three tokens have one token at each place: tied and untied are then the same estimator."""
    task, _, weights = setting(folder, reviews, LoraA(rank=2))
    short = task.encode(reviews, max_length=3).batch(range(5))
    loss = task.loss(short, Key(0))
    check_unbiased(activation(task.units[-1].names, 8), loss, weights)


def test_places_are_first_last_and_between():
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0]])
    first, last, between = places(mask).unbind(-1)
    assert first.tolist() == [[True, *[False] * 4], [True, *[False] * 4], [False, True, *[False] * 3]]
    assert last.nonzero().tolist() == [[0, 3], [2, 2]]
    assert between.nonzero().tolist() == [[0, 1], [0, 2]]


def test_a_loss_that_tells_no_examples_apart_is_refused():
    class Whole:
        def __call__(self, params, *, checkpoint=False):
            return problem.ProblemLoss(problem.batch(0))(params)

        def microbatches(self):
            return [(1.0, self)]

    with pytest.raises(ModelError, match="losses of single examples"):
        activation()(Whole(), problem.weights(), Key(0))
