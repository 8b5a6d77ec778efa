"""Rounds in this process, on a small problem: when memory is measured anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from tests.laws import problem

from spry.core.growth import Growth
from spry.core.keys import Key
from spry.federated.methods import method
from spry.federated.settings import Settings
from spry.metrics.stats import Stats
from spry.runtime import simulate as runtime
from spry.runtime.simulate import Schedule, simulate


class Task:
    loss = staticmethod(problem.loss_of)
    init = staticmethod(problem.weights)

    def evaluate(self, weights, batches):
        return Stats(count=1, loss_sum=0.5, correct=1)


@dataclass
class Clients:
    batch_size: Growth = field(default_factory=Growth)
    test: tuple = ()

    def trainable(self):
        return [0, 1, 2, 3]

    def examples(self, client):
        return 5 + client

    def batches(self, client, round, key):
        return [problem.batch(client, self.batch_size.at(round))]


def measured(settings, batch_size, rounds=6, name="spry"):
    """Of each round, whether its clients' memory was measured, and the peak that it reports."""
    made = method(name, problem.UNITS, settings)
    schedule = Schedule(rounds=rounds, clients_per_round=2, evaluate_every=rounds, personalized=False)
    clients = Clients(batch_size=batch_size)
    clients.held_out = lambda client: ()
    found = list(simulate(made, Task(), clients, key=Key(0), schedule=schedule))
    assert all(len({record.peak_bytes is None for record in one.clients}) == 1 for one in found)
    return [one.clients[0].peak_bytes is not None for one in found], [one.peak_bytes for one in found]


@pytest.mark.parametrize(("asked", "owners"), [(1, [1]), (1000, [333, 334])])
def test_from_one_client_to_a_thousand_of_ten_thousand(asked, owners, monkeypatch):
    monkeypatch.setattr(
        runtime, "peak_of", lambda step, device: step() or 0
    )  # exact measuring takes a minute
    clients = Clients()
    clients.trainable, clients.held_out = lambda: list(range(10_000)), lambda client: ()
    schedule = Schedule(rounds=1, clients_per_round=asked, personalized=False)
    made = method("spry", problem.UNITS, Settings())
    (found,) = simulate(made, Task(), clients, key=Key(0), schedule=schedule)
    assert len({record.client for record in found.clients}) == asked
    trained = Counter(unit for record in found.clients for unit in record.units)
    assert trained.pop("head") == asked
    assert len(trained) == problem.DEPTH
    assert sorted(set(trained.values())) == owners


def test_once_if_nothing_grows():
    seen, peaks = measured(Settings(), Growth(start=64))
    assert seen == [True] + [False] * 5
    assert len(set(peaks)) == 1 and peaks[0] > 0


def test_anew_whenever_batches_or_directions_grow():
    seen, peaks = measured(Settings(), Growth(start=64, factor=4, phases=3, rounds=6))
    assert seen == [True, False] * 3
    assert peaks[0] == peaks[1] < peaks[2] == peaks[3] < peaks[4] == peaks[5]
    seen, peaks = measured(Settings(growth=8, phases=2, rounds=6), Growth(start=64))
    assert seen == [True, False, False] * 2
    assert peaks == sorted(peaks)
