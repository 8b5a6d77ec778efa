"""The union of slices through whole methods, by hand: M > L, M < L, M = L, and owners that fall out.

Client c's loss is ``(c + 1) sum(w)``, so one local step of size 1 takes 1, 2, 3, ... off each weight it trains.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pytest
import torch

from spry.core.keys import Key
from spry.core.units import Unit
from spry.federated.methods import METHODS
from spry.optim.rules import sgd
from spry.wire.messages import Answer


@dataclass
class Tilted:
    slope: float

    def __call__(self, params, *, checkpoint=False):
        return self.slope * sum(w.sum() for w in params.values())

    def microbatches(self):
        return [(1.0, self)]


def units(count):
    return (
        *(Unit(name=f"u{i}", names=(f"u{i}",)) for i in range(count)),
        Unit(name="head", names=("h",), head=True),
    )


@pytest.mark.parametrize("lost", [(), (0,), (1, 2)])
@pytest.mark.parametrize("split", ["cyclic", "contiguous"])
@pytest.mark.parametrize(("count", "m"), [(2, 5), (5, 3), (4, 4), (1, 4), (6, 4)])
def test_each_weight_is_the_mean_over_its_owners(count, m, split, lost):
    made = METHODS.fedavg(units(count), client=sgd(1.0), server=sgd(1.0), split=split)
    state = made.init({
        name: torch.zeros(2, dtype=torch.float64) for name in [*(f"u{i}" for i in range(count)), "h"]
    })
    orders = made.plan(state, list(range(m)), Key(0))
    kept = [c for c in orders if c not in lost]
    answers = [
        Answer(orders[c], made.train(lambda b, key, base: Tilted(b + 1), orders[c], [c], 10 * (c + 1)).reply)
        for c in kept
    ]
    after = made.absorb(state, answers)
    owners = defaultdict(list)
    for c in kept:
        for name in orders[c].trained:
            owners[name].append(c)
    for name, weight in after.weights.items():
        own = owners[name]
        examples = sum(10 * (c + 1) for c in own)
        wanted = -sum(10 * (c + 1) * (c + 1) for c in own) / examples if own else 0.0
        assert weight.tolist() == pytest.approx([wanted, wanted])


def test_by_hand():
    """Two units, three clients of 10, 20 and 30 examples, round 0: u0 has clients 0 and 2, u1 has client 1."""
    made = METHODS.fedavg(units(2), client=sgd(1.0), server=sgd(1.0), split="cyclic")
    state = made.init({name: torch.zeros(1, dtype=torch.float64) for name in ("u0", "u1", "h")})
    orders = made.plan(state, [0, 1, 2], Key(0))
    answers = [
        Answer(o, made.train(lambda b, key, base: Tilted(b + 1), o, [c], 10 * (c + 1)).reply)
        for c, o in orders.items()
    ]
    after = made.absorb(state, answers).weights
    assert after["u0"].item() == pytest.approx(-(10 * 1 + 30 * 3) / 40)
    assert after["u1"].item() == pytest.approx(-2)
    assert after["h"].item() == pytest.approx(-(10 * 1 + 20 * 2 + 30 * 3) / 60)
