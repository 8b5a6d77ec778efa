"""How well the residual guess points, block by block, on three shapes of residual blocks: recorded, and kept."""

from __future__ import annotations

import pytest
import torch

from spry.core.keys import Key
from spry.estimators.backprop import backprop
from spry.estimators.residual import residual
from tests.estimators.test_residual import DEPTH, block_of, setting

BERT, LLAMA, NEOX = "bert", "llama", "gpt_neox"
"""Norms after the sum, norms before it, and attention beside the MLP."""
RECORDED = {
    (BERT, "identity"): [0.6827, 0.9594, 0.9795, 0.9284],
    (BERT, "norm"): [0.7645, 0.9705, 0.9651, 0.9094],
    (BERT, "mlp"): [0.8477, 0.9020, 0.9895, 0.9176],
    (LLAMA, "identity"): [0.1759, 0.3993, 0.5874, 0.9491],
    (LLAMA, "norm"): [0.1759, 0.3993, 0.5874, 0.9491],
    (LLAMA, "mlp"): [0.4591, 0.7548, 0.2903, 0.9547],
    (NEOX, "identity"): [0.6343, 0.4139, 0.8834, 0.7013],
    (NEOX, "norm"): [0.6343, 0.4139, 0.8834, 0.7013],
    (NEOX, "mlp"): [0.8458, 0.9523, 0.9731, 0.8502],
}
"""Of the blocks that are not exact, the lowest first. With norms before the sum, norm is identity."""


def cosines(kind, guess, tokenizer, dataset):
    """Of each block's guess with autograd's gradient, the lowest block first."""
    task, weights, batch = setting(kind, tokenizer, dataset)
    loss = task.loss(batch, Key(0))
    found, true = (make(loss, weights, Key(1)).gradient for make in (residual(guess), backprop()))
    names = [[name for name in weights if block_of(task, name) == index] for index in range(DEPTH)]
    flat = [[torch.cat([g[name].flatten() for name in own]) for own in names] for g in (found, true)]
    return [float(torch.cosine_similarity(one, other, dim=0)) for one, other in zip(*flat, strict=True)]


@pytest.mark.parametrize(("kind", "guess"), RECORDED)
def test_the_cosines_are_those_that_were_recorded(kind, guess, tiny_tokenizer, reviews):
    """On tiny random models, whose blocks change their input more than trained ones do; trained ones: research/."""
    found = cosines(kind, guess, tiny_tokenizer, reviews)
    assert found == pytest.approx([*RECORDED[kind, guess], 1, 1], abs=1e-3)
    assert found[-2:] == pytest.approx([1, 1], abs=1e-6)
