"""Bars of what methods cost: peak memory, client compute and bytes, side by side."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spry.report import style
from spry.report.groups import Section
from spry.report.outcome import COSTS, MORE, Column, group_name

SHOWN = ("peak_bytes_above_model", "client_seconds_per_round", "bytes_up_per_client_round")


def draw_costs(section: Section) -> Figure:
    """Draw one axes a cost and one bar a group; the whiskers are one standard deviation over the seeds."""
    columns = {column.key: column for column in (*COSTS, *MORE)}
    with mpl.rc_context(style.LOOK):
        made = style.figure(10.5, 0.75 + 0.34 * len(section.groups))
        for axes, key in zip(made.subplots(1, len(SHOWN), sharey=True), SHOWN, strict=True):
            _bars(axes, section, columns[key])
        return made


def _bars(axes: Axes, section: Section, column: Column) -> None:
    means = [group.mean(column.key) for group in section.groups]
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
