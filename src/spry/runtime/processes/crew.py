"""The leader's side: deals jobs over all processes of the run, itself among them, and knows how the helpers are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from spry.runtime.processes.duties import DoPiece, Duty
from spry.runtime.processes.jobs import Returned, close_job, open_job, take_piece
from spry.runtime.processes.mailbox import Mailbox
from spry.runtime.processes.pulse import Listener, Pulse

LEADER = 0
"""The rank of the process that leads."""
PAUSE_SECONDS = 0.002
"""Between two looks at the mailbox while there is nothing to do."""
JOINED, END, RUN, BROKEN = "joined", "end", "run", "broken"
"""Keys of the mailbox, but for jobs."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What a helper says when it has loaded model and data.

    Args:
        threads: On which it computes.
        own_bytes: Memory that it shares with no other process.
        shared_bytes: Memory that it shares, such as libraries; 0 where the system does not tell.
    """

    rank: int
    pid: int
    host: str
    threads: int
    own_bytes: int
    shared_bytes: int


@dataclass
class Crew:
    """All processes of a run, seen by the one that leads.

    Args:
        size: How many there are, the leader counted.
        look: Raises a WorkerError if a helper has ended.
        joins: Is told of each helper that has loaded model and data.
    """

    box: Mailbox
    size: int
    look: Callable[[], None]
    joins: Callable[[Joined], None] = lambda joined: None
    _coming: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._coming = set(self.helpers)
        self._pulse = Pulse(self.box, LEADER, lambda: None)
        self._listener = Listener(self.box, self.helpers)

    @property
    def helpers(self) -> range:
        return range(LEADER + 1, self.size)

    def begin(self, told: object) -> None:
        """Say what helpers need to load the run."""
        self.box.put(RUN, told)

    def share(
        self, duty: Duty, pieces: int, work: DoPiece, deadline: float | None = None
    ) -> Generator[tuple[int, Any]]:
        """Do all pieces of a job, and yield each with what came of it, as they are done.

        Whoever is free takes the next one; helpers that are not there yet come in when they have loaded.

        Args:
            work: Does a piece in this process.
            deadline: Seconds from now after which no piece is begun or waited for; None waits for all.

        Raises:
            WorkerError: If a helper has ended or is silent.
        """
        self._greet()
        ends = float("inf") if deadline is None else time.monotonic() + deadline
        waiting, left, job = set(range(pieces)), True, open_job(self.box, duty, pieces)
        answers = Returned(self.box, job, self.helpers)
        try:
            while waiting and time.monotonic() < ends:
                for outcome in answers.arrived():
                    waiting.discard(outcome.piece)
                    yield outcome.piece, outcome.read()
                mine = take_piece(self.box, job) if left else None
                left = mine is not None
                if mine is not None:
                    waiting.discard(mine)
                    yield mine, work(mine)
                elif waiting:
                    self._greet()
                    time.sleep(PAUSE_SECONDS)
        finally:
            close_job(self.box, job)

    def check_failed(self, rank: int) -> None:
        """Raise what a helper ended with, if it said so."""
        if self.box.has(f"{BROKEN}/{rank}"):
            raise self.box.take(f"{BROKEN}/{rank}")

    def close(self) -> None:
        self._pulse.stop()
        with contextlib.suppress(RuntimeError):  # the store may be gone
            self.box.put(END, True)

    def _greet(self) -> None:
        """Look who has come, and whether all are well."""
        self.look()
        for rank in self.helpers:
            self.check_failed(rank)
        for rank in sorted(self._coming):
            if self.box.has(f"{JOINED}/{rank}"):
                self._coming.discard(rank)
                self.joins(self.box.take(f"{JOINED}/{rank}"))
        self._listener.check()
