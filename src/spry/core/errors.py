"""The errors a user can meet, each saying what was given, what is allowed and what to do."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class SpryError(Exception):
    """Base of every error that Spry raises on purpose; the command line prints it without a traceback."""


class ConfigError(SpryError, ValueError):
    """A setting is unknown, has the wrong type or lies outside its range."""


class DataError(SpryError, ValueError):
    """A data file, column, label or partition cannot be used as asked."""


class ModelError(SpryError, ValueError):
    """A model folder, PEFT target or module cannot be used as asked."""


class PluginError(SpryError, ImportError):
    """An installed plugin cannot be imported."""


class TrainingError(SpryError, RuntimeError):
    """A run cannot go on, for example because every client's loss is NaN."""


class PrivacyError(TrainingError):
    """A round would spend more privacy than there is, or a protocol that keeps replies secret cannot be completed."""


class CheckpointError(SpryError, RuntimeError):
    """A checkpoint cannot be written, read or continued."""


class DiskError(CheckpointError):
    """The disk is full or refuses: what was written before is kept, and the run can go on from there."""


class WorkerError(SpryError, RuntimeError):
    """A process that helps a run has ended or is silent: what is done is kept, and the run can go on from there."""


class WireError(SpryError, ValueError):
    """A message is truncated, malformed or does not fit the weights it speaks of."""


class Terminated(BaseException):
    """The process was asked to end (SIGTERM); no ``Exception``, so that nothing takes it for a failure and goes on."""


READABLE = 24
"""How many names a message lists at most; a table may have thousands of columns."""
READABLE_LINE = 120
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Name the allowed name that was probably meant, and all allowed ones unless they are too many to read.

    >>> nearest("spri", ["fedavg", "spry"])
    "Did you mean 'spry'? Known: fedavg, spry."
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]!r}?" if close else ""
    more = f" and {len(names) - READABLE} more" if len(names) > READABLE else ""
    known = (
        f"Known: {', '.join(names[:READABLE])}{more}." if names and (not close or len(names) <= 12) else ""
    )
    return f"{guess} {known}".strip()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was lacking, which Python, torch, CUDA and the operating system each say in their own way."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return not isinstance(error, SpryError) and bool(_OUT_OF_MEMORY.search(str(error)))


def first_line(error: BaseException) -> str:
    """Shorten what another package says, which may run over many lines, to its first; a long one to a sentence."""
    line = (str(error).strip() or "it says no more").splitlines()[0].rstrip(".:")
    sentence = re.split(r"(?<=\w)\. ", line)[0] if len(line) > READABLE_LINE else line
    return sentence if len(sentence) <= 2 * READABLE_LINE else f"{sentence[: 2 * READABLE_LINE]} ..."
