"""Rows of a packed weight are those that the packages themselves unpack."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spry.forward import jvp
from spry.forward.packed import packed_linear, tiles
from spry.measure.meter import tensor_peak
from spry.models.quantized.kinds import find_packing
from spry.models.quantized.rows import packed_of


def layer(kind: str, outputs: int, inputs: int, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=draw).to(dtype)
    packed = find_packing(kind).pack(weight, None)
    found = packed_of(packed)
    assert found is not None
    assert found.shape == (outputs, inputs)
    return weight, packed, found


def by_tiles(packed, dtype):
    unit, count = packed.unit, packed.shape[0]
    return torch.cat([packed.rows(start, min(start + unit, count), dtype) for start in range(0, count, unit)])


@pytest.mark.parametrize("shape", [(80, 64), (48, 96), (33, 10), (7, 65)])
def test_nf4(shape):
    weight, module, packed = layer("nf4", *shape)
    state = module.weight.quant_state
    # flat: for rows that are no multiple of a block, bitsandbytes 0.50 takes wrong scales on the CPU
    state.shape = torch.Size((1, weight.numel()))
    from bitsandbytes.functional import dequantize_4bit

    own = dequantize_4bit(module.weight.data, state).view(shape)
    state.shape = torch.Size(shape)
    assert torch.equal(packed.rows(0, shape[0], torch.float32), own)
    assert torch.equal(by_tiles(packed, torch.float32), own)
    assert (own - weight).abs().max() <= 0.17 * weight.abs().max()
    torch.testing.assert_close(by_tiles(packed, torch.float64), own.double())
    torch.testing.assert_close(by_tiles(packed, torch.bfloat16), own.bfloat16())


@pytest.mark.parametrize("shape", [(80, 64), (7, 65)])
def test_int8(shape):
    from bitsandbytes.functional import int8_vectorwise_dequant

    weight, module, packed = layer("int8", *shape)
    own = int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
    torch.testing.assert_close(packed.rows(0, shape[0], torch.float32), own)
    torch.testing.assert_close(by_tiles(packed, torch.float64), own.double())
    assert (own - weight).abs().max() <= 0.01 * weight.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(128, 64), (16, 64), (144, 128), (224, 192)])
def test_int4(shape, dtype):
    weight, module, packed = layer("int4", *shape, dtype=dtype)
    one = torch.eye(shape[1], dtype=dtype)  # torchao unpacks within its product only
    own = nn.functional.linear(one, module.weight).T.float()
    found = packed.rows(0, shape[0], torch.float32)
    torch.testing.assert_close(found, own, rtol=2**-7 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
    assert torch.equal(by_tiles(packed, torch.float32), found)
    assert (found - weight.float()).abs().max() <= 0.1 * weight.abs().max()


@pytest.mark.parametrize("kind", ["nf4", "int8", "int4"])
def test_a_dequantised_layer_never_exists_whole(kind):
    _, _, packed = layer(kind, 2048, 1024)
    x = torch.randn(4, 1024, generator=torch.Generator().manual_seed(1))
    leaf = x.clone().requires_grad_()
    whole = 2048 * 1024 * 4

    def slope():
        jvp(lambda p: packed_linear(p["x"], packed).sum(), {"x": x}, [{"x": x}] * 2)

    def gradient():
        packed_linear(leaf, packed).sum().backward()

    tile = max(part.numel() * 4 for _, part in tiles(packed, torch.float32))
    assert tile <= whole / 4
    for step in (slope, gradient):
        assert tensor_peak(step) <= 3 * tile + 12 * x.numel() * 4  # unpacking holds a few copies of a tile
        assert tensor_peak(step) < whole
