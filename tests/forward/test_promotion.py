"""Writing a moving value into a plain tensor: as autograd has it, or an error; never a lost tangent."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spry.core.errors import ModelError
from spry.forward import jvp
from tests.forward.reference import CHUNKS, drawn, use_chunks


@pytest.fixture(autouse=True, params=CHUNKS)
def _sizes(request, monkeypatch):
    use_chunks(monkeypatch, request.param)


def plain(*shape):
    return torch.ones(*shape, dtype=torch.float64)


def two_names(w):
    x = plain(2, 3)
    y = x
    x += w * w
    return x * y


def add_(w):
    x = plain(2, 3)
    x.add_(w * w, alpha=2).mul_(w)
    return x


def through_a_view(w):
    x = plain(2, 3)
    x.view(-1).add_((w * w).view(-1))
    x[..., 1:].copy_(w[..., :2])
    return x


def columns(w):
    x = torch.empty(2, 3, dtype=w.dtype)
    for i in range(3):
        x[:, i] = w[:, i] ** (i + 2)
    return x


def part_of_a_row(w):
    x = plain(2, 3)
    x[0] += w[1]
    x[..., 1] *= w[:, 0]
    return x


def by_indices(w):
    x = plain(4, 3)
    x.index_add_(0, torch.tensor([1, 1]), w * w)
    x[torch.tensor([0, 3])] = w
    x[x > 3] = w[0, 0]
    return x.clamp_(max=w.mean() + 1)


def output_of_a_layer(w):
    x = F.linear(plain(2, 4, 3), drawn(3, 3), drawn(3))  # PyTorch's own result is a view
    x += w[:, None]
    return x


def scalar(w):
    total = torch.zeros((), dtype=w.dtype)
    for row in w:
        total += row.square().sum()
    return total


WRITERS = [
    two_names, add_, through_a_view, columns, part_of_a_row, by_indices, output_of_a_layer, scalar
]  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_a_plain_tensor_takes_on_the_derivative(writer):
    w, directions = drawn(2, 3), [drawn(2, 3, seed=k) for k in (5, 6)]
    value, slopes = jvp(lambda p: writer(p["w"]).exp().sum(), {"w": w}, [{"w": v} for v in directions])
    leaf = w.clone().requires_grad_()
    wanted = writer(leaf).exp().sum()
    (gradient,) = torch.autograd.grad(wanted, leaf)
    torch.testing.assert_close(value, wanted.detach())
    torch.testing.assert_close(slopes, torch.stack([(gradient * v).sum() for v in directions]))


def slope(function):
    jvp(lambda p: function(p["w"]).sum(), {"w": drawn(2, 3)}, [{"w": drawn(2, 3, seed=5)}])


def sharing(w):
    x = plain(2, 3)
    other = x.view(-1)
    x += w
    return other


def chunk(w):
    first, second = plain(2, 6).chunk(2, -1)
    first += w
    return first * second


def integers(w):
    x = torch.ones(2, 3, dtype=torch.long)
    x += w
    return x


def weight(w):
    x = nn.Parameter(plain(2, 3), requires_grad=False)
    x += w
    return x


def part_of_a_weight(w):
    x = nn.Parameter(plain(2, 3), requires_grad=False)
    x[0] += w[0]
    return x


def real_part(w):
    z = torch.zeros(2, 3, dtype=torch.complex128)
    z.real.copy_(w)
    return z.abs()


def saved_by_autograd(w):
    x = plain(2, 3).requires_grad_() * 1
    y = x * x
    x += w
    return x + y


def out(w):
    x = torch.empty(2, 3, dtype=w.dtype)
    torch.mul(w, w, out=x)
    return x


@pytest.mark.parametrize(
    "writer", [sharing, chunk, integers, weight, part_of_a_weight, real_part, saved_by_autograd, out]
)
def test_what_could_miss_the_derivative_is_refused(writer):
    with pytest.raises(ModelError, match="writes a value that depends on the trained weights into a tensor"):
        slope(writer)


def test_a_tensor_that_waits_in_a_lazy_result_is_not_changed_under_it(monkeypatch):
    use_chunks(monkeypatch, "by rows")

    def function(w):
        bias = plain(3)
        lazy = F.linear(w, drawn(3, 3), bias)
        bias += w[0]
        return lazy

    with pytest.raises(ModelError, match="written to in place before a lazy result"):
        slope(function)


def test_a_buffer_and_an_argument_are_plain_again_after_the_pass():
    module, given = nn.BatchNorm1d(3).double(), plain(2, 3)
    w = drawn(2, 3)

    def function(w):
        module.running_mean.mul_(0.5).add_(w[0])
        x = given
        x += w
        return module.running_mean * x

    slope(function)
    assert type(module.running_mean) is type(given) is torch.Tensor
    torch.testing.assert_close(module.running_mean, w[0])
    torch.testing.assert_close(given, 1 + w)


def test_no_derivative_outlives_a_pass_that_failed():
    given = plain(2, 3)

    def function(w):
        given.add_(w)
        raise KeyError

    with pytest.raises(KeyError):
        slope(function)
    assert type(given) is torch.Tensor
    torch.testing.assert_close(given, 1 + drawn(2, 3))
