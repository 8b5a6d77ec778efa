"""The unit: the smallest group of trainable weights that is dealt to a client as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spry.core.params import Params


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The trainable weights of one module, such as LoRA's A and B of one projection.

    Args:
        name: The module's path in the model.
        names: Names of its trainable weights.
        size: Number of its scalar weights, > 0: what splits balance.
        head: Whether this is the task's head, which every client trains.
        sleeps: Weights that are multiplied by another one and so have no gradient while that one is zero, each with the
            other's name: LoRA's A with B.
    """

    name: str
    names: tuple[str, ...]
    size: int = 1
    head: bool = False
    sleeps: Mapping[str, str] = field(default_factory=dict, hash=False)


def names_of(units: Iterable[Unit]) -> tuple[str, ...]:
    """List the weights of several units, in their order.

    Args:
        units: Units.

    Returns:
        The names of all their weights.
    """
    return tuple(name for unit in units for name in unit.names)


def awake(units: Iterable[Unit], weights: Params) -> tuple[str, ...]:
    """List the weights of several units that may have a gradient, in their order.

    Args:
        units: Units.
        weights: The weights' values.

    Returns:
        The names of all their weights but those that sleep: ``dL/dA = 0`` for LoRA's A while B is zero.
    """
    return tuple(
        name
        for unit in units
        for name in unit.names
        if name not in unit.sleeps or bool(weights[unit.sleeps[name]].any())
    )
