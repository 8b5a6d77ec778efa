"""Attention that waits: the same numbers whichever rows are read, and only these rows computed where they are few."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.forward.reference import agree, drawn, dual
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spry.core.errors import ModelError
from spry.forward import chunking
from spry.forward.lazy.dual import is_lazy
from spry.forward.lazy.node import LazyLeaf

B, S, D, H = 3, 8, 8, 2


@pytest.fixture(autouse=True)
def _lazy(monkeypatch):
    monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", 0)
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", 1 << 12)
    with sdpa_kernel(SDPBackend.MATH):  # torch's fused kernels have no forward mode to compare with
        yield


WEIGHTS = [drawn(D, D, seed=i) for i in range(4)]


def heads(x):
    return x.view(*x.shape[:-1], H, -1).transpose(1, 2)


def layer(x, mask=None, causal=False):
    q, k, v = (heads(F.linear(x, w)) for w in WEIGHTS[:3])
    out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    return F.linear(out.transpose(1, 2).reshape(*x.shape[:-1], D), WEIGHTS[3]) + x


def padding():
    mask = torch.ones(B, 1, 1, S, dtype=torch.bool)
    mask[0, ..., 5:] = False
    mask[2, ..., 1:] = False
    return mask


KINDS = {
    "open": {},
    "causal": {"causal": True},
    "padded": {"mask": padding()},
    "padded, a row for each query": {"mask": padding().expand(B, 1, S, S).contiguous()},
    "added, a number for each head": {"mask": drawn(1, H, S, S)},
    "of two dimensions": {"mask": torch.ones(S, S, dtype=torch.bool).tril()},
}
READ = {
    "first": lambda x: x[:, 0],
    "last": lambda x: x[torch.arange(B), torch.tensor([4, 7, 0])],
    "two each": lambda x: x[:, 3:5],
    "all of one example": lambda x: x[1],
    "uneven": lambda x: x[torch.tensor([0, 0, 2]), torch.tensor([1, 2, 3])],
    "none": lambda x: x[:, :0],
    "most": lambda x: x[:, 1:],
    "all": lambda x: x * 2,
    "few, then all": lambda x: (x[:, 0], x * 2),
    "all, then few": lambda x: (x * 2, x[:, 0]),
}


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 2])
def test_the_numbers_are_those_of_computing_everything(kind, read, depth):
    def function(x):
        for _ in range(depth):
            x = layer(x, **KINDS[kind])
        return READ[read](x)

    agree(function, drawn(B, S, D))


def flops(function, x):
    with FlopCounterMode(display=False) as counter:
        y = function(dual(x, 1))
        y.pair()
    return sum(n for op, n in counter.get_flop_counts()["Global"].items() if "bmm" in str(op))


def test_the_first_position_costs_one_query_of_each_example():
    x = drawn(B, S, D)
    assert flops(lambda x: layer(x)[:, 0], x) * S == flops(layer, x)


def test_waiting_layers_form_no_chain():
    x = dual(drawn(B, S, D), 1)
    fused = torch.cat(
        WEIGHTS[:3]
    )  # one widening layer continues the program below it, where three narrow ones end it
    waiting = []
    for _ in range(3):
        q, k, v = map(heads, F.linear(x, fused).split(D, -1))
        out = F.scaled_dot_product_attention(q, k, v)
        assert is_lazy(out)
        assert isinstance(out.node, LazyLeaf)
        waiting.append(out)
        x = F.linear(out.transpose(1, 2).reshape(B, S, D), WEIGHTS[3]) + x
    assert [is_lazy(out) for out in waiting] == [False, False, True]


@pytest.mark.parametrize("read", ["first", "all"])
def test_writing_in_place_into_what_it_waits_to_read_is_refused(read):
    mask = drawn(B, 1, S, S)
    out = layer(dual(drawn(B, S, D), 1), mask)
    mask.zero_()
    with pytest.raises(ModelError, match="in place"):
        READ[read](out).pair()


def test_a_key_written_in_place_afterwards_does_not_change_the_result():
    def function(x):
        q, k, v = (heads(F.linear(x, w)) for w in WEIGHTS[:3])
        k = k.clone().exp()
        out = F.scaled_dot_product_attention(q, k, v)
        k *= 0
        return out[:, :, 0], k

    agree(function, drawn(B, S, D))
