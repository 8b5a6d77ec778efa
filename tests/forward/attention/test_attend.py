"""Attention by blocks against the textbook formula under ``torch.func.jvp``, and against PyTorch's fused kernel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.forward.reference import agree, drawn, dual
from torch.nn.attention import SDPBackend, sdpa_kernel

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.forward import Dual, chunking, dropout

MASKS = {
    "none": lambda b, h, q, k: None,
    "padding": lambda b, h, q, k: (torch.arange(k) < k - torch.arange(b)[:, None])[:, None, None, :].expand(b, 1, q, k),
    "left padding": lambda b, h, q, k: torch.ones(q, k, dtype=torch.bool).tril() & (
        torch.arange(k) >= torch.arange(b)[:, None, None, None]
    ),
    "window": lambda b, h, q, k: torch.ones(q, k, dtype=torch.bool).tril().triu(-1),
    "added": lambda b, h, q, k: drawn(1, h, q, k, seed=5),
    "minus infinity": lambda b, h, q, k: drawn(b, 1, q, k).masked_fill(torch.eye(q, k, dtype=torch.bool), -torch.inf),
    "nothing to attend to": lambda b, h, q, k: torch.zeros(b, 1, q, k, dtype=torch.bool),
}  # fmt: skip


@pytest.fixture(autouse=True, params=[1, 40, 1 << 18])
def _block(request, monkeypatch):
    monkeypatch.setitem(chunking.SCORES, "cpu", request.param)


def textbook(q, k, v, mask=None, is_causal=False, scale=None):
    """Softmax of all scores at once; rows that may attend to nothing give zeros."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    dead = (scores == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(dead, 0), -1).masked_fill(dead, 0) @ v


def attention(q, k, v, **options):
    if not any(isinstance(x, Dual) for x in (q, k, v)):
        return textbook(
            q, k, v, options.get("attn_mask"), options.get("is_causal", False), options.get("scale")
        )
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1], **options)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("moving", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize(
    ("batch", "heads", "groups", "queries", "keys"),
    [(2, 2, 2, 5, 5), (3, 4, 2, 3, 3), (1, 2, 1, 1, 4), (1, 1, 1, 130, 70)],
)
def test_every_kind_of_mask(mask, moving, batch, heads, groups, queries, keys):
    q, k, v = (
        drawn(batch, heads, queries, 4),
        drawn(batch, groups, keys, 4, seed=1),
        drawn(batch, groups, keys, 3, seed=2),
    )
    options = {"attn_mask": MASKS[mask](batch, heads, queries, keys)}
    agree(lambda *x: attention(*x, **options), q, k, v, moving=moving)
    if options["attn_mask"] is not None:
        out = F.scaled_dot_product_attention(dual(q), dual(k), dual(v), enable_gqa=heads != groups, **options)
        fused = F.scaled_dot_product_attention(q, k, v, enable_gqa=heads != groups, **options)
        torch.testing.assert_close(out.primal, fused)
        assert all(t.isfinite().all() for t in out.tangents)


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (7, 3), (129, 129)])
def test_causal(queries, keys):
    q, k, v = drawn(2, 4, queries, 4), drawn(2, 2, keys, 4, seed=1), drawn(2, 2, keys, 4, seed=2)
    agree(lambda *x: attention(*x, is_causal=True, scale=0.3), q, k, v)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(attention(dual(q), k, v, is_causal=True).primal, fused)


def test_a_mask_may_be_trained():
    q, k, v, bias = (drawn(2, 2, 3, 4, seed=i) for i in range(4))
    bias = bias[..., :3]
    agree(
        lambda q, b: attention(q, k, v, attn_mask=b) if isinstance(q, Dual) else textbook(q, k, v, b), q, bias
    )


