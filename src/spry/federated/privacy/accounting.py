"""What a run spends of its privacy budget: epsilon by the privacy loss distributions of ``dp-accounting``."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from spry.core.errors import ConfigError, PrivacyError

BIN_WIDTH = 1e-3
"""Width of the bins of a privacy loss, for z >= 1; wider ones make epsilon larger than it is, never smaller."""
TOLERANCE = 1e-3
"""How much more noise than is needed may be found."""
INSTALL = 'Install what counts privacy: pip install "spry-fl[privacy]"'


@dataclass(frozen=True, kw_only=True)
class Spending:
    """How a run spends privacy: one Gaussian release before round 1, perhaps, and one in each round.

    Adjacent are a federation and the same with the data of one client, or one example, taken out.

    Args:
        delta: Chance, in (0, 1), with which epsilon need not hold.
        noise: Noise multiplier z >= 0 of a round's release: its standard deviation by the release's sensitivity.
        rate: Chance q, in (0, 1], with which a client is asked in a round, unknown to whom privacy is kept from.
        head: Noise multiplier of the release before round 1; None without one.
        budget: Largest epsilon, > 0; None without a bound.
        releases: Of how many of the first r rounds a client is part, for each r from 0, where that is known; None
            counts them all.
    """

    delta: float
    noise: float
    rate: float = 1.0
    head: float | None = None
    budget: float | None = None
    releases: Sequence[int] | None = None

    def epsilon(self, rounds: int) -> float:
        """How much is spent after so many rounds; infinite without noise.

        Raises:
            ConfigError: If ``dp-accounting`` is not installed.
        """
        number = rounds if self.releases is None else self.releases[rounds]
        return spent(self.noise, self.rate, number, self.head, self.delta)

    def check(self, rounds: int) -> None:
        """Refuse a round that would overspend.

        Raises:
            PrivacyError: If so many rounds cost more than the budget.
        """
        if self.budget is None:
            return
        if (found := self.epsilon(rounds)) > self.budget:
            before = self.epsilon(rounds - 1) if rounds else 0.0
            raise PrivacyError(
                f"the privacy budget is spent: round {rounds} would bring epsilon from {before:.4g} to {found:.4g}, "
                f"and privacy.epsilon is {self.budget:g}. Keep the {max(rounds - 1, 0)} rounds there are, or start "
                "a new run with fewer rounds, more noise or a larger budget"
            )

    def affordable(self, rounds: int) -> int:
        """How many rounds, at most so many, the budget pays for."""
        if self.budget is None or self.epsilon(rounds) <= self.budget:
            return rounds
        low, high = -1, rounds
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.epsilon(middle) <= self.budget else (low, middle)
        return low


@lru_cache(maxsize=4096)
def spent(noise: float, rate: float, rounds: int, head: float | None, delta: float) -> float:
    """Compose the Gaussian release before round 1 and Poisson-subsampled ones of some rounds, both if they are there.

    Source:
        Koskela, Jaelkoe & Honkela 2020 (arXiv 1906.03049) and Doroshenko et al. 2022 (arXiv 2207.04380), by
        ``dp_accounting.pld``, whose estimate is never too small.
    """
    if (rounds and not noise) or head == 0:
        return math.inf
    least = min(1.0, noise if rounds else 1.0, 1.0 if head is None else head)
    width = BIN_WIDTH / least**2  # losses grow with 1 / z^2, and the number of bins with them
    parts = [_loss(noise, rate, width).self_compose(rounds)] if rounds else []
    parts += [] if head is None else [_loss(head, 1.0, width)]
    if not parts:
        return 0.0
    whole = parts[0] if len(parts) == 1 else parts[0].compose(parts[1])
    return float(whole.get_epsilon_for_delta(delta))


def calibrated(epsilon_of: Callable[[float], float], epsilon: float) -> float:
    """Find the least noise multiplier whose epsilon is at most the one given, up to ``TOLERANCE`` of itself.

    Args:
        epsilon_of: What a noise multiplier spends; it falls with noise.
        epsilon: What may be spent, > 0.

    Raises:
        ConfigError: If no noise up to a million suffices.
    """
    low, high = 0.0, 1.0
    while epsilon_of(high) > epsilon:
        low, high = high, 2 * high
        if high > 1e6:
            raise ConfigError(
                f"no noise keeps epsilon = {epsilon:g}. Ask for fewer rounds, or a larger epsilon"
            )
    while high - low > TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if epsilon_of(middle) <= epsilon else (middle, high)
    return high


@lru_cache(maxsize=64)
def _loss(noise: float, rate: float, width: float) -> Any:
    return distributions().from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=width
    )


def distributions() -> Any:
    """Load the library's privacy loss distributions; ConfigError if it is not installed."""
    try:
        return importlib.import_module("dp_accounting.pld.privacy_loss_distribution")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{INSTALL} ({error})") from error
