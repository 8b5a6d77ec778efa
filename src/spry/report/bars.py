"""Bars of what methods cost: peak memory, operations and bytes, side by side."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spry.report import style
from spry.report.groups import Section
from spry.report.outcome import COSTS, Column, group_name


def draw_costs(section: Section, *, narrow: bool = False) -> Figure:
    """Draw one axes a cost and one bar a group; the whiskers are one standard deviation over the seeds.

    A cost that no run knows is left out. Where the page is narrow, the axes stand below each other.
    """
    known = [column for column in COSTS if any(group.values(column.key) for group in section.groups)]
    columns = known or COSTS[:1]
    with mpl.rc_context(style.LOOK):
        height = 0.75 + 0.34 * len(section.groups)
        if narrow:
            made = style.figure(style.PHONE_WIDTH, height * len(columns), apart=0.1)
            grid = made.subplots(len(columns), 1, squeeze=False)
        else:
            made = style.figure(10.5, height)
            grid = made.subplots(1, len(columns), sharey=True, squeeze=False)
        for axes, column in zip(grid.flat, columns, strict=True):
            _bars(axes, section, column)
        return made


def _bars(axes: Axes, section: Section, column: Column) -> None:
    means = [group.across(column.key) for group in section.groups]
    stds = [group.std(column.key) or 0.0 for group in section.groups]
    most = max((mean + std for mean, std in zip(means, stds, strict=True) if mean is not None), default=1.0)
    for index, (mean, std) in enumerate(zip(means, stds, strict=True)):
        colour = style.mark(index)["color"]
        axes.barh(index, mean or 0.0, xerr=std or None, height=0.62, color=colour, ecolor=style.INK)
        axes.text((mean or 0.0) + std + 0.02 * most, index, column.text(mean), va="center", fontsize=8)
    axes.set_title(column.title, loc="left")
    axes.set_yticks(range(len(means)), [group_name(group, section) for group in section.groups])
    axes.invert_yaxis()
    axes.set_xlim(0, (most or 1.0) * 1.28)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
