"""The guess that keeps all: one gradient, on a tape of all rows, of one at a time, or block by block without one."""

from __future__ import annotations

import gc

import pytest
import torch
from tests.estimators.test_residual import DEPTH, block_of, close, setting

from spry.core.keys import Key
from spry.data.dataset import Dataset
from spry.estimators.backprop import backprop
from spry.estimators.residual import residual
from spry.forward import chunking
from spry.measure.meter import tensor_peak
from spry.measure.operations import OperationCounter

ALL, ONE_ROW, TWO_BLOCKS, NO_TAPE = (64, DEPTH), (1, DEPTH), (2, 2), (64, 0)
"""Rows, and blocks under the last one, on a tape."""
KINDS = ["bert", "llama", "gpt_neox", "gpt2", "albert", "deberta-v2"]


@pytest.fixture
def step(monkeypatch):
    """A step with a tape of so many rows and blocks at most."""

    def at(tape, loss, weights, blocks_per_step="all", key=1):
        rows, deep = tape
        monkeypatch.setattr("spry.estimators.tape.most_taped", lambda *asked: (rows, min(deep, asked[2])))
        return residual("full", blocks_per_step)(loss, weights, Key(key))

    return at


@pytest.mark.parametrize("tape", [ALL, ONE_ROW, TWO_BLOCKS, NO_TAPE])
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_gives_autograds_gradient(kind, tape, step, tiny_tokenizer, reviews):
    """Padded texts of several lengths, of one class or more."""
    task, weights, batch = setting(kind, tiny_tokenizer, reviews)
    loss = task.loss(batch, Key(0))
    found, true = step(tape, loss, weights), backprop()(loss, weights, Key(1))
    assert found.value == pytest.approx(true.value, abs=1e-12)
    assert found.gradient.keys() == true.gradient.keys()
    for name, gradient in found.gradient.items():
        close(gradient, true.gradient[name])


@pytest.mark.parametrize("tape", [ALL, ONE_ROW, TWO_BLOCKS, NO_TAPE])
@pytest.mark.parametrize("kind", ["bert", "llama", "albert"])
def test_a_slice_or_a_drawn_step_gets_what_the_whole_gets(kind, tape, step, tiny_tokenizer, reviews):
    task, weights, batch = setting(kind, tiny_tokenizer, reviews)
    whole = step(ALL, task.loss(batch, Key(0)), weights).gradient
    for key in range(4):
        part = step(tape, task.loss(batch, Key(0)), weights, 2, key).gradient
        assert part.keys() <= whole.keys()
        if kind != "albert":  # whose weights get a part of their sum
            for name, gradient in part.items():
                close(gradient, whole[name])
    for owned in ({0}, {1, 3}, {DEPTH}, set()) if kind != "albert" else ():
        own = {name: weight for name, weight in weights.items() if block_of(task, name) in owned}
        base = {name: weight for name, weight in weights.items() if name not in own}
        part = step(tape, task.loss(batch, Key(0), base), own)
        assert part.gradient.keys() == own.keys()
        for name in own:
            close(part.gradient[name], whole[name])


def test_calls_of_a_shared_block_that_are_drawn_are_those_of_the_way_without_a_tape(
    step, tiny_tokenizer, reviews
):
    task, weights, batch = setting("albert", tiny_tokenizer, reviews)
    loss = task.loss(batch, Key(0))
    for key in range(8):
        one, *others = (step(tape, loss, weights, 2, key).gradient for tape in (ALL, TWO_BLOCKS, NO_TAPE))
        for name in one:
            for other in others:
                close(one[name], other[name])


