"""Who is asked in a round, and what nobody trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit


class Sampler(Protocol):
    def __call__(self, clients: Sequence[int], count: int, round: int, key: Key) -> list[int]:
        """Choose the clients of a round, each at most once."""
        ...


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


def sample_each(clients: Sequence[int], count: int, round: int, key: Key) -> list[int]:
    """Choose each client by itself, with chance ``count`` of their number: about ``count`` of them, perhaps none.

    Whether one is chosen says nothing of another, which is what counting privacy rests on (Poisson sampling).
    """
    sample(clients, count, round, key)  # refuses as many as there are not
    drawn = key.fold("round", round).generator("each").random(len(clients))
    return [client for client, chance in zip(clients, drawn, strict=True) if chance * len(clients) < count]


def untrained(units: Sequence[Unit], trained: set[str]) -> tuple[str, ...]:
    """Name the units that no surviving reply trained, in the model's order."""
    return tuple(unit.name for unit in units if unit.name not in trained)
