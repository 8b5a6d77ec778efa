"""The slow obvious way: each direction's derivative from ``torch.func.jvp`` of the whole function."""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_leaves

from spry.forward import Dual, chunking

CHUNKS = {"at once": None, "by rows": 1}
"""Whether a rule sees its whole argument, or the engine is made to work on as few rows as it can."""


def use_chunks(monkeypatch, name):
    """Make the engine defer everything it may and cut everything it may as small as it can."""
    if CHUNKS[name] is not None:
        monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", 0)
        monkeypatch.setitem(chunking.WORKSPACE, "cpu", 1)
        monkeypatch.setitem(chunking.SCORES, "cpu", 20)


def scale_down(monkeypatch, workspace):
    """Give tiny models a workspace of so many bytes, in proportion to what real ones have."""
    monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", 1 << 10)
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", workspace)
    monkeypatch.setitem(chunking.SCORES, "cpu", 1 << 12)


def drawn(*shape, seed=0, dtype=torch.float64, positive=False):
    generator = torch.Generator().manual_seed(seed + 31 * len(shape) + sum(shape))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (x.abs() + 0.5 if positive else x).to(dtype)


def dual(x, count=2, seed=100):
    """A value with ``count`` random tangents, laid out in memory as the value is."""
    tangents = [drawn(*x.shape, seed=seed + k, dtype=x.dtype) for k in range(count)]
    return Dual(x, [torch.empty_like(x).copy_(t) for t in tangents])


def agree(function, *args, moving=None, count=2, rtol=1e-10, atol=1e-12):
    """Check a function of duals against ``torch.func.jvp``, for the arguments at the places ``moving``."""
    moving = range(len(args)) if moving is None else moving
    duals = [dual(x, count, seed=100 + 7 * i) if i in moving else x for i, x in enumerate(args)]
    found = [x for x in tree_leaves(function(*duals)) if isinstance(x, torch.Tensor)]
    assert all(type(x) is torch.Tensor or isinstance(x, Dual) for x in found)
    moved = list(moving)

    def plain(*values):
        given = list(args)
        for i, value in zip(moved, values, strict=True):
            given[i] = value
        return tuple(x for x in tree_leaves(function(*given)) if isinstance(x, torch.Tensor))

    for k in range(count):
        values, tangents = torch.func.jvp(
            plain,
            tuple(args[i].clone().contiguous() for i in moved),
            tuple(duals[i].tangents[k].contiguous() for i in moved),
        )
        assert len(values) == len(found)
        for x, value, tangent in zip(found, values, tangents, strict=True):
            assert x.shape == value.shape
            assert x.dtype == value.dtype
            own = x.primal if isinstance(x, Dual) else x
            torch.testing.assert_close(own, value, rtol=rtol, atol=atol)
            if value.is_floating_point() or value.is_complex():
                own = x.tangents[k] if isinstance(x, Dual) else torch.zeros_like(x)
                torch.testing.assert_close(own, tangent, rtol=rtol, atol=atol)
