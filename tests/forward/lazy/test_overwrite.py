"""Programs that write over widened rows compute what they compute without."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.forward.reference import agree, drawn

from spry.forward import chunking
from spry.forward.lazy import overwrite

UP, GATE, DOWN = drawn(6, 4, seed=1), drawn(6, 4, seed=2), drawn(4, 6, seed=3)


@pytest.fixture(autouse=True, params=[1, 1 << 20])
def _lazy(monkeypatch, request):
    """By as few rows as possible, and all at once."""
    monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", 0)
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", request.param)


@pytest.fixture
def overwritten(monkeypatch):
    """Count how often memory is written over."""
    counts = dict.fromkeys(("gelu", "silu", "mul"), 0)

    def counted(name, function):
        def run(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return run

    for name, functions in (
        ("gelu", [F.gelu]),
        ("silu", [F.silu]),
        ("mul", [torch.mul, torch.Tensor.__mul__]),
    ):
        for func in functions:
            monkeypatch.setitem(overwrite.OVERWRITING, func, counted(name, overwrite.OVERWRITING[func]))
    return counts


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_an_activation_takes_the_place_of_its_argument(overwritten, count, approximate):
    agree(
        lambda x: F.linear(F.gelu(F.linear(x, UP), approximate=approximate), DOWN),
        drawn(2, 40, 4), count=count,
    )  # fmt: skip
    assert overwritten["gelu"] > 0


@pytest.mark.parametrize("count", [1, 3])
def test_so_does_a_gated_one(overwritten, count):
    agree(lambda x: F.linear(F.silu(F.linear(x, GATE)) * F.linear(x, UP), DOWN), drawn(2, 40, 4), count=count)
    assert overwritten["silu"] > 0


READ_TWICE = {
    "a view read before": lambda h: h[..., :4] + F.linear(F.gelu(h), DOWN),
    "a view read after": lambda h: F.linear(F.gelu(h), DOWN) + h[..., 2:],
    "its square": lambda h: F.linear(h * h, DOWN),
    "itself in another shape": lambda h: F.linear(h * h.view(2, 40, 2, 3).view(2, 40, 6), DOWN),
    "an activation and itself": lambda h: F.linear(F.silu(h) * h, DOWN),
}


@pytest.mark.parametrize("name", READ_TWICE)
def test_what_is_read_twice_stays(name):
    agree(lambda x: READ_TWICE[name](F.linear(x, UP)), drawn(2, 40, 4))


@pytest.mark.parametrize("count", [1, 2])
def test_a_trained_bias_keeps_its_direction(count):
    bias, x = drawn(6, seed=5), drawn(1, 1, 4)
    agree(lambda x, b: F.linear(F.gelu(F.linear(x, UP, b)), DOWN), x, bias, count=count)
