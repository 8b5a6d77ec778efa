"""The server's mean against a hand-computed union of slices."""

from __future__ import annotations

import pytest
import torch

from spry.federated.aggregate import ClientMean


def values(**numbers):
    return {name: torch.tensor([number]) for name, number in numbers.items()}


OLD = {
    "a": torch.tensor([1.0]),
    "b": torch.tensor([2.0]),
    "c": torch.tensor([3.0]),
    "head": torch.tensor([0.0]),
}


def test_union_by_hand():
    """Client 1 (10 examples) trained a, clients 2 (10) and 3 (30) trained b, nobody c, all the head."""
    mean = ClientMean()
    mean.take(10, values(a=5.0, head=1.0))
    mean.take(10, values(b=2.0, head=2.0))
    mean.take(30, values(b=6.0, head=3.0))
    g = mean.pseudo_gradient(OLD)
    assert list(g) == ["a", "b", "head"]
    assert g["a"].item() == pytest.approx(1.0 - 5.0)
    assert g["b"].item() == pytest.approx(2.0 - (10 * 2.0 + 30 * 6.0) / 40)
    assert g["head"].item() == pytest.approx(0.0 - (10 * 1.0 + 10 * 2.0 + 30 * 3.0) / 50)


def test_gradients_are_averaged_as_they_are():
    mean = ClientMean()
    mean.take(1, values(a=2.0))
    mean.take(3, values(a=6.0))
    assert mean.read(OLD)["a"].item() == pytest.approx(5.0)


def test_a_client_without_examples_has_no_say():
    mean = ClientMean()
    mean.take(0, values(a=100.0))
    assert mean.read(OLD) == mean.pseudo_gradient(OLD) == {}


def test_order_of_replies_does_not_matter():
    found = [(i + 1, values(a=0.1 * i, head=1.0 / (i + 1))) for i in range(20)]
    results = []
    for order in (found, found[::-1], found[7:] + found[:7]):
        mean = ClientMean()
        for examples, tree in order:
            mean.take(examples, tree)
        results.append(mean.pseudo_gradient(OLD))
    for other in results[1:]:
        for name, value in results[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-7, atol=0)
