"""Writing in place: the same numbers as autograd has, or an error that names the operation; never a lost tangent."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spry.core.errors import ModelError
from spry.forward import Dual
from tests.forward.reference import agree, drawn, dual


def edited(edit):
    def function(x, y):
        z = x * 1.0
        edit(z, y)
        return z * y

    return function


EDITS = {
    "add_": lambda z, y: z.add_(y, alpha=2),
    "+=": lambda z, y: z.__iadd__(y),
    "-=": lambda z, y: z.sub_(y),
    "*=": lambda z, y: z.__imul__(3.0),
    "/=": lambda z, y: z.__itruediv__(y + 3),
    "pow_": lambda z, y: z.pow_(2),
    "masked_fill_": lambda z, y: z.masked_fill_(y > 0, 2.0),
    "copy_": lambda z, y: z.copy_(y[:1]),
    "copy_ of a constant": lambda z, y: z.copy_(torch.ones(3, dtype=torch.float64)),
    "fill_": lambda z, y: z.fill_(2.0),
    "zero_": lambda z, y: z.zero_(),
    "clamp_": lambda z, y: z.clamp_(-0.1, 0.2),
    "relu_": lambda z, y: F.relu_(z),
    "inplace=True": lambda z, y: F.silu(z, inplace=True),
    "inplace by position": lambda z, y: F.relu(z, True) + F.leaky_relu(z, 0.1, True),
    "dropout": lambda z, y: F.dropout(z, 0.5, False, True),
    "x[i] = number": lambda z, y: z.__setitem__((slice(None), 1), 2.0),
    "x[i] = dual": lambda z, y: z.__setitem__(0, y[1]),
    "x[mask] = dual": lambda z, y: z.__setitem__(z > 0, y[0, 0]),
    "x[i] += dual": lambda z, y: z.__setitem__((..., 0), z[..., 0] + y[..., 1]),
    "index_add_": lambda z, y: z.index_add_(0, torch.tensor([1, 0]), y),
    "scatter_add_": lambda z, y: z.scatter_add_(0, torch.tensor([[1, 0, 1]]), y),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("moving", [(0,), (0, 1)])
def test_edits_are_differentiated(edit, moving):
    agree(edited(EDITS[edit]), drawn(2, 3), drawn(2, 3, seed=1), moving=moving)


def test_a_fresh_tensor_made_like_a_dual_one_can_be_filled():
    def function(x):
        out = torch.zeros_like(x)
        out[:, 1:] = x[:, :-1]
        other = x.new_zeros(3, 2)
        other.copy_(out.T)
        return other

    agree(function, drawn(2, 3))


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("add_", lambda plain, x: plain.add_(x)),
        ("copy_", lambda plain, x: plain.copy_(x)),
        ("__setitem__", lambda plain, x: plain.__setitem__(0, x[0])),
        ("index_add_", lambda plain, x: plain.index_add_(0, torch.tensor([0, 1]), x)),
        ("mul", lambda plain, x: torch.mul(x, x, out=plain)),
        ("add", torch.ops.aten.add_.Tensor),
    ],
)
def test_a_plain_tensor_cannot_be_given_a_derivative(name, edit):
    plain = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ModelError, match=name):
        edit(plain, dual(drawn(2, 3)))
    assert plain.eq(0).all()


def view_made_before(x, y):
    z = x * 1
    first, whole = z[0], z.T.unsqueeze(0)
    z.add_(y)
    return first * whole[0, :, 1] + z[1]


def base_of_a_view(x, y):
    z = x * 1
    z[0].mul_(2)
    z.T[1:].copy_(y.T[:2])
    return z * y


def views_of_views(x, y):
    z = x * 1
    rows = z.transpose(0, 1)
    rows[1].select(0, 1).mul_(y[0, 0])
    rows[:, 0].add_(y[0])
    a, b = z.split([1, 2], 1)
    b.mul_(a)
    z.unbind(0)[1].exp_()
    return z + rows.T, b


def fresh_and_filled(x, y):
    z = x.new_empty(2, 5)
    z[..., :3].copy_(x)
    z[..., 3:].copy_(torch.ones(2, 2))
    z.as_strided((2, 2), (5, 1), 1).mul_(y[:, :2])
    return z


@pytest.mark.parametrize("function", [view_made_before, base_of_a_view, views_of_views, fresh_and_filled])
@pytest.mark.parametrize("moving", [(0,), (0, 1)])
def test_views_and_their_base_change_together(function, moving):
    agree(function, drawn(2, 3), drawn(2, 3, seed=1), moving=moving)


def test_a_view_that_repeats_entries_cannot_be_written_to():
    x = dual(drawn(1, 3)) * 1
    with pytest.raises(ModelError, match="a view of a tensor cannot be written to"):
        x.expand(2, 3).add_(1)


def test_a_write_that_would_lose_the_imaginary_part_is_refused():
    x = dual(drawn(2, 3)) * 1
    with pytest.raises(ModelError, match="writes torch"):
        x.mul_(1j)


def test_random_numbers_and_detach_stop_the_derivative():
    for edit in (
        lambda x: x.normal_(),
        lambda x: x.uniform_(0, 1),
        lambda x: x.bernoulli_(0.5),
        torch.Tensor.detach_,
    ):
        x = dual(drawn(2, 3)) * 1
        assert edit(x) is x
        assert all(t.eq(0).all() for t in x.tangents)


def test_a_detached_value_in_use_forbids_writing():
    x = dual(drawn(2, 3)) * 1
    value = x.detach()
    with pytest.raises(
        ModelError, match="'add_' writes in place into a tensor whose detached value is in use"
    ):
        x.add_(1)
    assert type(value) is torch.Tensor


def test_the_callers_tensors_are_never_written_to():
    value = drawn(2, 3)
    before = value.clone()
    x = Dual(value, [drawn(2, 3)])
    x.mul_(3).add_(1)
    x[0] = 0.0
    assert value.equal(before)


def test_a_change_of_shape_in_place_is_refused():
    with pytest.raises(ModelError, match="'unsqueeze_' changes a tensor's shape in place"):
        dual(drawn(2, 3)).unsqueeze_(0)
