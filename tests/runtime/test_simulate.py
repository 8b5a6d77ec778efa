"""Rounds in this process, on a small problem: who is asked, and when memory is measured anew."""

from __future__ import annotations

from collections import Counter

import pytest

from spry.core.keys import Key
from spry.runtime import client_runner
from spry.runtime.rounds import simulate
from tests.laws import problem
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task


@pytest.mark.parametrize(("asked", "owners"), [(1, [1]), (1000, [333, 334])])
def test_from_one_client_to_a_thousand_of_ten_thousand(asked, owners, monkeypatch):
    monkeypatch.setattr(
        client_runner, "peak_of", lambda step, device: step() or 0
    )  # exact measuring takes a minute
    (found,) = simulate(
        make("spry"), Task(), Clients(number=10_000), rounds=1, clients_per_round=asked, key=Key(0)
    )
    assert len({record.client for record in found.clients}) == asked
    trained = Counter(unit for record in found.clients for unit in record.units)
    assert trained.pop("head") == asked
    assert len(trained) == problem.DEPTH
    assert sorted(set(trained.values())) == owners


def measured(name, rounds=6, **given):
    """Of each round, whether its clients' memory was measured, and the peak that it reports."""
    found = list(
        simulate(make(name, **given), Task(), Clients(), rounds=rounds, clients_per_round=2, key=Key(0))
    )
    assert all(len({record.peak_bytes is None for record in one.clients}) == 1 for one in found)
    return [one.clients[0].peak_bytes is not None for one in found], [one.peak_bytes for one in found]


def test_once_if_nothing_grows():
    seen, peaks = measured("spry")
    assert seen == [True] + [False] * 5
    assert len(set(peaks)) == 1 and peaks[0] > 0


def test_anew_whenever_more_directions_are_asked_for():
    """FwdLLM doubles its directions from the fourth attempt on, until it steps."""
    seen, peaks = measured("fwdllm", threshold=1e-12)
    assert seen == [True, False, False, True, True, True]
    assert peaks == sorted(peaks)


def test_evaluations_come_as_often_as_asked_and_last():
    rounds = list(
        simulate(
            make("fedavg"),
            Task(),
            Clients(),
            rounds=5,
            clients_per_round=2,
            evaluate_every=2,
            personalized=True,
        )
    )
    assert [round.test is not None for round in rounds] == [False, True, False, True, True]
    assert [round.personalized is not None for round in rounds] == [False, True, False, True, True]
    assert rounds[1].generalized.examples == 16
    assert all(round.validation is None for round in rounds)


def test_the_server_evaluates_the_parts_that_there_are():
    def evaluated(**parts):
        (only,) = simulate(make("fedavg"), Task(), Clients(**parts), rounds=1, clients_per_round=2)
        return only.test, only.validation

    test, validation = evaluated(validation=(problem.batch(98), problem.batch(97)))
    assert (test.examples, validation.examples) == (8, 16)
    assert evaluated(test=(), validation=(problem.batch(98),))[0] is None
    assert evaluated()[1] is None
