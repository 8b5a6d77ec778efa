"""Jobs of like pieces, such as the clients of a round: whoever is free takes the next piece.

The counter ``job`` is odd while a job is open, and is its number; when it goes on, the job is over, and what is still
computed for it is dropped.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spry.core.errors import SpryError
from spry.runtime.processes.duties import DoPiece, Duty
from spry.runtime.processes.mailbox import Mailbox


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done."""

    number: int
    duty: Duty
    pieces: int


@dataclass(frozen=True)
class Outcome:
    """What came of a piece: a value, or the error that it ended with."""

    piece: int
    value: Any = None
    error: Exception | None = None

    def read(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def attempt(work: DoPiece, piece: int) -> Outcome:
    try:
        return Outcome(piece, work(piece))
    except Exception as error:
        return Outcome(piece, error=portable(error))


def portable(error: Exception) -> Exception:
    """Make an error fit to travel: one that cannot be pickled goes as what it says."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        kind = SpryError if isinstance(error, SpryError) else RuntimeError
        return kind(f"{type(error).__name__}: {error}")


def open_job(box: Mailbox, duty: Duty, pieces: int) -> Job:
    job = Job(number=box.count("job") + 1, duty=duty, pieces=pieces)
    assert job.number % 2, "a job is still open"
    box.put("told", job)  # before its number: whoever sees the number must find it
    box.count("job", 1)
    return job


def close_job(box: Mailbox, job: Job) -> None:
    box.count("job", 1)
    box.forget(_taken(job))


def latest(box: Mailbox, seen: int) -> Job | None:
    """Read the job that is open; None if there is none after ``seen``."""
    number = box.count("job")
    return box.read("told") if number % 2 and number > seen else None


def is_over(box: Mailbox, job: Job) -> bool:
    return box.count("job") > job.number


def take_piece(box: Mailbox, job: Job) -> int | None:
    """Take the next piece; None if all are taken."""
    piece = box.count(_taken(job), 1) - 1
    return piece if piece < job.pieces else None


def answer(box: Mailbox, job: Job, rank: int, number: int, outcome: Outcome) -> None:
    """Give what came of a piece; ``number`` counts this process's answers of the job."""
    if not is_over(box, job):
        box.put(_answer(job, rank, number), outcome)


class Returned:
    """Reads the answers of a job in the order in which each process gave them."""

    def __init__(self, box: Mailbox, job: Job, ranks: range) -> None:
        self._box, self._job = box, job
        self._read = dict.fromkeys(ranks, 0)

    def arrived(self) -> Iterator[Outcome]:
        for rank in self._read:
            while self._box.has(key := _answer(self._job, rank, self._read[rank])):
                self._read[rank] += 1
                yield self._box.take(key)


def _taken(job: Job) -> str:
    return f"taken/{job.number}"


def _answer(job: Job, rank: int, number: int) -> str:
    return f"answer/{job.number}/{rank}/{number}"