@pytest.mark.parametrize("lead", [(), (2,), (2, 1, 3)])
def test_other_numbers_of_dimensions(lead):
    q, k, v = (drawn(*lead, 3, 4, seed=i) for i in range(3))
    out = F.scaled_dot_product_attention(dual(q), dual(k), dual(v))
    torch.testing.assert_close(out.primal, F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("lead", [(1, 1), (1, 4), (2, 1)])
@pytest.mark.parametrize("one", [(0,), (1,), (2,), (1, 2)])
def test_examples_and_heads_broadcast(one, lead):
    shapes = [(*(lead if i in one else (2, 4)), 3, 4) for i in range(3)]
    operands = [drawn(*shape, seed=i) for i, shape in enumerate(shapes)]

    def attended(*x):
        if isinstance(x[0], Dual):
            return F.scaled_dot_product_attention(*x)
        lead = torch.broadcast_shapes(*(y.shape[:2] for y in x))
        return textbook(*(y.expand(*lead, -1, -1) for y in x))

    agree(attended, *operands)
    moved = [dual(x) for x in operands]
    with dropout(Key(0)):
        out = F.scaled_dot_product_attention(*moved, dropout_p=0.4)
    with dropout(Key(0)):
        plain = F.scaled_dot_product_attention(*operands, dropout_p=0.4)
    torch.testing.assert_close(out.primal, plain)


def test_grouped_queries_without_a_batch():
    q, k, v = drawn(4, 3, 5), drawn(2, 3, 5, seed=1), drawn(2, 3, 5, seed=2)

    def attended(*x):
        if isinstance(x[0], Dual):
            return F.scaled_dot_product_attention(*x, enable_gqa=True)
        return textbook(*(y[None] for y in x))[0]

    agree(attended, q, k, v)


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 2, 0, 4)])
def test_empty(shape):
    out = F.scaled_dot_product_attention(dual(drawn(*shape)), drawn(*shape), dual(drawn(*shape)))
    assert out.shape == shape
    assert all(t.shape == shape for t in out.tangents)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_accumulates_in_float32(dtype):
    exact = [dual(drawn(2, 2, 9, 8, seed=i) * 3) for i in range(3)]
    rough = [Dual(x.primal.to(dtype), [t.to(dtype) for t in x.tangents]) for x in exact]
    rounded = [Dual(x.primal.double(), [t.double() for t in x.tangents]) for x in rough]
    want, got = (F.scaled_dot_product_attention(*x, is_causal=True) for x in (rounded, rough))
    for a, b in zip(want.pair()[1], got.pair()[1], strict=True):
        assert (a - b.double()).norm() <= (16 if dtype == torch.float32 else 4) * torch.finfo(
            dtype
        ).eps * a.norm()


def test_dropout_from_a_key_does_not_depend_on_blocks():
    q, k, v = (drawn(2, 2, 70, 4, seed=i) for i in range(3))
    with dropout(Key(0)):
        out = F.scaled_dot_product_attention(dual(q), dual(k), dual(v), dropout_p=0.4)
    with dropout(Key(0)):
        plain = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
    torch.testing.assert_close(out.primal, plain)
    for n in range(2):

        def masked(*x):
            with dropout(Key(0)):
                return F.scaled_dot_product_attention(*x, dropout_p=0.4)

        tangents = tuple(dual(x).tangents[n] for x in (q, k, v))
        torch.testing.assert_close(out.tangents[n], torch.func.jvp(masked, (q, k, v), tangents)[1])


BROADCAST = [
    ((1, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
    ((2, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)),
    ((2, 2, 3, 4), (2, 2, 5, 4), (1, 2, 5, 4)),
    ((1, 2, 3, 4), (1, 2, 5, 4), (2, 2, 5, 4)),
    ((2, 1, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
    ((2, 2, 3, 4), (2, 1, 5, 4), (2, 2, 5, 4)),
    ((2, 2, 3, 4), (2, 2, 5, 4), (2, 1, 5, 4)),
    ((3, 4), (2, 5, 4), (2, 5, 4)),
    ((2, 2, 3, 4), (2, 5, 4), (1, 5, 4)),
]


@pytest.mark.parametrize("moving", [(0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("shapes", BROADCAST, ids=str)
def test_batch_and_heads_broadcast(shapes, moving):
    with sdpa_kernel(SDPBackend.MATH):
        agree(
            F.scaled_dot_product_attention, *(drawn(*s, seed=i) for i, s in enumerate(shapes)), moving=moving
        )


@pytest.mark.parametrize("shapes", BROADCAST[:7], ids=str)
def test_dropout_is_the_same_for_what_is_broadcast(shapes):
    q, k, v = (drawn(*s, seed=i) for i, s in enumerate(shapes))
    with dropout(Key(0)):
        plain = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
    with dropout(Key(0)):
        moved = F.scaled_dot_product_attention(dual(q), k, v, dropout_p=0.4)
    torch.testing.assert_close(moved.primal, plain)


def test_grouped_heads_of_three_dimensions():
    q, k, v = drawn(4, 3, 4), drawn(2, 5, 4, seed=1), drawn(2, 5, 4, seed=2)
    with sdpa_kernel(SDPBackend.MATH):
        agree(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), q, k, v)


def test_a_mask_of_another_batch_is_refused():
    q = dual(drawn(1, 2, 3, 4))
    with pytest.raises(ModelError, match="does not fit scores of shape"):
        F.scaled_dot_product_attention(q, q, q, torch.ones(2, 1, 3, 3, dtype=torch.bool))
