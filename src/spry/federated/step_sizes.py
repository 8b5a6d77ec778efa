"""Step sizes by group and round: factors on the step size of whoever steps, the same for every method.

A method is built once a round with its optimizer scaled, so it needs to know nothing of this. Whoever replays a round
builds the same method from the round's number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from spry.core.errors import ConfigError, nearest
from spry.core.keys import Key
from spry.core.units import GROUPS, Unit, names_of
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.client import ClientResult, LossOf
from spry.wire.messages import Answer, Order

Decay = Literal["none", "linear"]


@dataclass(frozen=True, kw_only=True)
class StepSizes:
    """Factors on a step size.

    Args:
        factors: By group, each >= 0; 1 for a group that is not named, 0 keeps it at its start.
        decay: ``linear`` lets them fall over the rounds, ``c_r = 1 - r / R`` in round r from 0.
        rounds: ``R``, >= 1 with a decay.

    Raises:
        ConfigError: If a group or a decay is unknown, a factor is out of range, or a decay lacks its rounds.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    decay: Decay = "none"
    rounds: int = 0

    def __post_init__(self) -> None:
        for group, factor in self.factors.items():
            if group not in GROUPS:
                raise ConfigError(f"step_factors has no group {group!r}. {nearest(group, GROUPS)}")
            if not 0 <= factor < math.inf:
                raise ConfigError(
                    f"step_factors.{group} is {factor}; it must be a number of at least 0, where 0 keeps the group at "
                    "its start"
                )
        if self.decay not in get_args(Decay):
            raise ConfigError(f"decay is {self.decay!r}. {nearest(self.decay, get_args(Decay))}")
        if self.decay != "none" and self.rounds < 1:
            raise ConfigError(
                f"decay = {self.decay!r} needs to know how many rounds there will be: say rounds, such as rounds=30"
            )

    def of_group(self, unit: Unit) -> float:
        return self.factors.get(unit.group, 1.0)

    def of_round(self, round: int) -> float:
        """What the step sizes of a round are multiplied by; 0 after the last."""
        return max(1 - round / self.rounds, 0.0) if self.decay == "linear" else 1.0

    def of_weights(self, units: Iterable[Unit], round: int) -> dict[str, float]:
        """What each weight's step size is multiplied by in a round."""
        here = self.of_round(round)
        return {name: self.of_group(unit) * here for unit in units for name in unit.names}

    def frozen(self, units: Iterable[Unit]) -> tuple[Unit, ...]:
        """The units that stay at their start."""
        return tuple(unit for unit in units if not self.of_group(unit))

    def change_nothing(self, units: Iterable[Unit]) -> bool:
        return self.decay == "none" and all(self.of_group(unit) == 1 for unit in units)


def round_by_round(make: Callable[[int], Algorithm]) -> Algorithm:
    """Let each round be trained and absorbed by the algorithm that ``make`` gives for its number, from 0.

    They must differ only in what they make of an order and of replies: the first one initializes and plans.
    """
    first, at = make(0), lru_cache(maxsize=2)(make)

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
        return at(order.round).train(loss_of, order, batches, examples)

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        return at(state.round).absorb(state, answers)

    return replace(first, train=train, absorb=absorb)


def without(algorithm: Algorithm, frozen: Sequence[Unit]) -> Algorithm:
    """Leave units out of what clients train and send back; orders go on carrying their weights.

    Raises:
        ConfigError: If nothing remains to be trained.
    """
    left = tuple(unit for unit in algorithm.units if unit not in frozen)
    if not left:
        stopped = ", ".join(
            f"step_factors.{group} = 0" for group in GROUPS if any(u.group == group for u in frozen)
        )
        raise ConfigError(
            f"{algorithm.name} trains nothing with {stopped}. Set a factor of what it trains greater than 0: its "
            f"weights belong to {', '.join(dict.fromkeys(unit.group for unit in algorithm.units))}"
        )
    still = frozenset(names_of(frozen))

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        return {
            client: replace(order, trained=tuple(name for name in order.trained if name not in still))
            for client, order in algorithm.plan(state, clients, key).items()
        }

    return replace(algorithm, units=left, plan=plan)
