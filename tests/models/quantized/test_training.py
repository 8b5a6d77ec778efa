"""A task on a packed base has the loss, slopes and gradients of the same task on the dequantised base."""

from __future__ import annotations

import pytest
import torch

from spry.core.keys import Key
from spry.core.params import dot
from spry.estimators.backprop import backprop
from spry.estimators.residual import residual
from spry.forward import jvp, track_fallbacks
from spry.models.adapters import BitFit, Ia3, Lora
from spry.models.quantized.layers import dequantize, has_packed
from spry.tasks.classification import ClassificationTask
from tests.models.quantized.conftest import PACKED, SIZES, tiny

LORA = Lora(rank=2)
every = pytest.mark.parametrize(("model", "kind"), PACKED)


def unpacked(folder, kind, tiny_tokenizer, adapter, packed_in=torch.float32, **settings):
    """The same task on a model whose packed layers were replaced by plain ones of the same numbers."""
    from spry.models.load import load_model

    loaded = load_model(str(folder), labels=3, key=Key(3).fold("head"), dtype=packed_in, quantization=kind)
    base = dequantize(loaded.model, torch.float32).float()
    assert not has_packed(base)
    return ClassificationTask(
        base, labels=3, key=Key(3), adapter=adapter, tokenizer=tiny_tokenizer, **settings
    )


def pair(folder, kind, tiny_tokenizer, reviews, adapter=LORA, **settings):
    """Losses on both bases, and weights away from the start."""
    task = ClassificationTask(
        str(folder), labels=3, key=Key(3), adapter=adapter, quantization=kind, **settings
    )
    assert has_packed(task.module)
    plain = unpacked(folder, kind, tiny_tokenizer, adapter, **settings)
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    losses = [t.loss(t.encode(reviews, max_length=16).batch(range(5)), Key(0)) for t in (task, plain)]
    return *losses, weights


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4 * scale + 1e-7)


@every
def test_slopes_and_gradients(folder, kind, tiny_tokenizer, reviews):
    packed, plain, weights = pair(folder, kind, tiny_tokenizer, reviews)
    exact = backprop()(plain, weights, Key(0))
    for checkpoint in (False, True):
        found = backprop(checkpoint)(packed, weights, Key(0))
        assert found.value == pytest.approx(exact.value, rel=1e-5)
        close(found.gradient, exact.gradient)
    directions = [{n: Key(k).normal(n, tuple(w.shape)) for n, w in weights.items()} for k in range(2)]
    with track_fallbacks() as report:
        value, slopes = jvp(packed, weights, directions)
    assert not report.fallbacks
    assert float(value) == pytest.approx(exact.value, rel=1e-5)
    assert slopes.tolist() == pytest.approx([dot(exact.gradient, v) for v in directions], rel=1e-3)


@every
@pytest.mark.parametrize("guess", ["identity", "norm", "mlp", "full"])
def test_the_residual_guess(folder, kind, guess, tiny_tokenizer, reviews):
    packed, plain, weights = pair(folder, kind, tiny_tokenizer, reviews)
    found, exact = (residual(guess)(loss, weights, Key(0)) for loss in (packed, plain))
    assert found.value == pytest.approx(exact.value, rel=1e-5)
    close(found.gradient, exact.gradient)


@pytest.mark.parametrize("model", ["llama", "bert"])
@pytest.mark.parametrize("kind", ["nf4", "int4"])
def test_the_last_block_is_exact(folder, kind, tiny_tokenizer, reviews):
    packed, plain, weights = pair(folder, kind, tiny_tokenizer, reviews, exact="last_block")
    task = packed.task
    block = next(unit for unit in task.units if unit.last_block)
    moved = {n: w for n, w in weights.items() if n not in block.names}
    leaves = {n: weights[n].clone().requires_grad_() for n in block.names}
    value, _ = jvp(lambda p: packed({**weights, **p, **leaves}), moved, [moved])
    found = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
    exact = backprop()(plain, weights, Key(0)).gradient
    close(found, {n: exact[n] for n in found})


@pytest.mark.parametrize("model", ["bert"])
@pytest.mark.parametrize("kind", ["nf4", "int8", "int4"])
@pytest.mark.parametrize("adapter", [Ia3(), BitFit()], ids=["ia3", "bitfit"])
def test_other_adapters(folder, kind, adapter, tiny_tokenizer, reviews):
    packed, plain, weights = pair(folder, kind, tiny_tokenizer, reviews, adapter)
    exact = backprop()(plain, weights, Key(0))
    close(backprop()(packed, weights, Key(0)).gradient, exact.gradient)
    _, slopes = jvp(packed, weights, [weights])
    assert float(slopes[0]) == pytest.approx(dot(exact.gradient, weights), rel=1e-4)


@pytest.mark.parametrize("kind", ["nf4", "int8", "int4"])
def test_bfloat16_computes_in_bfloat16_and_keeps_trained_weights_wide(folder, kind, tiny_tokenizer, reviews):
    half, wide = (
        pair(folder, kind, tiny_tokenizer, reviews, dtype=torch.bfloat16)[0],
        unpacked(folder, kind, tiny_tokenizer, LORA, packed_in=torch.bfloat16),
    )
    weights = half.task.init()
    assert {w.dtype for w in weights.values()} == {torch.float32}
    batch = wide.encode(reviews, max_length=16).batch(range(5))
    with torch.no_grad():
        found, exact = half.task.logits(weights, batch), wide.logits(weights, batch)
    assert (found - exact).abs().max() <= 2**-5 * exact.abs().max()


@pytest.mark.parametrize("model", list(SIZES))
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_model_given_as_an_object_is_packed_as_its_files_are(folder, model, kind, tiny_tokenizer):
    from transformers import AutoModelForSequenceClassification

    from spry.models.load import load_model

    read = load_model(str(folder), labels=3, key=Key(3), quantization=kind)
    given = AutoModelForSequenceClassification.from_config(read.model.config)
    given.base_model.load_state_dict(tiny(model).state_dict())
    packed = load_model(given, labels=3, key=Key(3), quantization=kind, tokenizer=tiny_tokenizer)
    ids = torch.arange(12).view(2, 6) + 4
    with torch.no_grad():
        torch.testing.assert_close(
            packed.model.base_model(ids)[0], read.model.base_model(ids)[0], rtol=0, atol=0
        )
