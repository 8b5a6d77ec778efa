"""Peak memory and wall time of a computation, by phase.

On the CPU the official number is the kernel's own high-water mark of the process (``VmHWM``), reset at the
start of a phase through ``/proc/self/clear_refs``. It costs microseconds, so it is on in every run, and it
counts *everything*: tensors, the scratch that oneDNN and MKL take behind torch's back, Python objects. What
it cannot tell is memory that malloc keeps for reuse; a benchmark therefore starts with ``release_promptly``,
after which freed tensors go back at once and the mark is the peak of live bytes. ``tensor_peak`` counts the
other way, from the allocator's own events: exact to the byte, blind to scratch. Where both were
compared they agree within a few MiB (see the tests). On CUDA the number is the caching allocator's peak.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.profiler import profile

from spry.measure.gauge import gauge

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch 2.13's profiler announces itself on stderr below that


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What the visits of one phase took.

    Args:
        seconds: Wall time, summed over the visits; work queued on CUDA is waited for.
        peak_bytes: Highest memory above the meter's start, over the visits; at least 0.
        exact: False where ``peak_bytes`` is only a bound from above: on a platform without a resettable mark, or where
            another thread was under measurement when a visit began.
    """

    seconds: float = 0.0
    peak_bytes: int = 0
    visits: int = 0
    exact: bool = True


class Meter:
    """Measures peak bytes above a starting point, and seconds, by phase, on the CPU or a CUDA device.

    Phases may nest, and several meters may be open at once: each sees its own peak. They may be in several threads,
    but the memory is of the whole process (or device): a phase also sees what other threads allocate, and one that
    begins while another thread is measured also sees the earlier peak of that thread.

    >>> meter = Meter()
    >>> with meter.phase("forward"):
    ...     _ = torch.ones(1 << 22).sum()
    >>> meter.phases["forward"].peak_bytes > 8 << 20
    True
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._gauge = gauge(torch.device(device))
        self.phases: dict[str, Phase] = {}
        self.start_bytes = self._gauge.now()

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Measure the body of a ``with`` statement; a phase of the same name is added to."""
        visit = self._gauge.enter()
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._gauge.wait()
            seconds = time.perf_counter() - begun
            self._gauge.leave(visit)
            peak = max(0, visit.peak - self.start_bytes)
            old = self.phases.get(name, Phase())
            self.phases[name] = Phase(
                seconds=old.seconds + seconds,
                peak_bytes=max(old.peak_bytes, peak),
                visits=old.visits + 1,
                exact=old.exact and visit.exact,
            )

    @property
    def peak_bytes(self) -> int:
        """Highest peak of all phases above the starting point."""
        return max((phase.peak_bytes for phase in self.phases.values()), default=0)

    @property
    def seconds(self) -> float:
        """Wall time of all phases; a nested phase counts again."""
        return sum(phase.seconds for phase in self.phases.values())


def release_promptly() -> bool:
    """Make malloc hand freed blocks of 64 KiB and more back to the system at once; False if it is not glibc's.

    Then the process's high-water mark is the peak of live bytes. Call it before the model is built: blocks that
    malloc holds by then are still reused and kept. Each large allocation costs page faults, up to a tenth of a step's
    time, so time is measured after ``release_lazily``.
    """
    return _malloc_thresholds(mmap=1 << 16, trim=0)


def release_lazily() -> bool:
    """Let malloc keep freed blocks for reuse, its habit once large blocks came and went; False if it is not glibc's."""
    return _malloc_thresholds(mmap=32 << 20, trim=64 << 20)  # where glibc's own adaptation ends


def _malloc_thresholds(mmap: int, trim: int) -> bool:
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
    taken = libc.mallopt(mmap_threshold, mmap) and libc.mallopt(trim_threshold, trim)
    release_unused()
    return bool(taken)


def release_unused() -> None:
    """Collect garbage and hand memory that malloc keeps back to the system: a clean starting point."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def peak_of(step: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Measure the peak of tensor bytes that a step allocates, in a process that goes on to other work.

    A long-lived process reuses memory that it freed before, so that its high-water mark says little about one step of
    a few MiB; this asks the allocator instead.
    """
    if torch.device(device).type == "cpu":
        return tensor_peak(step)
    meter = Meter(device)
    with meter.phase("step"):
        step()
    return meter.peak_bytes


_PROFILER = threading.Lock()
"""torch's profiler belongs to the process: two of them at once crash it."""


@contextmanager
def _older_garbage_kept() -> Generator[None]:
    """Keep Python's collector from what was made before: torch warns of a tensor that is older than its profile."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def tensor_peak(step: Callable[[], object]) -> int:
    """Count the peak of live CPU tensor bytes allocated within a step, from the allocator's own events.

    The step's result is kept alive until the count ends. Scratch inside oneDNN and MKL is not seen.
    """
    with _PROFILER, _older_garbage_kept(), profile(use_kineto=True, profile_memory=True) as events:
        kept = step()
    del kept
    results: Any = vars(events)["kineto_results"]
    changes = sorted(
        (event.start_ns(), index, event.nbytes())
        for index, event in enumerate(results.events())
        if event.name() == "[memory]"
    )
    live = peak = 0
    for _, _, change in changes:
        live += change
        peak = max(peak, live)
    return peak
