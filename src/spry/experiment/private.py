"""From the settings of privacy to the parts of a run that keep it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.estimators.example_slopes import bounded_examples
from spry.estimators.slopes import Slope
from spry.experiment.config import Config
from spry.experiment.schema import PrivacySettings
from spry.federated.methods.options import DirectionOptions
from spry.federated.privacy.accounting import Spending, calibrated, spent
from spry.federated.privacy.bounds import Bounds
from spry.federated.privacy.gaussian import CentralNoise, LocalNoise
from spry.federated.summing import Enrolment, Summing
from spry.federated.transforms import UpdateTransform
from spry.runtime.sampling import Sampler, sample, sample_each


@dataclass(frozen=True, kw_only=True)
class Private:
    """What a private run is built from; of a run without privacy, nothing.

    Args:
        sampler: Who chooses the clients of a round.
        spending: What rounds cost; None where nothing is counted.
    """

    transforms: tuple[UpdateTransform, ...] = ()
    summing: Summing | None = None
    example_slopes: Slope | None = None
    sampler: Sampler = field(default=sample)
    spending: Spending | None = None


NOT_PRIVATE = Private()
"""The parts of a run without privacy."""


def private(
    config: Config,
    units: Sequence[Unit],
    clients: Sequence[int],
    asked: int,
    key: Key,
    *,
    counted: Spending | None = None,
    closed_form: bool = False,
) -> Private:
    """Make the parts that keep a run private.

    Args:
        units: What is trained.
        clients: All that may be asked.
        asked: How many are asked in a round, on average.
        key: The run's.
        counted: What rounds cost; found if None, which takes a moment.
        closed_form: Whether the head starts in closed form, and something else is trained.

    Raises:
        ConfigError: If settings of privacy do not fit each other or the method.
        PrivacyError: If the rounds cost more than the budget.
    """
    settings = config.privacy
    if settings.mechanism == "none":
        return NOT_PRIVATE
    _check(config)
    central, by_example = settings.mechanism == "central", settings.unit == "example"
    secret = _secret() if settings.seed == "secret" else key.fold("privacy")
    bounds = _bounds(config, units, config.step_factors.by_group(closed_form=closed_form))
    counted = counted or spending(config, clients, asked, key)
    noise = (CentralNoise if central else LocalNoise)(bounds=bounds, noise=counted.noise, key=secret)
    enrolled = Enrolment(clients=tuple(clients), rate=asked / len(clients)) if central else None
    shorten = bounds.shorten if central else dict
    return Private(
        transforms=(noise,),
        summing=Summing(key=key, enrolled=enrolled, shorten=shorten, tells_loss=central),
        example_slopes=bounded_examples(_clip(settings), config.client.batch_size) if by_example else None,
        sampler=_by(secret) if central else sample,
        spending=counted,
    )


def spending(config: Config, clients: Sequence[int], asked: int, key: Key) -> Spending:
    """What a run's rounds cost, with the noise that its budget asks for where none is set.

    Raises:
        ConfigError: If settings of privacy do not fit each other.
        PrivacyError: If the noise that is set makes the rounds cost more than the budget.
    """
    _check(config)
    settings, rounds = config.privacy, config.schedule.rounds
    if settings.mechanism == "central":
        rate, releases, most = asked / len(clients), None, rounds
    else:
        rate, releases = 1.0, _parts(clients, asked, rounds, key)
        most = releases[-1]
    noise, budget = settings.noise, settings.epsilon
    if noise is None and budget is not None:
        noise = calibrated(lambda z: spent(z, rate, most, None, settings.delta), budget) if most else 0.0
    assert noise is not None  # checked with the other settings
    found = Spending(delta=settings.delta, noise=noise, rate=rate, budget=settings.epsilon, releases=releases)
    affordable = found.affordable(rounds)
    if affordable < rounds:
        found.check(affordable + 1)
    return found


def told_of(config: Config, parts: Private, rounds: int) -> dict[str, Any] | None:
    """What a summary tells after some rounds; epsilon is null where nothing bounds it."""
    if parts.spending is None:
        return None
    epsilon = parts.spending.epsilon(rounds)
    return {
        "mechanism": config.privacy.mechanism,
        "unit": config.privacy.unit,
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "delta": parts.spending.delta,
        "noise": parts.spending.noise,
    }


def _parts(clients: Sequence[int], asked: int, rounds: int, key: Key) -> tuple[int, ...]:
    """In how many of the first r rounds the client that is asked most often sends something, for each r from 0."""
    counts: dict[int, int] = {}
    most = [0]
    for round in range(rounds):
        for client in sample(clients, asked, round, key):
            counts[client] = counts.get(client, 0) + 1
        most.append(max(counts.values()))
    return tuple(accumulate(most, max))


def _bounds(config: Config, units: Sequence[Unit], factors: Mapping[str, float]) -> Bounds:
    settings, clip = config.privacy, _clip(config.privacy)
    examples = config.client.batch_size if settings.unit == "example" else 1
    if not _sends_slopes(config):
        return Bounds(dense=clip, examples=examples)
    frozen = {group for group, factor in factors.items() if not factor}
    exact = any(unit.exact and unit.group not in frozen for unit in units)
    moved = any(not unit.exact and unit.group not in frozen for unit in units)
    return Bounds(
        dense=(settings.exact_clip or clip) if exact else None,
        slopes=clip if moved else None,
        examples=examples,
    )


def _sends_slopes(config: Config) -> bool:
    return isinstance(config.method.options, DirectionOptions) and config.method.options.stepper == "server"


def _clip(settings: PrivacySettings) -> float:
    if settings.clip is None:
        raise ConfigError(
            "privacy.clip is unset: it is the norm to which what a client, or an example, adds is shortened. Set it to "
            "about the norm of a usual one, such as privacy.clip=1.0"
        )
    return settings.clip


def _check(config: Config) -> None:
    settings = config.privacy
    _clip(settings)
    if settings.epsilon is None and settings.noise is None:
        raise ConfigError(
            "privacy.epsilon and privacy.noise are both unset. Set the budget, from which the noise of the planned "
            "rounds follows, such as privacy.epsilon=8, or the noise multiplier, such as privacy.noise=1"
        )
    if settings.unit == "example" and config.client.steps != 1:
        raise ConfigError(
            f"privacy.unit is 'example' and client.steps is {config.client.steps}: an example may be in one batch of a "
            "round only. Set client.steps=1, or privacy.unit=client"
        )
    if settings.seed == "secret" and config.schedule.checkpoint_every != 1:
        raise ConfigError(
            f"privacy.seed is 'secret' and schedule.checkpoint_every is {config.schedule.checkpoint_every}: rounds "
            "that a resumed run repeats would be noised twice. Set schedule.checkpoint_every=1"
        )
    if config.runtime.over_select:
        raise ConfigError(
            f"runtime.over_select is {config.runtime.over_select}, by which those count that answer first: the "
            "chance of each is not what privacy is counted by. Set runtime.over_select=0"
        )
    if config.server.send == "slopes":
        raise ConfigError(
            "server.send is 'slopes', which tells every client the slopes of the others. Set server.send = 'weights'"
        )


def _secret() -> Key:
    """A key from the operating system's random numbers, which is written down nowhere."""
    return Key(secrets.randbits(64)).fold(secrets.token_hex(32))


def _by(secret: Key) -> Sampler:
    """Sample each client by itself, by a key of its own: who is asked is as secret as the noise."""

    def sampler(clients: Sequence[int], count: int, round: int, key: Key) -> list[int]:
        return sample_each(clients, count, round, secret.fold("asked"))

    return sampler
