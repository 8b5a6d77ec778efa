"""Score and loss against rounds, operations and bytes sent up."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spry.measure.before import with_head
from spry.measure.seconds import client_seconds
from spry.report import formats, style
from spry.report.groups import Group, Section
from spry.report.outcome import group_name
from spry.report.read import Run
from spry.report.score_axis import draw_baseline, finish_score_axis
from spry.tasks.score_text import score_factor

Array = np.ndarray
WINDOW = 5
"""Least number of rounds over which a loss is averaged, as each round asks other clients."""
UNCROWDED = 4
"""Up to this many groups a thin line shows each round's own loss."""
FEW = 25
"""Up to this many points, each is marked."""
EDGE = 0.015
"""Share of the x axis that lies before 0, so that marks there are whole."""
LOG_RATIO = 20
"""From this ratio of bytes on, their axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One number of a group over its rounds, where it is known; shapes (points,), std is 0 for a single seed."""

    x: Array
    mean: Array
    std: Array


def average_curve(group: Group, x: Callable[[Run], Array], y: str, window: int = 1) -> Curve:
    """Average a number over a group's seeds, round by round.

    Args:
        x: Gives a run's position on the x axis after each round, shape (rounds,).
        window: Rounds, up to the current one, over which each seed's number is averaged first.
    """
    positions = _stack([x(run) for run in group.runs])
    values = _stack([_trailing_mean(_numbers(run, y), window) for run in group.runs])
    positions = np.where(np.isnan(values), np.nan, positions)
    known = ~np.isnan(values).all(axis=0)
    positions, values = positions[:, known], values[:, known]
    several = (~np.isnan(values)).sum(axis=0) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one value has no sample deviation: 0 below
        std = np.where(several, np.nanstd(values, axis=0, ddof=1), 0.0)
    return Curve(x=np.nanmean(positions, axis=0), mean=np.nanmean(values, axis=0), std=std)


def from_start(group: Group, found: Curve, key: str) -> Curve:
    """Let a curve begin at 0 with the score before round 1, averaged over the seeds that know it."""
    known = [run.start[key] for run in group.runs if run.start.get(key) is not None]
    if not known:
        return found
    std = np.std(known, ddof=1) if len(known) > 1 else 0.0
    return Curve(
        x=np.insert(found.x, 0, 0.0),
        mean=np.insert(found.mean, 0, np.mean(known)),
        std=np.insert(found.std, 0, std),
    )


def finished_rounds(run: Run) -> Array:
    return np.array([entry["round"] + 1 for entry in run.rounds], dtype=float)


def cumulative_seconds(run: Run) -> Array:
    """Seconds of local training of all clients so far, after each round.

    A round that was slowed by measuring counts as the median of the others.
    """
    return _cumulative(with_head(run.rounds, "seconds", client_seconds(run.rounds)))


def cumulative_operations(run: Run) -> Array:
    """Floating-point operations of local training of all clients so far, after each round."""
    return _cumulative(with_head(run.rounds, "operations", _numbers(run, "operations")))


def cumulative_bytes_up(run: Run) -> Array:
    """Bytes that all clients sent so far, after each round."""
    return _cumulative(with_head(run.rounds, "bytes_up", _numbers(run, "bytes_up")))


