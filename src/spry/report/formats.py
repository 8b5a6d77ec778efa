"""Numbers as people read them; an unknown number is a dash."""

from __future__ import annotations

import math

from spry.tasks.score_text import NONE


def format_bytes(nbytes: float | None) -> str:
    """Write a number of bytes with three digits and a binary unit.

    >>> format_bytes(0), format_bytes(1000), format_bytes(89_500_000), format_bytes(1023.9 * 2**20)
    ('0 B', '1000 B', '85.4 MiB', '1024 MiB')
    """
    if nbytes is None:
        return NONE
    unit = size_unit(nbytes)
    value = nbytes / unit[1]
    return f"{value:.0f} {unit[0]}" if unit[0] == "B" or value >= 100 else f"{value:.3g} {unit[0]}"


def size_unit(nbytes: float) -> tuple[str, int]:
    """Choose the binary unit in which a number of bytes, or the largest on an axis, reads best."""
    units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)]
    return max((unit for unit in units if unit[1] <= max(nbytes, 1)), key=lambda unit: unit[1])


def format_operations(number: float | None) -> str:
    """Write a number of floating-point operations with three digits and a decimal unit.

    >>> format_operations(18_407_178_240), format_operations(999), format_operations(4.1e12), format_operations(None)
    ('18.4 GFLOP', '999 FLOP', '4.1 TFLOP', '–')
    """
    if number is None:
        return NONE
    unit, scale = operations_unit(number)
    return f"{number / scale:.3g} {unit}" if number / scale < 999.5 else f"{number / scale:.0f} {unit}"


def operations_unit(number: float) -> tuple[str, float]:
    """Choose the decimal unit in which a number of operations, or the largest on an axis, reads best."""
    units = [("FLOP", 1.0), ("kFLOP", 1e3), ("MFLOP", 1e6), ("GFLOP", 1e9), ("TFLOP", 1e12), ("PFLOP", 1e15)]
    return max((unit for unit in units if unit[1] <= max(number, 1.0)), key=lambda unit: unit[1])


def duration(seconds: float | None) -> str:
    """Write a time in milliseconds, seconds, minutes or hours.

    >>> duration(0.0042), duration(0.524), duration(75), duration(7500)
    ('4.2 ms', '0.52 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds is None or math.isnan(seconds):
        return NONE
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_count(number: float | None) -> str:
    """Write a whole number with separators.

    >>> format_count(22713216)
    '22,713,216'
    """
    return NONE if number is None else f"{number:,.0f}"


def ratio(value: float | None, base: float | None) -> str:
    """Write how many times as large a value is as another, with three digits.

    >>> ratio(98, 54), ratio(98, None), ratio(98, 0)
    ('1.81', '–', '–')
    """
    return NONE if value is None or not base else f"{value / base:.3g}"
