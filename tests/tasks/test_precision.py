"""Trained weights are float32 masters whatever the model computes in, so that small steps are not rounded away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from spry.core.keys import Key
from spry.core.params import add, dot, tree_map
from spry.estimators.backprop import backprop
from spry.estimators.exact import exact_head
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import central_difference, forward_mode
from spry.models.adapters import BitFit, Ia3, Lora, Norm, Vera
from spry.optim.rules import adamw
from spry.tasks.classification import ClassificationTask
from tests.laws.problem import gradient

ADAPTERS = {"lora": Lora(rank=2), "vera": Vera(rank=4), "ia3": Ia3(), "bitfit": BitFit(), "norm": Norm()}
HALF = [torch.bfloat16, torch.float16]


def half(tiny_model, reviews, dtype, adapter, exact="head"):
    task = ClassificationTask(
        str(tiny_model), labels=reviews.label_names, key=Key(3), adapter=adapter, dtype=dtype, exact=exact
    )
    loss = task.loss(task.encode(reviews, max_length=16).batch(range(5)), Key(0))
    return task, loss, task.init()


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ADAPTERS)
def test_masters_are_float32_or_wider_and_the_module_keeps_its_type(name, dtype, tiny_model, reviews):
    task, _, weights = half(tiny_model, reviews, dtype, ADAPTERS[name])
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {w.dtype for w in weights.values()} == {wide}
    assert task.module.get_parameter(task.units[-1].names[0]).dtype == dtype


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ADAPTERS)
def test_small_steps_move_every_weight_that_has_a_gradient(name, dtype, tiny_model, reviews, tmp_path):
    """AdamW at 1e-5: a thousandth of bfloat16's resolution near 1. In float16 its eps of 1e-8 would be zero."""
    task, loss, weights = half(tiny_model, reviews, dtype, ADAPTERS[name])
    start, optimizer = weights, adamw(1e-5, weight_decay=0.0)
    state = optimizer.init(weights)
    for _ in range(3):
        found = backprop()(loss, weights, Key(0)).gradient
        assert {g.dtype for g in found.values()} == {torch.float32}
        updates, state = optimizer.update(found, state, weights)
        weights = add(weights, updates)
    for n, w in weights.items():
        assert torch.isfinite(w).all()
        assert ((w != start[n]) == (found[n] != 0)).float().mean() > 0.99
    task.save_adapter(weights, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    head = next(value for name, value in saved.items() if name.endswith("classifier.weight"))
    assert torch.equal(
        head, weights[next(n for n in weights if n.endswith("classifier.modules_to_save.default.weight"))]
    )


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("exact", ["head", "last_block"])
@pytest.mark.parametrize("how", [forward_mode, central_difference(1e-2)])
def test_slopes_and_exact_gradients_agree_with_autograd_within_rounding(
    how, exact, dtype, tiny_model, reviews
):
    task, loss, weights = half(tiny_model, reviews, dtype, Lora(rank=2), exact)
    weights = tree_map(lambda w: w + 0.3 * Key(5).normal("w", tuple(w.shape), like=w), weights)
    loss = replace(loss, base=weights)
    wanted = gradient(loss, weights)  # by torch's autograd, in the same half precision
    spec = SlopeSpec(exact=frozenset(task.units[-1].names))
    found = projected(how, spec)(loss, weights, Key(1))
    (v,) = spec.draw(Key(1), weights, 1)
    slope = dot({n: wanted[n] for n in v}, v)
    scale = dot(v, v) ** 0.5 * dot(wanted, wanted) ** 0.5
    assert float(found.slopes[0]) == pytest.approx(slope, abs=0.05 * scale)
    for estimate in (found, exact_head()(loss, {n: weights[n] for n in spec.exact}, Key(1))):
        for n in spec.exact:
            torch.testing.assert_close(
                estimate.gradient[n], wanted[n], rtol=0.1, atol=0.02 * float(wanted[n].abs().max())
            )
