"""SIGTERM ends a command as Ctrl-C does: what is done is kept, and said."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from spry.core.errors import Terminated


@contextmanager
def terminable() -> Generator[None]:
    """Raise ``Terminated`` in the body when SIGTERM comes; only the first one, so that the rest can be put in order."""
    if threading.current_thread() is not threading.main_thread():  # others cannot be sent signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Terminated
