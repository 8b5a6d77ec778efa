"""The unit: the smallest group of trainable weights that is dealt to a client as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The trainable weights of one module, such as LoRA's A and B of one projection.

    Args:
        name: The module's path in the model.
        names: Names of its trainable weights.
        size: Number of its scalar weights, > 0: what splits balance.
        head: Whether this is the task's head, which every client trains.
        exact: Whether its gradient is taken exactly, by methods that measure slopes along directions too; it must cost
            no activations of the model to do so.
    """

    name: str
    names: tuple[str, ...]
    size: int = 1
    head: bool = False
    exact: bool = False


def names_of(units: Iterable[Unit]) -> tuple[str, ...]:
    return tuple(name for unit in units for name in unit.names)


def exact_names(units: Iterable[Unit]) -> frozenset[str]:
    return frozenset(names_of(unit for unit in units if unit.exact))
