"""The errors a user can meet, each saying what was given, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SpryError(Exception):
    """Base of every error that Spry raises on purpose; the command line prints it without a traceback."""


class ConfigError(SpryError, ValueError):
    """A setting is unknown, has the wrong type or lies outside its range."""


class DataError(SpryError, ValueError):
    """A data file, column, label or partition cannot be used as asked."""


class ModelError(SpryError, ValueError):
    """A model folder, PEFT target or module cannot be used as asked."""


class TrainingError(SpryError, RuntimeError):
    """A run cannot go on, for example because every client's loss is NaN."""


class CheckpointError(SpryError, RuntimeError):
    """A checkpoint cannot be written, read or continued."""


class DiskError(CheckpointError):
    """The disk is full or refuses: what was written before is kept, and the run can go on from there."""


class WireError(SpryError, ValueError):
    """A message is truncated, malformed or does not fit the weights it speaks of."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Name the allowed name that was probably meant, and all allowed ones unless they are too many to read.

    >>> nearest("spri", ["fedavg", "spry"])
    "Did you mean 'spry'? Known: fedavg, spry."
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]!r}?" if close else ""
    known = f"Known: {', '.join(names)}." if not close or len(names) <= 12 else ""
    return f"{guess} {known}".strip()
