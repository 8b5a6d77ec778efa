from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from spry.core.keys import Key
from spry.forward.dropout import dropout
from spry.forward.functional import call
from spry.forward.recall import training
from spry.models.adapt import adapt
from spry.models.adapters.lora import Lora
from spry.models.checkpointing import prepare, recomputing

INPUTS = {
    "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]),
    "attention_mask": torch.tensor([[1] * 4, [1] * 3 + [0]]),
}


@pytest.fixture
def module(backbone):
    """An adapted, prepared tiny model in float64."""
    module = adapt(backbone, Lora(rank=2, dropout=0.2), Key(0)).module.double()
    assert prepare(module) >= 1
    return module


def trainables(module) -> dict[str, torch.Tensor]:
    """Weights that differ from the module's own, so that a recompute with those would be found out."""
    found = {n: p for n, p in module.named_parameters() if "lora_" in n or "modules_to_save" in n}
    return {
        n: (p + 0.3 * Key(1).normal(n, tuple(p.shape), like=p)).requires_grad_() for n, p in found.items()
    }


def gradient(module, context) -> list[torch.Tensor]:
    weights = trainables(module)
    with context:
        loss = call(module, weights, **INPUTS).logits.square().sum()
    return list(torch.autograd.grad(loss, list(weights.values())))


def test_the_gradient_is_that_without_checkpointing(module):
    plain = gradient(module, torch.enable_grad())
    for found, expected in zip(gradient(module, recomputing()), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert any(value.any() for value in plain)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "opt"])
def test_the_gradient_is_that_without_checkpointing_under_dropout(module):
    def with_masks(checkpoint: bool) -> list[torch.Tensor]:
        weights = trainables(module)
        with training(module), dropout(Key(4)) as masks:
            if checkpoint:
                with recomputing():
                    loss = call(module, weights, **INPUTS).logits.square().sum()
            else:
                loss = call(module, weights, **INPUTS).logits.square().sum()
        assert masks.count > 0
        return list(torch.autograd.grad(loss, list(weights.values())))

    for found, expected in zip(with_masks(True), with_masks(False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not any(child.training for child in module.modules())


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_fewer_tensors_are_kept_for_the_backward_pass(module):
    def kept(context) -> int:
        sizes: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t)
        with context, hooks:
            call(module, trainables(module), **INPUTS)
        return sum(sizes)

    assert kept(recomputing()) < 0.5 * kept(torch.enable_grad())


@pytest.mark.parametrize("kind", ["bert"])
def test_a_copy_of_a_prepared_model_stands_alone(module):
    copy = deepcopy(module)
    with torch.no_grad():
        for weight in copy.parameters():
            weight.zero_()
        assert not call(copy, {}, **INPUTS).logits.any()
        assert call(module, {}, **INPUTS).logits.any()


@pytest.mark.parametrize("kind", ["bert"])
def test_training_mode_is_put_back_as_it_was(module):
    odd = next(child for child in module.modules() if isinstance(child, torch.nn.Dropout))
    odd.training = True
    before = [child.training for child in module.modules()]
    with pytest.raises(ZeroDivisionError), training(module):
        assert all(child.training for child in module.modules())
        _ = 1 / 0
    assert [child.training for child in module.modules()] == before
