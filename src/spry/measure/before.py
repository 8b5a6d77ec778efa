"""What was spent before round 1 counts with the first round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def with_head(
    rounds: Sequence[Mapping[str, Any]], key: str, values: Iterable[float | None]
) -> list[float | None]:
    """Add what a head in closed form took, as the log's first round says, to the first of the rounds' values."""
    found = list(values)
    spent = head_of(rounds).get(key, 0)
    return [found[0] + spent, *found[1:]] if found and found[0] is not None else found


def head_of(rounds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Read what a head in closed form took; nothing where there was none."""
    return (rounds[0].get("head") if rounds else None) or {}
