"""What a run's rounds cost of privacy, by its settings, and what a summary tells of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from spry.core.keys import Key
from spry.experiment.config import Config
from spry.experiment.privacy_checks import check_privacy
from spry.experiment.privacy_settings import PrivacySettings
from spry.federated.privacy.accounting import Spending, calibrated, spent
from spry.runtime.sampling import sample


def spending(config: Config, clients: Sequence[int], asked: int, key: Key, *, head: bool = False) -> Spending:
    """What a run's rounds cost, with the noise that its budget asks for where none is set.

    Args:
        head: Whether the head starts in closed form.

    Raises:
        ConfigError: If settings of privacy do not fit each other.
        PrivacyError: If the noise that is set makes the rounds cost more than the budget.
    """
    check_privacy(config)
    settings, rounds = config.privacy, config.schedule.rounds
    if settings.mechanism == "central":
        rate, releases, most = asked / len(clients), None, rounds
    else:
        rate, releases = 1.0, _parts(clients, asked, rounds, key)
        most = releases[-1]
    first = _head_multiplier(settings, most) if head else None
    noise, budget = settings.noise, settings.epsilon
    if noise is None and budget is not None:
        noise = calibrated(lambda z: spent(z, rate, most, first, settings.delta), budget) if most else 0.0
    assert noise is not None  # checked with the other settings
    found = Spending(
        delta=settings.delta, noise=noise, rate=rate, head=first, budget=budget, releases=releases
    )
    affordable = found.affordable(rounds)
    if affordable < rounds:
        found.check(affordable + 1)
    return found


def uncounted(settings: PrivacySettings) -> Spending:
    """Stand for what rounds cost where nobody can count that yet, or need not: there is the noise that is set."""
    return Spending(delta=settings.delta, noise=settings.noise or 0.0, head=0.0)


def noise_for_all_rounds(config: Config) -> float:
    """The noise multiplier that the budget asks for if a client sends something in every round."""
    check_privacy(config)
    rounds, budget = config.schedule.rounds, config.privacy.epsilon
    assert budget is not None  # or the noise is set
    return calibrated(lambda z: spent(z, 1.0, rounds, None, config.privacy.delta), budget) if rounds else 0.0


def _head_multiplier(settings: PrivacySettings, rounds: int) -> float:
    """The noise multiplier of the sums before round 1: what is set, or what a share of the budget pays for."""
    if settings.head_noise is not None:
        return settings.head_noise
    if settings.noise is not None or settings.epsilon is None:
        return settings.noise or 0.0
    share = settings.head_share if rounds else 1.0
    return calibrated(lambda z: spent(0.0, 1.0, 0, z, settings.delta), share * settings.epsilon)


def _parts(clients: Sequence[int], asked: int, rounds: int, key: Key) -> tuple[int, ...]:
    """In how many of the first r rounds the client that is asked most often sends something, for each r from 0."""
    counts: dict[int, int] = {}
    most = [0]
    for round in range(rounds):
        for client in sample(clients, asked, round, key):
            counts[client] = counts.get(client, 0) + 1
        most.append(max(counts.values()))
    return tuple(accumulate(most, max))


def told_of(config: Config, spending: Spending | None, rounds: int) -> dict[str, Any] | None:
    """What a summary tells after some rounds; epsilon is null where nothing bounds it."""
    if spending is None:
        return None
    epsilon = spending.epsilon(rounds)
    return {
        "mechanism": config.privacy.mechanism,
        "unit": config.privacy.unit,
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "delta": spending.delta,
        "noise": spending.noise,
        **({} if spending.head is None else {"head_noise": spending.head}),
    }
