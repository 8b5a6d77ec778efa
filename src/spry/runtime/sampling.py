"""Who is asked in a round, and what nobody trained."""

from __future__ import annotations

from collections.abc import Sequence

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit


def sample(clients: Sequence[int], count: int, round: int, key: Key) -> list[int]:
    """Choose the M = ``count`` clients of a round, each at most once, in random order.

    Raises:
        ConfigError: If there are fewer clients than asked for.
    """
    if not 1 <= count <= len(clients):
        raise ConfigError(
            f"{count} clients a round asked for; there are {len(clients)} with training examples. "
            f"Choose clients_per_round from 1 to {len(clients)}, or spread the data more evenly (a larger alpha)."
        )
    order = key.fold("round", round).permutation(len(clients), "sample")
    return [clients[i] for i in order[:count]]


def untrained(units: Sequence[Unit], trained: set[str]) -> tuple[str, ...]:
    """Name the units that no surviving reply trained, in the model's order."""
    return tuple(unit.name for unit in units if unit.name not in trained)