def draw_curves(section: Section, *, narrow: bool = False) -> Figure:
    """Draw scores over losses, against rounds and against what was spent; a band is one standard deviation over the
    seeds.

    Where the page is narrow, the axes stand below each other, and losses are drawn against rounds alone.
    """
    totals = [cumulative_bytes_up(run)[-1] for run in section.runs if run.rounds]
    unit, scale = formats.size_unit(max(totals, default=1.0))
    across: list[tuple[str, Callable[[Run], Array]]] = [
        ("rounds", finished_rounds),
        _spent(section),
        (f"sent up, all clients ({unit})", lambda run: cumulative_bytes_up(run) / scale),
    ]
    wide = max(totals, default=0.0) > LOG_RATIO * min(totals, default=0.0) > 0
    longest = max((len(run.rounds) for run in section.runs), default=0)
    window = max(WINDOW, longest // 20) if longest >= 4 * WINDOW else 1
    with mpl.rc_context(style.LOOK):
        made, scores, losses = _panels(narrow=narrow)
        for axes, (title, x) in zip(scores, across, strict=True):
            _scores(axes, section, x)
            _finish_x(axes, title, log=wide and x is across[-1][1])
        for axes, (title, x) in zip(losses, across, strict=False):
            _losses(axes, section, x, window)
            _finish_x(axes, title, log=wide and x is across[-1][1])
        for axes in scores if narrow else scores[:1]:
            finish_score_axis(axes, section)
        losses[0].set_ylabel("training loss" + (f" (mean of {window} rounds)" if window > 1 else ""))
        style.legend(made, scores[0], columns=1 if narrow else 4)
        return made


def _panels(*, narrow: bool) -> tuple[Figure, Sequence[Axes], Sequence[Axes]]:
    """An empty figure, its axes of scores, and those of losses."""
    if narrow:
        made = style.figure(style.PHONE_WIDTH, 9.6, apart=0.1)
        column = made.subplots(4, 1)
        return made, column[:3], column[3:]
    made = style.figure(10.5, 5.6)
    upper, lower = made.subplots(2, 3, sharex="col", sharey="row")
    for axes in upper:
        axes.xaxis.label.set_visible(False)
    return made, upper, lower


def _finish_x(axes: Axes, title: str, *, log: bool) -> None:
    axes.set_xlabel(title)
    if log:
        axes.set_xscale("log", nonpositive="mask")
    else:
        axes.set_xlim(left=-EDGE * axes.get_xlim()[1])
    if title == "rounds":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _spent(section: Section) -> tuple[str, Callable[[Run], Array]]:
    """An axis of operations; of wall time if some run has not counted them."""
    most = max((cumulative_operations(run)[-1] for run in section.runs if run.rounds), default=0.0)
    if any(np.isnan(cumulative_operations(run)).any() for run in section.runs):
        return "wall time, all clients (s)", cumulative_seconds
    unit, scale = formats.operations_unit(most)
    return f"operations, all clients ({unit})", lambda run: cumulative_operations(run) / scale


def _scores(axes: Axes, section: Section, x: Callable[[Run], Array]) -> None:
    factor = score_factor(section.score.name)
    for index, group in enumerate(section.groups):
        found = from_start(group, average_curve(group, x, section.key), section.key)
        _line(axes, found, index, factor=factor, label=group_name(group, section))
    _mark_kept(axes, section, x, factor)
    draw_baseline(axes, section)


def _mark_kept(axes: Axes, section: Section, x: Callable[[Run], Array], factor: float) -> None:
    """Ring the round that each run kept, where runs chose; the legend says so once."""
    label = "the round that is kept"
    for index, group in enumerate(section.groups):
        for run in group.runs:
            if run.kept_after:
                place, value = x(run)[run.kept_after - 1], _numbers(run, section.key)[run.kept_after - 1]
                look = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "linestyle": "none"}
                axes.plot(place, factor * value, color=style.mark(index)["color"], label=label, **look)
                label = ""


def _losses(axes: Axes, section: Section, x: Callable[[Run], Array], window: int) -> None:
    for index, group in enumerate(section.groups):
        _line(axes, average_curve(group, x, "loss", window), index)
        if window > 1 and len(section.groups) <= UNCROWDED:
            each = average_curve(group, x, "loss")
            axes.plot(each.x, each.mean, color=style.mark(index)["color"], linewidth=0.7, alpha=0.35)


def _line(axes: Axes, found: Curve, index: int, factor: float = 1.0, **look: Any) -> None:
    low, high = found.mean - found.std, found.mean + found.std
    marks = {"marker": "o", "markersize": 3.5} if len(found.x) <= FEW else {}
    axes.plot(found.x, factor * found.mean, **style.mark(index), **marks, **look)
    band = {"color": style.mark(index)["color"], "alpha": 0.15, "linewidth": 0}
    axes.fill_between(found.x, factor * low, factor * high, **band)


def _trailing_mean(values: Array, window: int) -> Array:
    if window == 1:
        return values
    sums = np.cumsum(np.pad(values, (window, 0)))
    return (sums[window:] - sums[:-window]) / np.minimum(np.arange(len(values)) + 1, window)


def _cumulative(values: Sequence[float | None]) -> Array:
    return np.cumsum(np.array(values, dtype=float))


def _numbers(run: Run, key: str) -> Array:
    return np.array([np.nan if round.get(key) is None else round[key] for round in run.rounds], dtype=float)


def _stack(rows: list[Array]) -> Array:
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row)), constant_values=np.nan) for row in rows])
