"""What the methods cost: peak memory, client compute and bytes, side by side."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spry.report import style
from spry.report.groups import Section
from spry.report.outcome import MAIN, MORE, Column, name

SHOWN = ("peak_bytes_above_model", "client_seconds_per_round", "bytes_up_per_client_round")


def draw(section: Section) -> Figure:
    """Draw one bar a group for each cost.

    Args:
        section: Runs of one model on one data set.

    Returns:
        A figure with one axes a cost; the whiskers are one standard deviation over the seeds.
    """
    columns = {column.key: column for column in (*MAIN, *MORE)}
    with mpl.rc_context(style.LOOK):
        made = style.figure(10.5, 0.75 + 0.34 * len(section.groups))
        for axes, key in zip(made.subplots(1, len(SHOWN), sharey=True), SHOWN, strict=True):
            _bars(axes, section, columns[key])
        return made


def _bars(axes: Axes, section: Section, column: Column) -> None:
    means = [group.mean(column.key) for group in section.groups]
    spreads = [group.spread(column.key) or 0.0 for group in section.groups]
    most = max(
        (mean + spread for mean, spread in zip(means, spreads, strict=True) if mean is not None), default=1.0
    )
    for place, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
        colour = style.mark(place)["color"]
        axes.barh(place, mean or 0.0, xerr=spread or None, height=0.62, color=colour, ecolor=style.INK)
        axes.text((mean or 0.0) + spread + 0.02 * most, place, column.text(mean), va="center", fontsize=8)
    axes.set_title(column.title, loc="left")
    axes.set_yticks(range(len(means)), [name(group, section) for group in section.groups])
    axes.invert_yaxis()
    axes.set_xlim(0, (most or 1.0) * 1.28)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
