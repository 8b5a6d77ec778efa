"""How the comparison's page writes numbers; a dash is what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

DASH = "–"


def told(values: Sequence[float], *, signed: bool = False) -> str:
    """Write the mean of shares in percent, and their sample deviation where there are several; a dash without any."""
    if not values:
        return DASH
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):{'+' if signed else ''}.1f}{deviation}"


def size(count: float | None) -> str:
    """Write bytes, in thousands or millions of them where there are so many."""
    if count is None:
        return DASH
    for unit, word in ((1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {word}"
    return f"{count:.0f} B"


def settings(chosen: Mapping[str, Any]) -> str:
    """Write settings that are set."""
    return ", ".join(f"`{key}` {value:g}" for key, value in chosen.items() if value is not None)


def few(rounds: float) -> str:
    """Write rounds, with a digit more where they are few."""
    return f"{rounds:.1f}" if rounds < 10 else f"{rounds:.0f}"


def number(value: float | None, unit: float, word: str) -> str:
    """Write a number in a unit."""
    return DASH if value is None else f"{value / unit:.3g} {word}"


def ratio(ours: float | None, theirs: float | None) -> str:
    """Write one number as a multiple of another."""
    return DASH if ours is None or not theirs else f"{ours / theirs:.2f} x"
