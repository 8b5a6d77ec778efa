"""Who is alive: every process raises a counter once a second, and whoever waits for another looks at its counter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spry.core.errors import WorkerError
from spry.runtime.processes.mailbox import Mailbox

BEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0
"""How long a process may be silent before it is given up; garbage collection and swapping take some seconds."""


class Pulse:
    """Raises the counter of this process on a thread of its own, until it is stopped.

    Args:
        gone: Called, once, if the store is gone.
    """

    def __init__(self, box: Mailbox, rank: int, gone: Callable[[], None]) -> None:
        self._box, self._rank, self._gone = box, rank, gone
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        while True:
            try:
                self._box.count(_counter(self._rank), 1)
            except RuntimeError:
                if not self._stopped.is_set():
                    self._gone()
                return
            if self._stopped.wait(BEAT_SECONDS):
                return


class Listener:
    """Notices when other processes have fallen silent; one that was never heard has not come yet.

    Time counts only while this process is awake: after Ctrl-Z and ``fg`` all go on.
    """

    def __init__(self, box: Mailbox, ranks: range) -> None:
        self._box = box
        self._heard = dict.fromkeys(ranks, 0)
        self._silent = dict.fromkeys(ranks, 0.0)
        self._looked = time.monotonic()

    def check(self) -> None:
        """Look at the counters, at most once a beat.

        Raises:
            WorkerError: If a process is silent for too long.
        """
        passed = time.monotonic() - self._looked
        if passed < BEAT_SECONDS:
            return
        self._looked += passed
        for rank, heard in self._heard.items():
            now = self._box.count(_counter(rank))
            self._silent[rank] = self._silent[rank] + min(passed, 2 * BEAT_SECONDS) if now == heard else 0.0
            self._heard[rank] = now
            if now and self._silent[rank] > SILENCE_SECONDS:
                raise WorkerError(
                    f"worker {rank} has been silent for {SILENCE_SECONDS:g} s: it hangs, or its machine is gone. What "
                    "is done is kept."
                )


def _counter(rank: int) -> str:
    return f"pulse/{rank}"
