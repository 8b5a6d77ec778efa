"""The residual guess takes a block's product a few examples at a time: the same gradient, a smaller peak."""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial

import pytest
import torch
from tests.estimators.test_residual import GUESSES, setting
from tests.models.conftest import ARCHITECTURES

from spry.core.keys import Key
from spry.estimators.residual import residual
from spry.forward import examples
from spry.measure.meter import tensor_peak
from spry.measure.operations import OperationCounter
from spry.profile import Case
from spry.profile.measure import build_subject
from spry.profile.steps import STEP_BY_METHOD


def calls_of(task):
    """Count the examples of every call of the lowest block's first map."""
    found = []
    task.blocks.maps[0][0].register_forward_hook(lambda _, args, out: found.append(len(args[0])))
    return found


@pytest.fixture
def gradients(monkeypatch):
    """A step's gradient at some number of examples at a time, with no block under the last one on a tape."""
    monkeypatch.setattr("spry.estimators.tape.most_taped", lambda rows, *_: (rows, 0))

    def at(most, loss, weights, guess):
        monkeypatch.setattr(examples, "most_examples", lambda *_: most)
        return residual(guess)(loss, weights, Key(1)).gradient

    return at


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_gradient_is_the_wholes(kind, guess, gradients, tiny_tokenizer, reviews):
    """With padded texts, and both with kept inputs and with a second pass."""
    if kind == "deberta-v2" and guess == "mlp":
        pytest.skip("its attention is written out: refused")
    for depth in (3, 6) if guess == "identity" else (3,):
        task, weights, batch = setting(kind, tiny_tokenizer, reviews, depth=depth)
        seen = calls_of(task)
        assert len(set(batch["attention_mask"].sum(1).tolist())) > 1
        whole = gradients(1 << 20, task.loss(batch, Key(0)), weights, guess)
        assert set(seen) == {len(batch["labels"])}
        for most in (1, 2):
            seen.clear()
            cut = gradients(most, task.loss(batch, Key(0)), weights, guess)
            assert most in seen
            for name, gradient in whole.items():
                torch.testing.assert_close(cut[name], gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ["bert", "llama", "opt", "deberta-v2"])
def test_as_many_texts_as_tokens(kind, gradients, tiny_tokenizer, reviews):
    """Sizes alone do not say which arguments have an entry for each example."""
    task, weights, batch = setting(kind, tiny_tokenizer, reviews)
    square = {
        name: value[: len(value), : len(value)] if value.dim() > 1 else value for name, value in batch.items()
    }
    assert square["input_ids"].shape[0] == square["input_ids"].shape[1]
    seen = calls_of(task)
    whole, cut = (gradients(most, task.loss(square, Key(0)), weights, "identity") for most in (64, 1))
    assert 1 in seen
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("guess", ["identity", "norm"])
def test_blocks_with_dropout_stay_whole(guess, gradients, tiny_tokenizer, reviews):
    task, weights, batch = setting("bert", tiny_tokenizer, reviews, dropout=True)
    seen = calls_of(task)
    whole, cut = (gradients(most, task.loss(batch, Key(7)), weights, guess) for most in (64, 1))
    assert set(seen) == {len(batch["labels"])}
    assert all(torch.equal(cut[name], gradient) for name, gradient in whole.items())


def test_the_peak_is_below_half_of_checkpointings_and_the_operations_stay():
    """At 8 x 64 with BERT's twelve layers, where backpropagation with checkpointing keeps a hidden state of each."""
    case = Case(model="minilm", method="residual", batch=8, length=64, layers=12, repeats=1)
    peaks, operations = {}, {}
    for method in ("inference", "residual", "backprop+checkpointing"):
        subject = build_subject(replace(case, method=method))
        step = partial(STEP_BY_METHOD[method], subject)
        step()
        gc.collect()
        peaks[method] = tensor_peak(step)
        with OperationCounter() as counter:
            step()
        operations[method] = counter.total
    assert peaks["residual"] < 0.5 * peaks["backprop+checkpointing"]
    assert peaks["residual"] < 1.1 * peaks["inference"]
    assert operations["residual"] < operations["backprop+checkpointing"]
