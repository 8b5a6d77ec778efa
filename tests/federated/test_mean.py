"""The server's mean against a hand-computed union of slices."""

from __future__ import annotations

import pytest
import torch

from spry.federated.mean import ClientMean
from spry.wire.messages import Gradient, Reply, Weights


def reply(client, examples, kind=Weights, **values):
    payload = kind({name: torch.tensor([value]) for name, value in values.items()})
    return Reply(round=0, client=client, examples=examples, payload=payload)


OLD = {
    "a": torch.tensor([1.0]),
    "b": torch.tensor([2.0]),
    "c": torch.tensor([3.0]),
    "head": torch.tensor([0.0]),
}


def test_union_by_hand():
    """Client 1 (10 examples) trained a, clients 2 (10) and 3 (30) trained b, nobody c, all the head."""
    mean = ClientMean()
    for r in (reply(1, 10, a=5.0, head=1.0), reply(2, 10, b=2.0, head=2.0), reply(3, 30, b=6.0, head=3.0)):
        mean.take(r)
    g = mean.gradient(OLD)
    assert list(g) == ["a", "b", "head"]
    assert g["a"].item() == pytest.approx(1.0 - 5.0)
    assert g["b"].item() == pytest.approx(2.0 - (10 * 2.0 + 30 * 6.0) / 40)
    assert g["head"].item() == pytest.approx(0.0 - (10 * 1.0 + 10 * 2.0 + 30 * 3.0) / 50)


def test_gradients_are_averaged_as_they_are():
    mean = ClientMean()
    mean.take(reply(1, 1, Gradient, a=2.0))
    mean.take(reply(2, 3, Gradient, a=6.0))
    assert mean.gradient(OLD)["a"].item() == pytest.approx(5.0)


def test_a_client_without_examples_has_no_say():
    mean = ClientMean()
    mean.take(reply(1, 0, a=100.0))
    assert mean.gradient(OLD) == {}


def test_kinds_do_not_mix():
    mean = ClientMean()
    mean.take(reply(1, 1, a=1.0))
    with pytest.raises(TypeError, match="mix"):
        mean.take(reply(2, 1, Gradient, a=1.0))


def test_order_of_replies_does_not_matter():
    replies = [reply(i, i + 1, a=0.1 * i, head=1.0 / (i + 1)) for i in range(20)]
    results = []
    for order in (replies, replies[::-1], replies[7:] + replies[:7]):
        mean = ClientMean()
        for r in order:
            mean.take(r)
        results.append(mean.gradient(OLD))
    for other in results[1:]:
        for name, value in results[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-7, atol=0)
