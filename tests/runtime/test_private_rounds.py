"""Rounds that keep privacy: who is asked, what they cost, and when no more are begun."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binom

from spry.core.errors import ConfigError, PrivacyError
from spry.core.keys import Key
from spry.federated.privacy.accounting import Spending, spent
from spry.runtime.rounds import simulate
from spry.runtime.sampling import sample_each
from tests.federated.test_privacy import private
from tests.runtime.stage import Clients, Task


def test_each_client_is_asked_by_itself():
    rounds = [sample_each(range(40), 10, round, Key(0)) for round in range(500)]
    sizes = [len(asked) for asked in rounds]
    low, high = binom.interval(0.9999, 500 * 40, 0.25)
    assert low < sum(sizes) < high
    assert len(set(sizes)) > 8  # their number is left to chance, too
    together = sum(0 in asked and 1 in asked for asked in rounds)
    low, high = binom.interval(0.9999, 500, 0.25**2)
    assert low < together < high
    assert rounds[3] == sample_each(range(40), 10, 3, Key(0))


def test_more_than_there_are_cannot_be_asked():
    with pytest.raises(ConfigError, match="5 clients a round"):
        sample_each(range(4), 5, 0, Key(0))


def run(rounds, **given):
    spending = Spending(delta=1e-5, noise=1.0, rate=1 / 3, **given)
    return simulate(
        private("fedavg", noise=1.0),
        Task(),
        Clients(number=9),
        rounds=rounds,
        clients_per_round=3,
        sampler=sample_each,
        spending=spending,
    )


def test_every_round_tells_what_is_spent():
    assert [one.epsilon for one in run(3)] == [spent(1.0, 1 / 3, r, None, 1e-5) for r in (1, 2, 3)]


def test_no_round_begins_that_would_overspend():
    rounds = run(9, budget=spent(1.0, 1 / 3, 2, None, 1e-5))
    assert [next(rounds).number, next(rounds).number] == [0, 1]
    with pytest.raises(PrivacyError, match="round 3 would bring epsilon"):
        next(rounds)


def test_a_round_that_nobody_is_asked_in_is_a_round():
    (empty,) = simulate(
        private("fedavg", noise=1.0),
        Task(),
        Clients(number=9),
        rounds=1,
        clients_per_round=3,
        sampler=lambda clients, count, round, key: [],
    )
    assert empty.clients == () and math.isnan(empty.loss) and empty.score is not None
