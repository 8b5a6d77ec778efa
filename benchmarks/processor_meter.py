"""Processor seconds of processes that come and go, among them ones that nobody waits for."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import Self

import psutil

SAMPLE_SECONDS = 0.1


class ProcessorMeter:
    """Sums the processor seconds of all processes with a variable in their environment, by looking often.

    What a process spends after the last look at it is missed: about a tenth of a second for each.

    Args:
        variable: The variable's name.
        value: What it has to be.
    """

    def __init__(self, variable: str, value: str) -> None:
        self._variable, self._value = variable, value
        self._own: dict[psutil.Process, bool] = {}
        self._spent: dict[psutil.Process, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def seconds(self) -> float:
        """Give the processor seconds, user and system, that the processes took until now."""
        return sum(self._spent.copy().values())

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    self._look(process)

    def _look(self, process: psutil.Process) -> None:
        if process not in self._own:
            variables = process.environ()
            if not variables:
                return  # between fork and exec; asked again
            self._own[process] = variables.get(self._variable) == self._value
        if self._own[process]:
            times = process.cpu_times()
            self._spent[process] = times.user + times.system
