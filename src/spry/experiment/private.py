"""From the settings of privacy to the parts of a run that keep it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.estimators.example_slopes import bounded_examples
from spry.estimators.slopes import Slope
from spry.experiment.config import Config
from spry.experiment.privacy_budget import spending
from spry.experiment.privacy_checks import check_head, check_privacy, check_sums, clip_of
from spry.experiment.privacy_settings import PrivacySettings
from spry.federated.closed_head.fits import HeadSolver
from spry.federated.methods.options import DirectionOptions
from spry.federated.privacy.accounting import Spending
from spry.federated.privacy.bounds import Bounds
from spry.federated.privacy.gaussian import CentralNoise, LocalNoise
from spry.federated.privacy.head_sums import HeadNoise, RawSums, private_class_head
from spry.federated.secure.masks import check_installed
from spry.federated.summing import Enrolment, Summing
from spry.federated.transforms import UpdateTransform
from spry.runtime.parties import SecureAggregation
from spry.runtime.sampling import Sampler, sample, sample_each
from spry.tasks.head_fit import HeadFit


@dataclass(frozen=True, kw_only=True)
class Private:
    """What a private run is built from; of a run without privacy, nothing.

    Args:
        sampler: Who chooses the clients of a round.
        spending: What rounds cost; None where nothing is counted.
        head: What a head in closed form is made by; None without one.
        secure: What hides single replies from the server; None shows them.
    """

    transforms: tuple[UpdateTransform, ...] = ()
    summing: Summing | None = None
    example_slopes: Slope | None = None
    sampler: Sampler = field(default=sample)
    spending: Spending | None = None
    head: HeadSolver[RawSums] | None = None
    secure: SecureAggregation | None = None


NOT_PRIVATE = Private()
"""The parts of a run without privacy."""


def private(
    config: Config,
    units: Sequence[Unit],
    clients: Sequence[int],
    asked: int,
    key: Key,
    *,
    factors: Mapping[str, float],
    counted: Spending | None = None,
    head: HeadFit | None = None,
    secret: Key | None = None,
) -> Private:
    """Make the parts that keep a run private.

    Args:
        units: What is trained.
        clients: All that may be asked.
        asked: How many are asked in a round, on average.
        key: The run's.
        factors: On the step sizes of the groups of weights.
        counted: What rounds cost; found if None, which takes a moment.
        head: What a head that starts in closed form learns; None if none does.
        secret: Where noise comes from; drawn if None, or, as ``privacy.seed`` says, made of the run's key.

    Raises:
        ConfigError: If settings of privacy do not fit each other or the method.
        PrivacyError: If the rounds cost more than the budget.
    """
    settings = config.privacy
    if head is not None and (settings.secure_aggregation or settings.mechanism != "none"):
        check_head(config, head)
    if settings.mechanism == "none":
        return _without_noise(config, key)
    check_privacy(config)
    central, by_example = settings.mechanism == "central", settings.unit == "example"
    secret = secret or (_secret() if settings.seed == "secret" else key.fold("privacy"))
    bounds = _bounds(config, units, factors)
    counted = counted or spending(config, clients, asked, key, head=head is not None)
    noise = (
        CentralNoise(bounds=bounds, noise=counted.noise, key=secret)
        if central
        else LocalNoise(bounds=bounds, noise=counted.noise, key=secret, by_order=settings.seed == "secret")
    )
    enrolled = Enrolment(clients=tuple(clients), rate=asked / len(clients)) if central else None
    shorten = bounds.shorten if central else dict
    return Private(
        transforms=(noise,),
        summing=Summing(
            key=key,
            enrolled=enrolled,
            least=_least(settings, enrolled),
            shorten=shorten,
            tells_loss=central and not settings.secure_aggregation,
        ),
        example_slopes=bounded_examples(clip_of(settings), config.client.batch_size) if by_example else None,
        sampler=_by(secret) if central else sample,
        spending=counted,
        head=None if head is None else private_class_head(_head_noise(settings, counted, secret)),
        secure=secure_aggregation(config),
    )


def _without_noise(config: Config, key: Key) -> Private:
    """The parts of a run whose replies are hidden in their sum, or of one that hides nothing."""
    secure = secure_aggregation(config)
    if secure is None:
        return NOT_PRIVATE
    least = _least(config.privacy, None)
    return Private(summing=Summing(key=key, least=least, tells_loss=False), secure=secure)


def secure_aggregation(config: Config) -> SecureAggregation | None:
    """Make what hides single replies from the server; None shows them."""
    settings = config.privacy
    if not settings.secure_aggregation:
        return None
    check_installed()
    check_sums(config)
    split = getattr(config.method.options, "split", None)
    if isinstance(split, tuple):
        raise ConfigError(
            f"method.split has the budgets {list(split)}, and privacy.secure_aggregation deals each part to "
            "several clients alike. Set method.split to cyclic, contiguous or everything"
        )
    return SecureAggregation(owners=settings.owners, bits=settings.bits, largest=settings.largest)


def _least(settings: PrivacySettings, enrolled: Enrolment | None) -> int:
    """How many of those that are dealt to must have a unit, so that enough of them are asked; twice as many, where that
    is left to chance.
    """
    if not settings.secure_aggregation:
        return 1
    return settings.owners if enrolled is None else math.ceil(2 * settings.owners / enrolled.rate)


def _head_noise(settings: PrivacySettings, counted: Spending, secret: Key) -> HeadNoise:
    assert settings.head_clip is not None and counted.head is not None  # checked before
    by_client = settings.unit == "client"
    return HeadNoise(
        norm=settings.head_clip,
        examples=settings.head_examples if by_client else 1,
        by_client=by_client,
        noise=counted.head,
        key=secret.fold("head noise"),
    )


def _bounds(config: Config, units: Sequence[Unit], factors: Mapping[str, float]) -> Bounds:
    settings, clip = config.privacy, clip_of(config.privacy)
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


def _secret() -> Key:
    """A key from the operating system's random numbers, which is written down nowhere."""
    return Key(secrets.randbits(64)).fold(secrets.token_hex(32))


def _by(secret: Key) -> Sampler:
    """Sample each client by itself, by a key of its own: who is asked is as secret as the noise."""

    def sampler(clients: Sequence[int], count: int, round: int, key: Key) -> list[int]:
        return sample_each(clients, count, round, secret.fold("asked"))

    return sampler
