"""The layer over a packed weight is the layer of the dequantised weight, for whoever differentiates it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spry.forward import chunking, jvp, track_fallbacks
from spry.forward.packed import packed_linear, tiles


class Rows:
    """A weight that counts how often it is dequantised, and how much of it at once."""

    def __init__(self, weight: torch.Tensor, unit: int = 1) -> None:
        self.weight, self.unit = weight, unit
        self.shape, self.device = tuple(weight.shape), weight.device
        self.read, self.most = 0, 0

    def rows(self, start, stop, dtype):
        assert start % self.unit == 0
        self.read, self.most = self.read + stop - start, max(self.most, stop - start)
        return self.weight[start:stop].to(dtype)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setitem(chunking.TILE, "cpu", 5 * 6 * 8)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("unit", [1, 4])
def test_tiles_are_a_workspace_of_rows(small_tiles, unit):
    weight = Rows(drawn(13, 6), unit)
    parts = list(tiles(weight, torch.float64))
    assert torch.equal(torch.cat([tile for _, tile in parts]), weight.weight)
    assert [part.start for part, _ in parts] == list(range(0, 13, 5 if unit == 1 else 4))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5), (0,), (1500,), (40, 1, 30)])
def test_slopes_and_gradients_are_those_of_the_plain_layer(small_tiles, shape, biased):
    weight, bias = Rows(drawn(13, 6)), drawn(13, seed=1) if biased else None
    x, pull = drawn(*shape, 6, seed=2), drawn(*shape, 13, seed=3)
    tangents = [drawn(*shape, 6, seed=4 + k) for k in range(3)]

    def loss(x):
        return (packed_linear(x, weight, bias).sin() * pull).sum()

    def plain(x):
        return (F.linear(x, weight.weight, bias).sin() * pull).sum()

    with track_fallbacks() as report:
        value, slopes = jvp(lambda p: loss(p["x"]), {"x": x}, [{"x": t} for t in tangents])
    assert not report.fallbacks
    exact = [torch.func.jvp(plain, (x,), (t,)) for t in tangents]
    torch.testing.assert_close(value, exact[0][0])
    torch.testing.assert_close(slopes, torch.stack([slope for _, slope in exact]))
    torch.testing.assert_close(torch.func.jvp(loss, (x,), (tangents[0],)), exact[0])
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(loss(leaf), leaf), torch.autograd.grad(plain(leaf), leaf))


def test_value_and_derivatives_share_one_dequantisation_of_a_tile_at_a_time(small_tiles):
    weight = Rows(drawn(13, 6))
    x = drawn(4, 6)
    jvp(lambda p: packed_linear(p["x"], weight).sum(), {"x": x}, [{"x": x}] * 3)
    assert (weight.read, weight.most) == (13, 5)


@pytest.mark.parametrize("with_input", [False, True])
def test_a_trained_bias_has_its_slope_and_gradient(with_input):
    weight, bias, x, pull = (
        Rows(drawn(13, 6)),
        drawn(13, seed=1),
        drawn(2, 3, 6, seed=2),
        drawn(2, 3, 13, seed=3),
    )
    params = {"b": bias, "x": x} if with_input else {"b": bias}
    directions = [{name: drawn(*w.shape, seed=9) for name, w in params.items()}]

    def loss(p):
        return (packed_linear(p.get("x", x), weight, p["b"]).sin() * pull).sum()

    value, slopes = jvp(loss, params, directions)
    leaves = {name: w.clone().requires_grad_() for name, w in params.items()}
    plain = (F.linear(leaves.get("x", x), weight.weight, leaves["b"]).sin() * pull).sum()
    gradients = torch.autograd.grad(plain, list(leaves.values()))
    torch.testing.assert_close(value, plain.detach())
    exact = sum((g * directions[0][name]).sum() for name, g in zip(leaves, gradients, strict=True))
    torch.testing.assert_close(slopes[0], exact)
    torch.testing.assert_close(torch.autograd.grad(loss(leaves), list(leaves.values())), gradients)


def test_a_value_with_a_graph_keeps_its_gradient_beside_its_slopes():
    weight, x = Rows(drawn(13, 6)), drawn(4, 6)
    head = drawn(6, seed=1).requires_grad_()
    value, slopes = jvp(
        lambda p: packed_linear(p["x"] * head, weight).square().sum(), {"x": x}, [{"x": torch.ones_like(x)}]
    )
    plain = F.linear(x * head, weight.weight).square().sum()
    torch.testing.assert_close(torch.autograd.grad(value, head), torch.autograd.grad(plain, head))
    slope = (2 * F.linear(x * head, weight.weight) * F.linear(head.expand(4, 6), weight.weight)).sum()
    torch.testing.assert_close(slopes[0], slope.detach())


def test_half_precision_sums_tiles_in_float32():
    weight, grad = Rows(drawn(600, 8)), drawn(3, 600, seed=1).bfloat16()
    x = drawn(3, 8).bfloat16().requires_grad_()
    packed_linear(x, weight).backward(grad)
    exact = grad.double() @ weight.weight.bfloat16().double()
    assert x.grad is not None
    assert (x.grad - exact).abs().max() <= 2**-7 * exact.abs().max()
