"""Score against peak memory: one dot a method."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from spry.report import formats, style
from spry.report.groups import Section
from spry.report.outcome import group_name
from spry.report.score_axis import draw_baseline, finish_score_axis
from spry.tasks.score_text import score_factor


def draw_tradeoff(section: Section, *, narrow: bool = False) -> Figure:
    """Draw score against peak memory; whiskers are one standard deviation over the seeds."""
    peaks = [group.across("peak_bytes_above_model") for group in section.groups]
    unit, scale = formats.size_unit(max((peak for peak in peaks if peak is not None), default=1.0))
    factor = score_factor(section.score.name)
    with mpl.rc_context(style.LOOK):
        made = style.figure(style.PHONE_WIDTH, 3.6) if narrow else style.figure(7.2, 3.2)
        axes = made.subplots()
        for index, (group, peak) in enumerate(zip(section.groups, peaks, strict=True)):
            score = group.across(section.key)
            if score is None or peak is None:
                continue
            std = factor * (group.std(section.key) or 0.0)
            marker = style.MARKERS[index % len(style.MARKERS)]
            look = {"fmt": marker, "color": style.mark(index)["color"], "markersize": 7}
            name = group_name(group, section)
            axes.errorbar(peak / scale, factor * score, yerr=std or None, label=name, **look)
        draw_baseline(axes, section)
        axes.set_xlim(0, 1.1 * max((peak for peak in peaks if peak), default=1.0) / scale)
        axes.set_xlabel(f"peak memory above the model ({unit})")
        finish_score_axis(axes, section)
        style.legend(made, axes, "outside upper left" if narrow else "outside right upper", columns=1)
        return made
