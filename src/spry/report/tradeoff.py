"""What accuracy costs in memory: one dot a method."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from spry.report import formats, style
from spry.report.groups import Section
from spry.report.outcome import MAJORITY, name


def draw(section: Section) -> Figure:
    """Draw accuracy against peak memory.

    Args:
        section: Runs of one model on one data set.

    Returns:
        A figure with one axes: up is better, left is cheaper; whiskers are one deviation over seeds.
    """
    peaks = [group.mean("peak_bytes_above_model") for group in section.groups]
    unit, scale = formats.size_unit(max((peak for peak in peaks if peak is not None), default=1.0))
    with mpl.rc_context(style.LOOK):
        made = style.figure(7.2, 3.2)
        axes = made.subplots()
        for place, (group, peak) in enumerate(zip(section.groups, peaks, strict=True)):
            right = group.mean(section.accuracy)
            if right is None or peak is None:
                continue
            spread = 100 * (group.spread(section.accuracy) or 0.0)
            colour = style.mark(place)["color"]
            marker = style.MARKERS[place % len(style.MARKERS)]
            look = {"fmt": marker, "color": colour, "markersize": 7, "label": name(group, section)}
            axes.errorbar(peak / scale, 100 * right, yerr=spread or None, **look)
        if section.majority is not None and section.accuracy == "test_accuracy":
            axes.axhline(100 * section.majority, label=MAJORITY, **style.BASELINE)
        axes.set_xlim(0, 1.1 * max((peak for peak in peaks if peak), default=1.0) / scale)
        style.widen(axes, style.LEAST)
        axes.set_xlabel(f"peak memory above the model ({unit})")
        axes.set_ylabel(f"{section.accuracy.removesuffix('_accuracy')} accuracy (%)")
        style.legend(made, axes, "outside right upper", columns=1)
        return made
