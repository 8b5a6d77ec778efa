"""Who is asked in a round, and whether a reply counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import all_finite
from spry.core.units import Unit
from spry.wire.messages import Gradient, Reply, Slopes, Weights


def sample(clients: Sequence[int], count: int, round: int, key: Key) -> list[int]:
    """Choose the clients of a round, each at most once.

    Args:
        clients: Clients that have training examples.
        count: M, how many to ask, from 1 to all of them.
        round: The round, from 0.
        key: The run's key.

    Returns:
        The chosen clients, in random order.

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


def validate_reply(reply: Reply) -> str | None:
    """Find what makes a reply unusable.

    Args:
        reply: The reply.

    Returns:
        What is wrong, or None if the reply counts.
    """
    if not math.isfinite(reply.loss):
        return f"loss is {reply.loss}"
    match reply.payload:
        case Slopes(slopes, exact):
            parts = {"slopes": slopes, **exact}
        case Weights(values) | Gradient(values):
            parts = values
    return None if all_finite(parts) else "payload has NaN or infinite values"


def untrained(units: Sequence[Unit], trained: set[str]) -> tuple[str, ...]:
    """List the units that nobody trained.

    Args:
        units: All units.
        trained: Names of the units that some surviving reply trained.

    Returns:
        Names of the others, in the model's order.
    """
    return tuple(unit.name for unit in units if unit.name not in trained)
