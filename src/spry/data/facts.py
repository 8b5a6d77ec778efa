"""What was read of a source, for whoever wants to know what a run learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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
        return f"{self.rows:,} left out ({self.reason}: row {shown})"


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
        return "; ".join([
            f"{self.source} ({self.format}, {quantity(self.rows, 'row')})",
            *map(str, self.left_out),
        ])


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a data set consists of after reading and dividing.

    Args:
        train: Training examples by class, in the classes' order.
        official: Whether the test part is the source's own.
        duplicates: Training examples dropped because their texts are in a part that was held out.
        overlap: Training examples kept although their texts are in an official test part.
        contradictions: Texts that occur in the training part with more than one label.
    """

    readings: tuple[Reading, ...]
    train: Mapping[str, int]
    test: Mapping[str, int] | None
    official: bool
    duplicates: int
    overlap: int
    contradictions: int
    validation: Mapping[str, int] | None = None

    def lines(self) -> list[str]:
        """Tell it in lines for humans, what looks odd last."""
        told = [f"data: {reading}" for reading in self.readings]
        told.append(f"training part: {_counted(self.train)}")
        if self.test is not None:
            told.append(f"test part: {_counted(self.test)}" + ("" if self.official else ", held out"))
        if self.validation is not None:
            told.append(f"validation part: {_counted(self.validation)}, held out of the training part")
        return [*told, *(f"note: {note}" for note in self.notes())]

    def notes(self) -> list[str]:
        """What looks odd, or was changed, a sentence each."""
        notes = [note for reading in self.readings for note in reading.notes]
        held = "the test part" if self.validation is None else "a part that is held out"
        told = {
            f"training examples dropped because their texts are in {held} too": self.duplicates,
            "training examples whose texts are in the test part too": self.overlap,
            "texts of the training part with more than one label": self.contradictions,
        }
        notes += [f"{what}: {number:,}." for what, number in told.items() if number]
        empty = [name for name, number in self.train.items() if not number]
        if empty:
            notes.append(f"no training example has the class {', '.join(map(repr, empty[:5]))}.")
        return notes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _counted(classes: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name!r} {number:,}" for name, number in list(classes.items())[:10])
    more = f", and {len(classes) - 10} more" if len(classes) > 10 else ""
    return f"{quantity(sum(classes.values()), 'example')} of {len(classes)} classes ({shown}{more})"
