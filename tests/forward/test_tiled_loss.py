"""The loss by tiles of positions, against the loss of all logits at once under autograd and ``torch.func.jvp``."""

import pytest
import torch
import torch.nn.functional as F

from spry.estimators.exact import evaluate_lazily
from spry.forward import chunking, jvp, tiled_loss
from spry.forward.tiled_loss import row_tiles, tiled_cross_entropy
from spry.measure.meter import tensor_peak
from tests.forward.reference import CHUNKS, drawn, use_chunks

WIDTH, VOCABULARY = 6, 13


@pytest.fixture(params=CHUNKS, autouse=True)
def chunks(request, monkeypatch):
    use_chunks(monkeypatch, request.param)
    monkeypatch.setattr(tiled_loss, "FEWEST_ROWS", 4)


def head(rows, weight, bias):
    return 3 * torch.tanh(F.linear(rows, weight, bias) / 3)  # capped, as Gemma's


def tiled(p, y):
    rows = torch.tanh(p["x"])
    weights = (p["w"], p["b"])
    return tiled_cross_entropy(lambda r: head(r, *weights), rows, y, weights, vocabulary=VOCABULARY)


def at_once(p, y):
    return F.cross_entropy(head(torch.tanh(p["x"]), p["w"], p["b"]), y, reduction="sum")


def point(rows, seed=0):
    shapes = {"x": (rows, WIDTH), "w": (VOCABULARY, WIDTH), "b": (VOCABULARY,)}
    return {name: drawn(*shape, seed=seed) for name, shape in shapes.items()}, torch.arange(rows) % VOCABULARY


@pytest.mark.parametrize("rows", [1, 4, 11])
@pytest.mark.parametrize("trained", ["xwb", "x", "wb"])
def test_gradient_is_that_of_the_loss_of_all_logits(rows, trained):
    p, y = point(rows)
    leaves = {name: w.requires_grad_(name in trained) for name, w in p.items()}
    ends = [leaves[name] for name in trained]
    found, expected = (2 * loss(leaves, y) for loss in (tiled, at_once))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, ends), torch.autograd.grad(expected, ends))


@pytest.mark.parametrize("rows", [1, 11])
@pytest.mark.parametrize("moved", ["xwb", "x", "wb"])
def test_slopes_are_those_of_torch(rows, moved):
    p, y = point(rows)
    directions = [{n: w for n, w in point(rows, seed)[0].items() if n in moved} for seed in (1, 2)]
    value, slopes = jvp(lambda q: tiled(q, y), p, directions)
    for slope, direction in zip(slopes, directions, strict=True):
        full = {n: direction.get(n, torch.zeros_like(w)) for n, w in p.items()}
        expected, tangent = torch.func.jvp(lambda q: at_once(q, y), (p,), (full,))
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(slope, tangent)


def test_exact_weights_get_gradients_beside_slopes():
    p, y = point(11)
    leaf = p["w"].clone().requires_grad_()
    value, slopes = jvp(lambda q: tiled({**q, "w": leaf}, y), {"x": p["x"], "b": p["b"]}, [{"x": p["x"]}])
    plain = at_once({**p, "w": leaf}, y)
    torch.testing.assert_close(torch.autograd.grad(value, leaf), torch.autograd.grad(plain, leaf))
    expected = torch.func.jvp(lambda x: at_once({**p, "x": x}, y), (p["x"],), (p["x"],))[1]
    torch.testing.assert_close(slopes[0], expected)


def test_waiting_weights_get_their_gradient():
    p, y = point(11)
    leaves = {name: p[name].clone().requires_grad_() for name in ("w", "b")}
    found = evaluate_lazily(lambda q: tiled({**p, **q}, y), leaves)
    expected = at_once({**p, **leaves}, y)
    torch.testing.assert_close(
        torch.autograd.grad(found, list(leaves.values())),
        torch.autograd.grad(expected, list(leaves.values())),
    )


def test_no_rows_lose_nothing():
    p, y = point(0)
    for trained in (False, True):
        found = tiled({n: w.requires_grad_(trained) for n, w in p.items()}, y)
        assert torch.equal(found, torch.zeros_like(found))


def test_a_half_precision_head_loses_in_float32():
    p, y = point(5)
    half = {name: w.bfloat16() for name, w in p.items()}
    found = tiled(half, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, at_once(p, y).float(), rtol=3e-2, atol=0)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 100])
def test_tiles_cover_each_row_once(rows):
    parts = list(row_tiles(rows, 1 << 20, torch.device("cpu")))
    assert [i for part in parts for i in range(rows)[part]] == list(range(rows))


def _peak(rows, step):
    torch.manual_seed(0)
    wide = 8192
    x, w = torch.randn(rows, 4), torch.randn(wide, 4)
    y = torch.arange(rows)

    def loss(p):
        return tiled_cross_entropy(lambda r: F.linear(r, w), p["x"], y, (), vocabulary=wide)

    return tensor_peak(lambda: step(loss, x))


def _slopes(loss, x):
    return jvp(loss, {"x": x}, [{"x": x}, {"x": x}])


def _gradient(loss, x):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(loss({"x": leaf}), leaf)


@pytest.mark.parametrize("step", [_slopes, _gradient, lambda loss, x: loss({"x": x})])
def test_peak_does_not_grow_with_positions(step, monkeypatch):
    monkeypatch.setattr(tiled_loss, "FEWEST_ROWS", 16)
    for table, value in (("WORKSPACE", 1 << 20), ("MIN_WORKSPACE", 1 << 20), ("MIN_LAZY_BYTES", 1 << 18)):
        monkeypatch.setitem(getattr(chunking, table), "cpu", value)
    few, many = (_peak(rows, step) for rows in (64, 512))
    logits = 512 * 8192 * 4
    assert many < logits / 2
    assert many < few * 1.1 + 64 * 512
