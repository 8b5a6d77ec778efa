"""Says now and then that work goes on, where nothing else moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

INTERVAL = 60.0
"""Seconds of silence after which a line is printed."""


class Heartbeat:
    """Calls ``beat`` on a thread of its own after each ``INTERVAL`` seconds without ``touch``, while it is open."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat, self._interval = beat, INTERVAL
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self.touch()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def touch(self) -> None:
        """Note that something was said just now."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(max(0.0, self._last + self._interval - time.monotonic())):
            if time.monotonic() >= self._last + self._interval:
                self._beat()
                self.touch()
