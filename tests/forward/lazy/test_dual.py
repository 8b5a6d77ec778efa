"""Row-wise programs: the same numbers as computing everything at once, and no wide tensor on the way."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from tests.forward.reference import agree, drawn, dual
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spry.core.errors import ModelError
from spry.forward import Dual, chunking
from spry.forward.lazy.dual import LazyDual, is_lazy

B, S, D, H = 3, 5, 8, 2


@pytest.fixture(autouse=True, params=[1, 1 << 12, 1 << 23])
def _by_rows(request, monkeypatch):
    monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", 0)
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", request.param)
    monkeypatch.setitem(chunking.SCORES, "cpu", 60)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            self.numel = max(
                self.numel, x.untyped_storage().nbytes() // x.itemsize if isinstance(x, torch.Tensor) else 0
            )
        return out


def rms_norm(x, weight):
    wide = x.to(torch.float64)
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def heads(x, count=H):
    return x.view(*x.shape[:-1], count, -1).transpose(1, 2)


def repeated(x, n):
    return x[:, :, None].expand(x.shape[0], x.shape[1], n, *x.shape[2:]).reshape(x.shape[0], -1, *x.shape[2:])


W = {name: drawn(*shape, seed=i) / 2 for i, (name, shape) in enumerate({
    "up": (4 * D, D), "gate": (4 * D, D), "down": (D, 4 * D), "q": (D, D), "k": (D // 2, D), "v": (D // 2, D),
    "a": (1, D), "b": (D, 1), "wide": (D, 3 * D), "norm": (D,), "bias": (4 * D,), "words": (40 * D, D), "h": (D // H,),
}.items())}  # fmt: skip
COS, SIN = drawn(1, S, D // H).cos(), drawn(1, S, D // H).sin()
LABELS = torch.arange(B * S) % 7


def attention(x):
    q, k, v = heads(x @ W["q"]), heads(F.linear(x, W["k"]), 1), heads(F.linear(x, W["v"]), 1)
    q, k = rotate(q, COS[:, None], SIN[:, None]), rotate(k, COS[:, None], SIN[:, None])
    out = textbook(q, repeated(k, H), repeated(v, H))
    return out.transpose(1, 2).contiguous().reshape(x.shape)


def textbook(q, k, v):
    if any(isinstance(x, Dual) for x in (q, k, v)):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v


def layer(x):
    x = x + attention(rms_norm(x, W["norm"]))
    y = rms_norm(x, W["norm"])
    return x + F.linear(F.silu(F.linear(y, W["gate"])) * F.linear(y, W["up"]), W["down"])


PROGRAMS = {
    "mlp": lambda x: F.linear(F.gelu(F.linear(x, W["up"], W["bias"])), W["down"]),
    "gated": lambda x: F.linear(F.silu(F.linear(x, W["gate"])) * F.linear(x, W["up"]), W["down"]),
    "post-norm": lambda x: F.layer_norm(x + F.linear(F.relu(F.linear(x, W["up"])), W["down"]), (D,), W["norm"]),
    "hand-written norm": lambda x: rms_norm(x, W["norm"]),
    "norm of heads": lambda x: rms_norm(F.linear(x, W["q"]).view(B, S, H, -1), W["h"]).transpose(1, 2).sum(-1),
    "low rank": lambda x: F.linear(x, W["q"]) + F.linear(F.linear(x, W["a"]), W["b"]) * 0.5,
    "low rank on a wide input": lambda x: (
        lambda y: F.linear(y, W["down"]) + F.linear(F.linear(y, W["down"][:1]), W["b"])
    )(F.gelu(F.linear(x, W["up"]))),
    "conv1d of GPT-2": lambda x: torch.addmm(W["norm"], x.view(-1, D), W["q"]).view(x.shape).tanh(),
    "fused query, key, value": lambda x: [heads(p) for p in torch.matmul(x, W["wide"]).split(D, dim=2)],
    "fused gate": lambda x: (lambda a, b: a * F.silu(b))(*torch.matmul(x, W["wide"])[..., : 2 * D].chunk(2, -1)),
    "cross-entropy": lambda x: F.cross_entropy(F.linear(x, W["words"]).float().view(B * S, -1), LABELS),
    "shifted": lambda x: F.cross_entropy(F.linear(x, W["words"])[..., :-1, :].flatten(0, 1), LABELS[: B * (S - 1)]),
    "last logits": lambda x: F.linear(x, W["words"])[:, -2:, :].softmax(-1),
    "picked rows": lambda x: F.gelu(F.linear(x, W["up"]))[torch.arange(B), torch.tensor([0, 2, 4])],
    "first row": lambda x: F.gelu(F.linear(x, W["up"]))[:, 0].tanh(),
    "flattened": lambda x: F.gelu(F.linear(x, W["up"])).flatten(0, 1).unflatten(0, (S, B)).contiguous().sum(1),
    "used twice": lambda x: (lambda y: y.view(B, S, -1)[:, 1:] * y[:, :-1] + (y * y)[:, 1:])(F.linear(x, W["q"])),
    "masked": lambda x: F.linear(x, W["up"]) * (drawn(B, S, 4 * D) > 0) + drawn(B, S, 1) * F.linear(x, W["gate"]),
    "attention": attention,
    "attention, one example": lambda x: attention(x[:1].contiguous()),
    "layers": lambda x: layer(layer(x)).mean(1),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_computes_what_its_functions_do(name):
    agree(PROGRAMS[name], drawn(B, S, D), rtol=1e-5 if "entropy" in name else 1e-9, count=3)


@pytest.mark.parametrize("trained", ["up", "bias", "down"])
def test_weights_in_a_program_may_be_dual(trained):
    def mlp(x, w):
        weights = W | {trained: w}
        return F.linear(F.gelu(F.linear(x, weights["up"], weights["bias"])), weights["down"])

    agree(mlp, drawn(B, S, D), W[trained])


def test_wide_rows_never_exist_together(monkeypatch):
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", 1)
    x = dual(drawn(400, D), count=1)
    with Largest() as largest:
        loss = F.cross_entropy(F.linear(PROGRAMS["mlp"](x), W["words"]), torch.arange(400) % 9)
        assert loss.tangents
    assert largest.numel <= 2 * 40 * 40 * D
    with Largest() as largest:
        F.linear(drawn(400, D), W["words"])
    assert largest.numel == 400 * 40 * D


def test_a_residual_stream_is_computed_once(monkeypatch):
    calls = []
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", 1 << 23)
    from spry.forward.registry import RULES

    rule = RULES[F.linear]
    monkeypatch.setitem(RULES, F.linear, lambda *a: calls.append(a[1].shape) or rule(*a))
    x = dual(drawn(B, S, D))
    for _ in range(3):
        y = rms_norm(x, W["norm"])
        x = x + F.linear(F.gelu(F.linear(y, W["up"])), W["down"])
    assert not x.isnan().any()
    assert len(calls) == 6


def test_nothing_outlives_a_pass():
    gc.collect()
    gc.disable()
    try:
        x = dual(drawn(B, S, D))
        out = layer(x)
        assert is_lazy(out)
        leaves = [weakref.ref(t) for t in x.tangents]
        out.pair()
        del x, out
        assert not any(leaf() for leaf in leaves), "memory waits for the garbage collector"
    finally:
        gc.enable()


def test_an_operand_overwritten_before_its_use_is_noticed():
    mask = torch.ones(B, S, 4 * D, dtype=torch.float64)
    out = F.linear(dual(drawn(B, S, D)), W["up"]) * mask
    mask.zero_()
    with pytest.raises(ModelError, match="written to in place"):
        out.pair()


def test_writing_in_place_ends_a_program():
    x = dual(drawn(B, S, D))
    y = F.linear(x, W["q"])
    assert isinstance(y, LazyDual)
    y += 1
    y[:, 0] = 2.0
    want = F.linear(x.primal, W["q"]) + 1
    want[:, 0] = 2
    torch.testing.assert_close((y * 1).primal, want)
    assert F.relu(y).tangents[0][:, 0].eq(0).all()
