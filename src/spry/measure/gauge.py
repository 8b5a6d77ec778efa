"""High-water marks of memory that can be reset, shared by everything that measures at the same time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


class Visit:
    """The highest mark since a stretch of work began; if not ``exact``, the peak may lie before it."""

    def __init__(self, *, exact: bool) -> None:
        self.peak = 0
        self.exact = exact
        self.thread = threading.get_ident()


class Gauge:
    """One high-water mark of a device, shared by all open visits.

    A reset would lose the peaks of open visits, so each stores its peak before the reset. Reading and resetting are
    two steps, and another thread may peak between them. So while another thread is under measurement the mark is not
    reset, and bounds the new visit's peak from above. A peak of a thread that nobody measures may be missed.

    Args:
        now: Tells the bytes in use at this moment.
        mark: Tells the highest bytes since the last reset.
        reset: Lets the mark start again from the bytes in use now.
        wait: Waits for queued work.
        resettable: False if ``reset`` can do nothing, so that ``mark`` only bounds a visit's peak from above.
    """

    def __init__(
        self,
        *,
        now: Callable[[], int],
        mark: Callable[[], int],
        reset: Callable[[], object],
        wait: Callable[[], object] = lambda: None,
        resettable: bool = True,
    ) -> None:
        self.now, self.wait = now, wait
        self._mark, self._reset, self._resettable = mark, reset, resettable
        self._lock = threading.Lock()
        self._open: set[Visit] = set()

    def enter(self) -> Visit:
        self.wait()
        with self._lock:
            alone = all(visit.thread == threading.get_ident() for visit in self._open)
            if alone:
                self._keep()
                self._reset()
            visit = Visit(exact=self._resettable and alone)
            self._open.add(visit)
        return visit

    def leave(self, visit: Visit) -> None:
        """Close a visit; its ``peak`` is then the highest mark since ``enter``, in bytes."""
        with self._lock:
            self._keep()
            self._open.remove(visit)

    def _keep(self) -> None:
        mark = self._mark()
        for visit in self._open:
            visit.peak = max(visit.peak, mark)


_gauges: dict[str, Gauge] = {}
_gauges_lock = threading.Lock()


def gauge(device: torch.device) -> Gauge:
    """Find the one gauge of a device (CUDA without an index: the current one), as phases that share a mark share it."""
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    with _gauges_lock:
        if str(device) not in _gauges:
            _gauges[str(device)] = _cuda(device) if device.type == "cuda" else _process()
        return _gauges[str(device)]


def _process() -> Gauge:
    try:
        CLEAR_REFS.write_text("5", encoding="ascii")
        _status("VmHWM")
    except (OSError, KeyError):
        return Gauge(
            now=lambda: psutil.Process().memory_info().rss, mark=_record, reset=bool, resettable=False
        )
    return Gauge(
        now=lambda: _status("VmRSS"),
        mark=lambda: _status("VmHWM"),
        reset=lambda: CLEAR_REFS.write_text("5", encoding="ascii"),
    )


def _cuda(device: torch.device) -> Gauge:
    return Gauge(
        now=lambda: torch.cuda.memory_allocated(device),
        mark=lambda: torch.cuda.max_memory_allocated(device),
        reset=lambda: torch.cuda.reset_peak_memory_stats(device),
        wait=lambda: torch.cuda.synchronize(device),
    )


def _status(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _record() -> int:
    import resource

    record = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return record if sys.platform == "darwin" else record * 1024  # bytes on macOS, KiB elsewhere
