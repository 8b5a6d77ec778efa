"""What rounds take, leaving out what measuring them adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any


def client_seconds(rounds: Sequence[Mapping[str, Any]]) -> list[float]:
    """Read each round's seconds of local training, of all clients together; NaN where the log has none.

    A round in which memory was measured is slower for it; it counts as the median of the others, if there are any.
    """
    seconds = [
        float("nan") if entry.get("client_seconds") is None else entry["client_seconds"] for entry in rounds
    ]
    usual = [each for each, entry in zip(seconds, rounds, strict=True) if not _measured(entry)]
    return [
        median(usual) if usual and _measured(entry) else each
        for each, entry in zip(seconds, rounds, strict=True)
    ]


def _measured(entry: Mapping[str, Any]) -> bool:
    return any(client.get("peak_bytes_above_model") is not None for client in entry.get("clients", ()))
