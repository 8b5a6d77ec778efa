"""The law of each operator: what depends on a moved argument carries the right tangents, or is refused by name.

Never a wrong tangent, never a tangent lost in silence, never a raw crash: over all operators of PyTorch's own list,
with its own samples (0-dim, empty, broadcast, complex, not contiguous), as functions, methods, infixes and in place.
"""

from __future__ import annotations

import pytest
import torch
from tests.laws.operators import operators, variants, verdict

REFUSED = set()
"""Operators that the engine refuses, for some samples at least. The list may only shrink."""


def judged(dtype, few=None, alone=False):
    """The operators that are refused, and what is wrong with which others."""
    refused, wrong = set(), {}
    for op in operators():
        if dtype not in op.supported_dtypes("cpu"):
            continue
        torch.manual_seed(0)
        for number, sample in enumerate(op.sample_inputs("cpu", dtype)):
            if number == few:
                break
            for function in variants(op):
                for which in (None, 0, 1, 2) if alone else (None,):
                    found = verdict(op, function, sample, which, 1 + number % 2)
                    if found == "refused":
                        refused.add(op.formatted_name)
                    elif found not in {"equal", "no tangents"}:
                        wrong.setdefault(op.formatted_name, found)
    return refused, wrong


@pytest.fixture(autouse=True)
def _generator():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.filterwarnings("ignore")
def test_tangents_are_right_or_refused(dtype):
    refused, wrong = judged(dtype, few=2)
    assert not wrong
    assert refused <= REFUSED


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tangents_are_right_or_refused_for_all_samples():
    refused = set()
    for dtype in (torch.float64, torch.complex128):
        found, wrong = judged(dtype, alone=True)
        assert not wrong
        refused |= found
    assert refused == REFUSED
