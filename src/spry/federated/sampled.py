"""What the server decides about random directions: how many there are, and which weights they move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spry.core.growth import Growth
from spry.core.params import Params
from spry.core.unit import Unit, awake, names_of
from spry.estimators.estimate import Estimator
from spry.federated.counts import Allotment
from spry.wire.messages import Order

COUNT = "count"
"""K among an order's choices."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """An estimator along random directions, which the server has a say in.

    Args:
        estimator: ``K -> estimator``; asked for one at once, so that bad settings are refused before a client trains.
        counts: K, round by round. Orders carry it if it grows.
        allotment: Shares K out among the clients of a round, so that ``counts`` is their mean; None gives all the same.
        sleep: Whether weights whose gradient is known to be zero are left out. A direction in them tells nothing, but
            adds its noise to all others: with LoRA, whose B begins at zero, half of the weights or more.
    """

    estimator: Callable[[int], Estimator]
    counts: Growth = field(default_factory=Growth)
    allotment: Allotment | None = None
    sleep: bool = True

    @classmethod
    def fixed(cls, estimator: Estimator) -> Sampled:
        """Take an estimator about which there is nothing to decide.

        Args:
            estimator: Such as backpropagation.

        Returns:
            The same, of which orders say nothing.
        """
        return cls(estimator=lambda count: estimator, sleep=False)

    def __post_init__(self) -> None:
        self.estimator(self.counts.start)

    def choices(
        self, memory: Mapping[str, Params], dealt: Mapping[int, Sequence[Unit]], round: int
    ) -> dict[int, dict[str, int]]:
        """Decide on K.

        Args:
            memory: The server's memory.
            dealt: The clients' units.
            round: The round, from 0.

        Returns:
            What each client's order carries.
        """
        mean = self.counts.at(round)
        if self.allotment is None:
            return {client: {COUNT: mean} if self.counts.grows else {} for client in dealt}
        return {client: {COUNT: k} for client, k in self.allotment.counts(memory, dealt, mean).items()}

    def ordered(self, order: Order) -> Estimator:
        """Make the estimator that an order asks for.

        Args:
            order: The order.

        Returns:
            The estimator.
        """
        return self.estimator(order.choices.get(COUNT, self.counts.start))

    def trained(self, units: Iterable[Unit], weights: Params) -> tuple[str, ...]:
        """List what a client trains.

        Args:
            units: What it was dealt.
            weights: The weights that it starts from.

        Returns:
            Names. What sleeps at the start sleeps for the whole round, though local steps may wake it.
        """
        return awake(units, weights) if self.sleep else names_of(units)
