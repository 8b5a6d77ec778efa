"""The unit: the smallest group of trainable weights that is dealt to a client as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

WeightGroup = Literal["head", "exact", "body"]
"""Which step size a weight takes: that of the task's own layers, of the last block's adapters, or of the rest."""
GROUPS: tuple[WeightGroup, ...] = get_args(WeightGroup)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The trainable weights of one module, such as LoRA's A and B of one projection.

    Args:
        name: The module's path in the model.
        names: Names of its trainable weights.
        size: Number of its scalar weights, > 0: what splits balance.
        head: Whether every client trains it: the task's own layers, and the last block's adapters where they join them.
        exact: Whether its gradient is taken exactly, by methods that measure slopes along directions too; it must cost
            no activations of the model to do so.
        last_block: Whether it is the adapters of the last block that every client trains, and no layer of the task.
    """

    name: str
    names: tuple[str, ...]
    size: int = 1
    head: bool = False
    exact: bool = False
    last_block: bool = False

    @property
    def group(self) -> WeightGroup:
        """Which step size its weights take."""
        if self.last_block:
            return "exact"
        return "head" if self.head else "body"


def names_of(units: Iterable[Unit]) -> tuple[str, ...]:
    return tuple(name for unit in units for name in unit.names)


def exact_names(units: Iterable[Unit]) -> frozenset[str]:
    return frozenset(names_of(unit for unit in units if unit.exact))
