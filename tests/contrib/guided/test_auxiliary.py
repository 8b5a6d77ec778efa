"""Local auxiliary heads against autograd: a pass whose blocks' inputs are cut, and the sum of all local losses."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
import torch.nn.functional as F
from tests.estimators.test_residual import DEPTH, block_of, close, setting

from spry.contrib.guided import auxiliary, fit_heads
from spry.contrib.guided.auxiliary import read_tokens
from spry.core.keys import Key
from spry.estimators.backprop import backprop


def fitted(task, weights, encoded, position="first"):
    """Heads from batches of two, of a data set in which each class is there."""
    losses = [task.loss(encoded[at], Key(0)) for at in range(len(encoded))]
    return fit_heads(losses, weights, classes=3, position=position)


def halves(batch):
    return [{name: value[at] for name, value in batch.items()} for at in (slice(0, 2), slice(2, None))]


def local_losses(task, weights, batch, heads, key):
    """The sum of the blocks' own losses, with autograd's graph cut at every block's input."""
    outputs = []

    def cut(module, args, kwargs):
        args = (args[0].detach(), *args[1:]) if args else args
        return args, {n: v.detach() if n == "hidden_states" else v for n, v in kwargs.items()}

    def note(module, args, output):
        outputs.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as stack:
        for block in task.blocks.modules:
            stack.callback(block.register_forward_pre_hook(cut, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(note).remove)
        task.loss(batch, key)(weights)
    read = [torch.arange(len(batch["labels"])), torch.zeros(len(batch["labels"]), dtype=torch.long)]
    if heads.position == "last":
        read[1] = batch["attention_mask"].sum(1) - 1
    pairs = zip(outputs[: DEPTH - 1], heads.heads, strict=True)
    return sum(F.cross_entropy(F.linear(out[*read], *head), batch["labels"]) for out, head in pairs)


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize(("kind", "position"), [("bert", "first"), ("llama", "last"), ("gpt_neox", "last")])
def test_below_are_the_gradients_of_local_losses_and_above_the_exact_ones(
    kind, position, dropout, tiny_tokenizer, reviews
):
    task, weights, batch = setting(kind, tiny_tokenizer, reviews, dropout=dropout)
    batch = {**batch, "labels": torch.arange(len(batch["labels"])) % 3}
    heads = fitted(task, weights, [batch], position)
    found = auxiliary(heads)(task.loss(batch, Key(7)), weights, Key(1))
    true = backprop()(task.loss(batch, Key(7)), weights, Key(1))
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    local = local_losses(task, leaves, batch, heads, Key(7))
    below = [name for name in weights if block_of(task, name) < DEPTH - 1]
    for name, gradient in zip(
        below, torch.autograd.grad(local, [leaves[name] for name in below]), strict=True
    ):
        close(found.gradient[name], gradient)
    assert found.value == pytest.approx(true.value, abs=1e-12)
    assert found.gradient.keys() == weights.keys()
    for name in weights.keys() - set(below):
        close(found.gradient[name], true.gradient[name])


def test_micro_batches(tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    batch = {**batch, "labels": torch.arange(len(batch["labels"])) % 3}
    heads = fitted(task, weights, [batch])
    whole = auxiliary(heads)(task.loss(batch, Key(0)), weights, Key(1)).gradient
    task.micro_batch_size = 1
    parts = auxiliary(heads)(task.loss(batch, Key(0)), weights, Key(1)).gradient
    for name, gradient in whole.items():
        close(parts[name], gradient)


def test_heads_are_those_of_all_batches_together(tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    batch = {**batch, "labels": torch.arange(len(batch["labels"])) % 3}
    whole, parts = fitted(task, weights, [batch]), fitted(task, weights, halves(batch))
    assert len(whole.heads) == DEPTH - 1
    for one, other in zip(whole.heads, parts.heads, strict=True):
        close(one.weight, other.weight)
        close(one.bias, other.bias)


def test_a_text_is_read_at_its_last_token_before_padding():
    batch = {"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])}
    assert read_tokens(batch, "last")[1].tolist() == [1, 2, 0]
    assert read_tokens(batch, "first")[1].tolist() == [0, 0, 0]


def test_without_weights_below_it_is_the_exact_top(tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    labelled = {**batch, "labels": torch.arange(len(batch["labels"])) % 3}
    heads = fitted(task, weights, [labelled])
    top = {name: weight for name, weight in weights.items() if block_of(task, name) >= DEPTH - 1}
    base = {name: weight for name, weight in weights.items() if name not in top}
    found = auxiliary(heads)(task.loss(batch, Key(0), base), top, Key(1)).gradient
    true = backprop()(task.loss(batch, Key(0), base), top, Key(1)).gradient
    for name in top:
        close(found[name], true[name])
