"""What rounds take, leaving out what measuring them adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any


def client_seconds(rounds: Sequence[Mapping[str, Any]], key: str = "client_seconds") -> list[float]:
    """Read each round's seconds of local training, of all clients together; NaN where the log has none.

    A round that was slowed by measuring memory or counting operations counts as the median of the others, if there are
    any.

    Args:
        key: ``client_seconds`` for wall time, ``client_cpu_seconds`` for processor time.
    """
    seconds = [float("nan") if entry.get(key) is None else entry[key] for entry in rounds]
    usual = [each for each, entry in zip(seconds, rounds, strict=True) if not _slowed(entry)]
    return [
        median(usual) if usual and _slowed(entry) else each
        for each, entry in zip(seconds, rounds, strict=True)
    ]


def total(values: Iterable[float | None]) -> float | None:
    """Add up numbers of rounds; None if one is unknown, or there are none."""
    found = [math.nan if value is None else value for value in values]
    summed = sum(found)
    return summed if found and not math.isnan(summed) else None


def _slowed(entry: Mapping[str, Any]) -> bool:
    """Before ``slowed`` was logged, only memory was measured."""
    return any(
        client.get("slowed", client.get("peak_bytes_above_model") is not None)
        for client in entry.get("clients", ())
    )
