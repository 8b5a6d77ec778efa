"""Guided directions against autograd: the estimate is the projection of the exact gradient onto the guess."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.estimators.test_residual import DEPTH, block_of, close, setting

from spry.contrib.guided import along_guess
from spry.core.keys import Key
from spry.core.params import tree_map
from spry.data.dataset import Dataset
from spry.estimators.backprop import backprop
from spry.estimators.residual import residual

PER = ["whole", "block"]


def flat(gradient, names):
    return torch.cat([gradient[name].flatten() for name in names])


def groups(task, weights, per):
    """Names of the weights below the last block, together or block by block."""
    below = [[name for name in weights if block_of(task, name) == index] for index in range(DEPTH - 1)]
    return [[name for names in below for name in names]] if per == "whole" else below


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt_neox"])
def test_of_the_exact_gradient_it_is_the_exact_gradient(kind, per, dropout, tiny_tokenizer, reviews):
    """With dropout too: the slope is measured with the masks that the guess was made with."""
    task, weights, batch = setting(kind, tiny_tokenizer, reviews, dropout=dropout)
    loss = task.loss(batch, Key(7))
    found, true = along_guess(backprop(), per)(loss, weights, Key(1)), backprop()(loss, weights, Key(1))
    assert found.value == pytest.approx(true.value, abs=1e-12)
    assert found.gradient.keys() == true.gradient.keys()
    for name, gradient in true.gradient.items():
        close(found.gradient[name], gradient)


@pytest.mark.parametrize("micro", [None, 1, 2])
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_it_is_the_projection_onto_the_guess(kind, per, micro, tiny_tokenizer, reviews):
    task, weights, batch = setting(kind, tiny_tokenizer, reviews)
    task.micro_batch_size = micro
    loss = task.loss(batch, Key(0))
    guess, true = (make(loss, weights, Key(1)).gradient for make in (residual(), backprop()))
    found = along_guess(residual(), per)(loss, weights, Key(1))
    assert len(found.slopes) == len(groups(task, weights, per))
    for slope, names in zip(found.slopes, groups(task, weights, per), strict=True):
        g, exact = flat(guess, names), flat(true, names)
        close(slope, exact @ g / g.norm())
        close(flat(found.gradient, names), (exact @ g) / (g @ g) * g)
    for name in weights:
        if block_of(task, name) >= DEPTH - 1:
            close(found.gradient[name], true[name])


@pytest.mark.parametrize("per", PER)
def test_a_reversed_guess_has_slopes_of_the_other_sign(per, tiny_tokenizer, reviews):
    """And the same estimate: whatever the guess's sign, a small step against it lowers the loss."""
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    loss = task.loss(batch, Key(0))

    def reversed_guess(loss, params, key):
        found = residual()(loss, params, key)
        return replace(found, gradient=tree_map(torch.neg, found.gradient))

    found, turned = (along_guess(guess, per)(loss, weights, Key(1)) for guess in (residual(), reversed_guess))
    close(turned.slopes, -found.slopes)
    for names in groups(task, weights, per):
        close(flat(turned.gradient, names), flat(found.gradient, names))
    moved = {
        name: weights[name] - 1e-3 * turned.gradient[name]
        for names in groups(task, weights, per)
        for name in names
    }
    assert loss({**weights, **moved}) < loss(weights)


def test_a_guess_of_zero_stays_zero(tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)

    def nothing(loss, params, key):
        found = residual()(loss, params, key)
        lowest = {name for name in params if block_of(task, name) == 0}
        return replace(found, gradient={n: g * (n not in lowest) for n, g in found.gradient.items()})

    found = along_guess(nothing, "block")(task.loss(batch, Key(0)), weights, Key(1))
    assert found.slopes[0] == 0
    assert all(torch.isfinite(g).all() for g in found.gradient.values())


@pytest.mark.parametrize("per", PER)
def test_where_nothing_lies_below_nothing_is_measured(per, tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    top = {name: weight for name, weight in weights.items() if block_of(task, name) >= DEPTH - 1}
    loss = task.loss(batch, Key(0), {name: w for name, w in weights.items() if name not in top})
    found, plain = (make(loss, top, Key(1)) for make in (along_guess(residual(), per), residual()))
    assert found.slopes.shape == (0,)
    assert all(torch.equal(found.gradient[name], plain.gradient[name]) for name in top)


def test_one_text_of_one_token(tiny_tokenizer):
    dataset = Dataset(name="short", texts=["good"], labels=[0], label_names=("a", "b", "c"))
    task, weights, batch = setting("bert", tiny_tokenizer, dataset)
    loss = task.loss(batch, Key(0))
    found, true = (make(loss, weights, Key(1)).gradient for make in (along_guess(backprop()), backprop()))
    for name in weights:
        close(found[name], true[name])
