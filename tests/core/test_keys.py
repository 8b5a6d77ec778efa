"""Draws depend on the key and the name, on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spry.core.keys import Key

parts = st.lists(st.one_of(st.integers(0, 2**40), st.text(max_size=5)), max_size=4)


@given(st.integers(0, 2**63 - 1), parts, parts)
def test_different_paths_draw_differently(seed, left, right):
    a, b = Key(seed).fold(*left), Key(seed).fold(*right)
    same = torch.equal(a.normal("w", (4,)), b.normal("w", (4,)))
    assert same == (left == right)


def test_folding_is_associative_and_takes_numpy_integers():
    assert Key(3).fold("a", 1).fold("b") == Key(3).fold("a").fold(np.int64(1), "b")


def test_a_joined_name_is_not_a_path():
    assert not torch.equal(Key(0).fold("a", "b").normal("w", (4,)), Key(0).fold("ab").normal("w", (4,)))
    assert not torch.equal(Key(0).fold(1).normal("w", (4,)), Key(0).fold("1").normal("w", (4,)))


@pytest.mark.parametrize("draw", ["normal", "signs"])
def test_repeated_draws_are_equal_and_names_differ(draw):
    key = Key(0)
    first = getattr(key, draw)("w", (64,))
    assert torch.equal(first, getattr(key, draw)("w", (64,)))
    assert not torch.equal(first, getattr(key, draw)("x", (64,)))


def test_moments():
    normal, signs = Key(0).normal("w", (100_000,)), Key(0).signs("w", (100_000,))
    assert abs(normal.mean()) < 5 / 100_000**0.5
    assert abs(normal.var() - 1) < 5 * (2 / 100_000) ** 0.5
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 5 / 100_000**0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_are_the_float32_draw_cast(dtype):
    like = torch.zeros(7, dtype=dtype)
    assert torch.equal(Key(0).normal("w", (7,), like=like), Key(0).normal("w", (7,)).to(dtype))


def test_the_stream_is_the_one_of_the_first_release():
    """A change here breaks every recorded run: slopes would be expanded along other directions."""
    drawn = Key(7).fold("round", 3).normal("w", (1000,)).numpy().tobytes()
    assert hashlib.sha256(drawn).hexdigest()[:16] == "1066edad121a3c64"


def test_scalars_and_empty_shapes():
    assert Key(0).normal("w", ()).shape == ()
    assert Key(0).normal("w", (0, 3)).shape == (0, 3)
    assert sorted(Key(0).permutation(5)) == [0, 1, 2, 3, 4]
