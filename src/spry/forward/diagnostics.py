"""Counts of one pass: functions without a rule, and functions that stopped the derivative."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FallbackReport:
    """Counts by function name; filled while the context of ``track_fallbacks`` is open.

    Args:
        fallbacks: Functions without a rule, differentiated by ``torch.func.jvp``: right, but neither lean nor fast.
        dropped: Functions that stop the derivative, as in autograd: ``detach``, and whatever ran under ``no_grad``.
    """

    fallbacks: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


_open: ContextVar[tuple[FallbackReport, ...]] = ContextVar("spry_forward_reports", default=())


@contextmanager
def track_fallbacks() -> Generator[FallbackReport]:
    """Count fallbacks and dropped tangents of the passes run inside, in this thread; contexts may nest.

    Example:
        >>> import torch
        >>> from spry.forward import jvp, track_fallbacks
        >>> with track_fallbacks() as report:
        ...     _ = jvp(lambda p: torch.erfinv(p["w"]).sum(), {"w": torch.zeros(2)}, [{"w": torch.ones(2)}])
        >>> report.fallbacks
        Counter({'erfinv': 1})
    """
    report = FallbackReport()
    token = _open.set((*_open.get(), report))
    try:
        yield report
    finally:
        _open.reset(token)


def name_of(function: Any) -> str:
    """Name a function the way a user would write it."""
    name = getattr(function, "__name__", None) or str(function)
    if name in {"__get__", "__set__"}:  # a property of Tensor
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    return name


def count_fallback(function: Any) -> None:
    for report in _open.get():
        report.fallbacks[name_of(function)] += 1


def count_dropped(function: Any) -> None:
    for report in _open.get():
        report.dropped[name_of(function)] += 1
