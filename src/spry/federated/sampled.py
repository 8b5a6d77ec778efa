"""What the server decides about random directions: which weights they move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spry.core.params import Params
from spry.core.unit import Unit, awake, names_of
from spry.estimators.estimate import Estimator


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """An estimator along random directions, which the server has a say in.

    Args:
        estimator: The estimator.
        sleep: Whether weights whose gradient is known to be zero are left out. A direction in them tells nothing, but
            adds its noise to all others: with LoRA, whose B begins at zero, half of the weights or more.
    """

    estimator: Estimator
    sleep: bool = True

    def trained(self, units: Iterable[Unit], weights: Params) -> tuple[str, ...]:
        """List what a client trains.

        Args:
            units: What it was dealt.
            weights: The weights that it starts from.

        Returns:
            Names. What sleeps at the start sleeps for the whole round, though local steps may wake it.
        """
        return awake(units, weights) if self.sleep else names_of(units)
