"""The check passes what is right, and tells what is wrong by unit, module and operation."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch import nn

from spry.core.keys import Key
from spry.core.units import Unit
from spry.forward import call
from spry.forward.check import check


class Opaque(torch.autograd.Function):
    """Right backward, no forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.exp()


class OpaqueLayer(nn.Module):
    def forward(self, x):
        return Opaque.apply(x)


class Wrong(nn.Module):
    """Its derivative differs from what autograd is told."""

    def forward(self, x):
        return x + (x.detach() ** 2)


class Number(nn.Module):
    def forward(self, x):
        return x * float(x.sum())


def model(*middle: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    made = nn.Sequential(nn.Linear(4, 6), nn.GELU(), *middle, nn.Linear(6, 3))
    draw = torch.Generator().manual_seed(0)
    for weight in made.parameters():
        weight.data = torch.randn(weight.shape, generator=draw)
    return made.to(dtype)


def run(module: nn.Module, **options):
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(5, 4, generator=draw), torch.tensor([0, 1, 2, 1, 0])

    def loss(module, params):
        return nn.functional.cross_entropy(call(module, params, x.to(next(iter(params.values())).dtype)), y)

    params = {name: weight.detach() for name, weight in module.named_parameters()}
    layers = dict.fromkeys(name.partition(".")[0] for name in params)
    units = [
        Unit(name=layer, names=tuple(n for n in params if n.startswith(layer + "."))) for layer in layers
    ]
    return check(module, loss, params, units, Key(0), **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_good_model_passes_in_every_dtype(dtype):
    found = run(model(nn.LayerNorm(6), dtype=dtype))
    assert found.passed
    assert [unit.unit for unit in found.units] == ["0", "2", "3"]
    assert all(unit.difference_error < 1e-5 for unit in found.units)
    assert not found.unsupported


def test_without_differences_no_float64_copy_is_made():
    found = run(model(), differences=False)
    assert found.passed
    assert all(unit.difference_error is None for unit in found.units)


def test_the_module_is_unchanged():
    module = model()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    run(module)
    assert all(weight.equal(before[name]) for name, weight in module.state_dict().items())
    assert not any(module._forward_pre_hooks for module in module.modules())


def test_an_operation_without_a_rule_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.erfinv(torch.tanh(x) * 0.5)

    found = run(model(Odd()))
    assert found.passed
    assert "erfinv" in found.fallbacks


def test_a_derivative_that_autograd_is_not_told_shows_in_the_differences_of_the_units_below():
    found = run(model(Wrong()))
    assert not found.passed
    below, above = found.units
    assert below.gradient_error < 1e-4
    assert below.difference_error > 1e-2
    assert not below.passed
    assert above.passed
    assert "detach" in found.dropped


class Dead(nn.Module):
    """Hides the layers below it: its result is zero, and so is its derivative."""

    def forward(self, x):
        return torch.relu(-x.abs())


def test_a_unit_of_which_nothing_can_be_told_is_not_passed():
    found = run(model(Dead()))
    below, above = found.units
    assert found.passed  # half of the units are enough
    assert not dataclasses.replace(found, units=(below, below, above)).passed
    assert below.is_still
    assert not below.passed
    assert above.passed
    assert not above.is_still


class Rounded(nn.Module):
    """Computes in float32 whatever the model's type, and adds and takes away a large number: noise."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        y = x.float() * 0.01
        still = y.detach()
        return ((self.factor * (y - still) + still + 30) - 30).to(x.dtype)


def test_noise_of_the_model_is_no_wrong_slope_and_hides_none():
    noisy = run(model(Rounded()))
    assert noisy.passed, noisy
    assert noisy.units[0].difference_error > 1e-3
    for factor in (1.2, 1.5):
        wrong = run(model(Rounded(factor)))
        assert not wrong.units[0].passed
        assert wrong.units[1].passed


class SingleOnly(nn.Module):
    """Has a kernel for other types than float64 only."""

    def forward(self, x):
        if x.dtype == torch.float64:
            raise RuntimeError("Expected mat_a to be Float32\nmore")
        return x * x


class NotFinite(nn.Module):
    def forward(self, x):
        return x * (torch.nan if x.dtype == torch.float64 else 2.0)


@pytest.mark.parametrize(
    ("layer", "reason"), [(SingleOnly, "Expected mat_a to be Float32$"), (NotFinite, "not finite in float64")]
)
def test_a_model_that_does_not_run_in_float64_is_checked_without_differences(layer, reason):
    found = run(model(layer()))
    assert found.passed
    assert all(unit.difference_error is None for unit in found.units)
    assert re.search(reason, found.no_differences)


def test_a_custom_function_beside_an_open_path_is_not_passed_over():
    class Residual(nn.Module):
        def forward(self, x):
            return x + Opaque.apply(x)

    found = run(model(Residual()))
    assert [entry.module for entry in found.unsupported] == ["2"]
    assert "Opaque" in found.unsupported[0].reason


@pytest.mark.parametrize(("layer", "hint"), [(OpaqueLayer, "ordinary operations"), (Number, "Python number")])
def test_an_unsupported_module_is_named_with_a_remedy(layer, hint):
    found = run(model(layer(), nn.Tanh(), layer()))
    assert not found.passed
    assert [entry.module for entry in found.unsupported] == ["2", "4"]
    assert {entry.kind for entry in found.unsupported} == {layer.__name__}
    assert all(hint in entry.remedy for entry in found.unsupported)
