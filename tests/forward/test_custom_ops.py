"""Operators from other packages: right, or refused; never a tangent lost in silence."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ModelError
from spry.forward import Dual, custom_ops, jvp, register_custom_op

library = torch.library.Library("spry_test", "FRAGMENT")
library.define("opaque(Tensor x) -> Tensor")
library.impl("opaque", lambda x: x * 3, "CPU")
library.define("taught(Tensor x) -> Tensor")
library.impl("taught", lambda x: x * 3, "CPU")
library.define("composed(Tensor x) -> Tensor")
library.impl("composed", lambda x: x * 3, "CompositeImplicitAutograd")


def test_an_operator_without_derivative_is_refused_by_name():
    with pytest.raises(ModelError, match="spry_test::opaque"):
        jvp(lambda p: torch.ops.spry_test.opaque(p["w"]).sum(), {"w": torch.ones(3)}, [{"w": torch.ones(3)}])


def test_an_operator_made_of_pytorchs_is_differentiated():
    _, slopes = jvp(
        lambda p: torch.ops.spry_test.composed(p["w"]).sum(), {"w": torch.ones(3)}, [{"w": torch.ones(3)}]
    )
    assert slopes.tolist() == [9.0]


def test_an_operator_may_be_given_a_rule_by_name(monkeypatch):
    monkeypatch.setattr(custom_ops, "CUSTOM_OPS", {})

    @register_custom_op("spry_test::taught")
    def _(func, x):
        return Dual(func(x.primal), [func(t) for t in x.tangents])

    weights, direction = {"w": torch.tensor([2.0, 5.0])}, {"w": torch.tensor([1.0, 3.0])}
    value, slopes = jvp(lambda p: torch.ops.spry_test.taught(p["w"]).sum(), weights, [direction])
    assert (value.item(), slopes.tolist()) == (21.0, [12.0])


@pytest.mark.parametrize("name", ["taught", "::taught", "spry_test::", "aten::add"])
def test_a_rule_by_name_needs_a_name_outside_pytorch(name):
    with pytest.raises(ModelError, match=name):
        register_custom_op(name)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 5), (400,), (0,)])
@pytest.mark.parametrize("directions", [1, 3])
def test_a_4_bit_layer_is_the_layer_of_its_unpacked_weight(shape, bias, nested, directions):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(
        64, 128, bias=bias, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=nested
    )
    layer = layer.requires_grad_(False).to("cpu")
    layer.weight = layer.weight.to("cpu")
    weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).reshape(
        128, 64
    )
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, 64, generator=draw)
    tangents = [torch.randn(*shape, 64, generator=draw) for _ in range(directions)]
    pull = torch.randn(*shape, 128, generator=draw)
    layer.support_avx512bf16_for_cpu = False
    value, slopes = jvp(lambda p: (layer(p["x"]) * pull).sum(), {"x": x}, [{"x": t} for t in tangents])
    plain = torch.nn.functional.linear(x, weight.float(), layer.bias)
    assert value == pytest.approx(float((plain * pull).sum()), rel=1e-4, abs=1e-3)
    exact = [float((torch.nn.functional.linear(t, weight.float()) * pull).sum()) for t in tangents]
    assert slopes.tolist() == pytest.approx(exact, rel=1e-4, abs=1e-3)