@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_a_smaller_micro_batch_stays(at_once, step, tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    seen = []
    task.blocks.maps[0][0].register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    task.micro_batch_size = at_once
    step((2, DEPTH), task.loss(batch, Key(0)), weights)
    assert max(seen) == min(2, at_once or 2)
    assert sum(seen) == len(batch["labels"])


def test_dropout_acts_and_its_masks_are_the_losss(step, tiny_tokenizer, reviews):
    """Where all rows are on one tape, the gradient is autograd's of the same masks; the key decides otherwise, too."""
    task, weights, batch = setting("bert", tiny_tokenizer, reviews, dropout=True)
    loss = task.loss(batch, Key(7))
    true = backprop()(loss, weights, Key(1))
    assert step(ALL, loss, weights).value == pytest.approx(true.value, abs=1e-12)
    one, again, other = (step(ONE_ROW, task.loss(batch, Key(k)), weights) for k in (7, 7, 8))
    assert one.value == again.value != other.value


def long(tiny_tokenizer, count=8):
    dataset = Dataset(
        name="long",
        texts=["a good film " * 12] * count,
        labels=[i % 2 for i in range(count)],
        label_names=("a", "b", "c"),
    )
    wide = {"hidden_size": 96, "intermediate_size": 384}
    task, weights, batch = setting("bert", tiny_tokenizer, dataset, length=32, wide=wide)
    assert task.blocks.state_bytes == 96 * 8
    return task.loss(batch, Key(0)), weights


def test_nothing_is_computed_twice(step, tiny_tokenizer):
    """Two thirds of checkpointing's operations and less, for the last block runs for the rows that are read."""
    loss, weights = long(tiny_tokenizer)

    def operations(run):
        run()  # finds the blocks
        with OperationCounter() as counter:
            run()
        return counter.total

    rival = operations(lambda: backprop(checkpoint=True)(loss, weights, Key(1)))
    assert operations(lambda: step(ALL, loss, weights)) < 0.65 * rival
    assert operations(lambda: step(ONE_ROW, loss, weights)) < 0.65 * rival
    assert 0.65 * rival < operations(lambda: step(NO_TAPE, loss, weights)) < rival


def test_the_tape_is_bounded_whatever_the_batch(monkeypatch, tiny_tokenizer):
    """It takes what is allowed for whatever the batch, or half of what checkpointing takes."""

    def peak(count, estimator):
        loss, weights = long(tiny_tokenizer, count)
        estimator(loss, weights, Key(1))
        gc.collect()
        return tensor_peak(lambda: estimator(loss, weights, Key(1)))

    row = chunking.TAPE_STATES * (DEPTH - 1) * 32 * 96 * 8
    monkeypatch.setattr(chunking, "TAPE", {"cpu": 16 * row, "cuda": 0})
    assert peak(16, residual("full")) > 1.5 * peak(16, backprop(checkpoint=True))
    monkeypatch.setattr(chunking, "TAPE", {"cpu": 0, "cuda": 0})
    for count in (8, 16):
        assert peak(count, residual("full")) < 0.6 * peak(count, backprop(checkpoint=True))


@pytest.mark.parametrize(
    ("rows", "tokens", "blocks", "found"),
    [
        (8, 40, 5, (8, 5)),  # MiniLM's short texts: all at once
        (8, 512, 5, (1, 5)),
        (1, 40, 5, (1, 5)),
        (8, 512, 64, (1, 28)),  # a deep model
        (1, 8192, 5, (1, 1)),  # a long text
    ],
)
def test_what_is_on_the_tape(rows, tokens, blocks, found):
    """The hidden states are MiniLM's, 1,536 bytes a token; a tape may have 32 MiB, or half of checkpointing's."""
    assert chunking.most_taped(rows, tokens * 1536, blocks, torch.device("cpu")) == found


def test_a_loss_that_cannot_be_divided_is_computed_block_by_block(step, tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    whole = task.loss(batch, Key(0))

    class Undivided:
        blocks = whole.blocks

        def __call__(self, params, *, checkpoint=False):
            return whole(params, checkpoint=checkpoint)

        def microbatches(self):
            return [(1.0, self)]

    found, true = step(ALL, Undivided(), weights).gradient, backprop()(whole, weights, Key(1)).gradient
    for name, gradient in found.items():
        close(gradient, true[name])


def test_a_loss_that_is_no_number_gives_gradients_that_are_none(step, tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    bad = {name: weight * float("nan") for name, weight in weights.items()}
    found = step(ONE_ROW, task.loss(batch, Key(0)), bad)
    assert found.value != found.value
    assert any(torch.isnan(gradient).any() for gradient in found.gradient.values())
