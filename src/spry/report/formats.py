"""Numbers as people read them; what is not known is a dash."""

from __future__ import annotations

import math

NONE = "–"


def accuracy(share: float | None, spread: float | None = None) -> str:
    """Write an accuracy in percent.

    Args:
        share: Between 0 and 1.
        spread: Its standard deviation, if there are several seeds.

    Returns:
        Text with one decimal, without the percent sign.

    Example:
        >>> accuracy(0.6712), accuracy(0.6712, 0.004), accuracy(None)
        ('67.1', '67.1 ± 0.4', '–')
    """
    if share is None or math.isnan(share):
        return NONE
    return f"{100 * share:.1f}" if spread is None else f"{100 * share:.1f} ± {100 * spread:.1f}"


def size(nbytes: float | None) -> str:
    """Write a number of bytes with three digits and a binary unit.

    Args:
        nbytes: At least 0.

    Returns:
        Text such as ``85.3 MiB``.

    Example:
        >>> size(0), size(1000), size(89_500_000), size(1023.9 * 2**20)
        ('0 B', '1000 B', '85.4 MiB', '1024 MiB')
    """
    if nbytes is None:
        return NONE
    unit = size_unit(nbytes)
    value = nbytes / unit[1]
    return f"{value:.0f} {unit[0]}" if unit[0] == "B" or value >= 100 else f"{value:.3g} {unit[0]}"


def size_unit(nbytes: float) -> tuple[str, int]:
    """Choose the binary unit in which a number of bytes reads best.

    Args:
        nbytes: At least 0; for an axis, the largest.

    Returns:
        The unit's name and its bytes.
    """
    units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)]
    return max((unit for unit in units if unit[1] <= max(nbytes, 1)), key=lambda unit: unit[1])


def duration(seconds: float | None) -> str:
    """Write a time.

    Args:
        seconds: At least 0.

    Returns:
        Text in milliseconds, seconds, minutes or hours.

    Example:
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


def count(number: float | None) -> str:
    """Write a whole number with separators.

    Args:
        number: A count.

    Returns:
        Text.

    Example:
        >>> count(22713216)
        '22,713,216'
    """
    return NONE if number is None else f"{number:,.0f}"


def ratio(value: float | None, base: float | None) -> str:
    """Write how many times as large a value is as another.

    Args:
        value: The value.
        base: What it is compared with.

    Returns:
        Text with three digits.

    Example:
        >>> ratio(98, 54), ratio(98, None), ratio(98, 0)
        ('1.81', '–', '–')
    """
    return NONE if value is None or not base else f"{value / base:.3g}"
