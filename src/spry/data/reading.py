"""How one source was read, for whoever wants to know what a run learns from."""

from __future__ import annotations

from dataclasses import dataclass


def quantity(number: int, noun: str) -> str:
    """Write a number of things: ``1 row``, ``1,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Rows of a source that are no examples, for one reason; ``first`` are up to five of their numbers, from 1."""

    reason: str
    rows: int
    first: tuple[int, ...]

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.first)) + (", ..." if self.rows > len(self.first) else "")
        return f"{quantity(self.rows, 'row')} ({self.reason}: row {shown})"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How one source was read.

    Args:
        size: Bytes of the file; None if there is no single file.
        left_out: Rows that became no examples, by reason.
        notes: Sentences on what was changed, or looks odd.
    """

    source: str
    format: str
    rows: int
    size: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        # a long path would push the numbers out of sight
        name = self.source if len(self.source) <= 40 else self.source.replace("\\", "/").rsplit("/", 1)[-1]
        return f"{name} ({self.format}, {quantity(self.rows, 'row')})"
