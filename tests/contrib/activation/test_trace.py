"""Traces: whatever they are kept as, products, sums and weighted sums are those of the products."""

from __future__ import annotations

import pytest
import torch

from spry.contrib.activation.trace import Trace
from spry.core.keys import Key

KEY = Key(0)
WIDTH = 7


def factors(count, batch, together, rank, shared, name="a"):
    moved = KEY.normal(f"{name} moved", (count, batch, together, rank), torch.zeros((), dtype=torch.float64))
    inputs = KEY.normal(
        f"{name} inputs",
        (1 if shared else count, batch, together, WIDTH),
        torch.zeros((), dtype=torch.float64),
    )
    return Trace(moved, inputs)


def explicit(trace):
    return torch.einsum(
        "kbmr,kbmd->kbrd", trace.moved, trace.inputs.expand(len(trace.moved), *trace.inputs.shape[1:])
    )


SIZES = [(1, 3, 3, 16), (1, 3, 3, 1), (4, 2, 3, 5), (2, 1, 1, 2), (1, 0, 3, 4)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_is_its_factors_product(size, shared):
    trace = factors(*size, shared)
    for kept in (trace, trace.smaller(), Trace.of(explicit(trace))):
        torch.testing.assert_close(kept.product(), explicit(trace))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_weighted_sum(size, shared):
    trace = factors(*size, shared)
    slopes = KEY.normal("slopes", size[:2], torch.zeros((), dtype=torch.float64))
    expected = torch.einsum("kb,kbrd->rd", slopes, explicit(trace))
    for kept in (trace, trace.smaller(), Trace.of(explicit(trace))):
        torch.testing.assert_close(kept.weighted(slopes), expected)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_sum(size, shared):
    one, other = (factors(*size, shared, name) for name in "ab")
    expected = explicit(one) + explicit(other)
    for first in (one, Trace.of(explicit(one))):
        torch.testing.assert_close(first.plus(other).product(), expected)


def test_keeps_the_smaller():
    wide, narrow = factors(1, 2, 3, 16, shared=True), factors(1, 2, 3, 1, shared=True)
    assert wide.smaller() is wide
    assert narrow.smaller().inputs.shape == (1, 2, 1, WIDTH)


def test_does_not_grow_with_uses():
    trace = factors(1, 2, 3, 4, shared=True)
    for _ in range(10):
        trace = trace.plus(trace)
    assert trace.inputs.shape == (1, 2, 4, WIDTH)
