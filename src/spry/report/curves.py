"""Accuracy and loss as they develop over rounds, client compute and bytes sent up."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spry.measure import seconds
from spry.report import formats, style
from spry.report.groups import Group, Section
from spry.report.load import Run
from spry.report.outcome import MAJORITY, name

Array = np.ndarray
WINDOW = 5
"""Rounds over which a loss is averaged at least, as each round asks other clients."""
UNCROWDED = 4
"""Up to this many groups a thin line shows each round's own loss."""
FEW = 25
"""Up to this many points each is marked."""
WIDE = 20
"""From this ratio of bytes on, their axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One number of a group over its rounds, for the rounds where it is known.

    Args:
        x: Mean over the seeds, shape (points,).
        mean: Mean over the seeds, shape (points,).
        spread: Standard deviation over the seeds, shape (points,); 0 where one seed knows the number.
    """

    x: Array
    mean: Array
    spread: Array


def curve(group: Group, x: Callable[[Run], Array], y: str, window: int = 1) -> Curve:
    """Average a number over a group's seeds, round by round.

    Args:
        group: The runs.
        x: Tells a run's place on the x axis after each round, shape (rounds,).
        y: A key of ``rounds.jsonl``.
        window: Rounds, up to the current one, over which each seed's number is averaged first.

    Returns:
        The curve.
    """
    places = _stack([x(run) for run in group.runs])
    values = _stack([_trailing_mean(_numbers(run, y), window) for run in group.runs])
    places = np.where(np.isnan(values), np.nan, places)
    known = ~np.isnan(values).all(axis=0)
    places, values = places[:, known], values[:, known]
    several = (~np.isnan(values)).sum(axis=0) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one value has no sample deviation: 0 below
        spread = np.where(several, np.nanstd(values, axis=0, ddof=1), 0.0)
    return Curve(x=np.nanmean(places, axis=0), mean=np.nanmean(values, axis=0), spread=spread)


def rounds(run: Run) -> Array:
    """Count rounds.

    Args:
        run: The run.

    Returns:
        Rounds finished, after each round.
    """
    return np.array([round["round"] + 1 for round in run.rounds], dtype=float)


def client_seconds(run: Run) -> Array:
    """Add up the compute of all clients.

    A round in which memory was measured is slower for it; it counts as the median of the others.

    Args:
        run: The run.

    Returns:
        Seconds of local training so far, after each round.
    """
    return np.cumsum(seconds.client_seconds(run.rounds))


def bytes_up(run: Run) -> Array:
    """Add up the bytes that all clients sent.

    Args:
        run: The run.

    Returns:
        Bytes so far, after each round.
    """
    return np.cumsum(_numbers(run, "bytes_up"))


def draw(section: Section) -> Figure:
    """Draw accuracy and loss against rounds, client compute and bytes sent up.

    Args:
        section: Runs of one model on one data set.

    Returns:
        A figure with two rows of three axes; a band is one standard deviation over the seeds.
    """
    totals = [bytes_up(run)[-1] for run in section.runs if run.rounds]
    unit, scale = formats.size_unit(max(totals, default=1.0))
    across: list[tuple[str, Callable[[Run], Array]]] = [
        ("rounds", rounds),
        ("client compute, all clients (s)", client_seconds),
        (f"sent up, all clients ({unit})", lambda run: bytes_up(run) / scale),
    ]
    longest = max((len(run.rounds) for run in section.runs), default=0)
    window = max(WINDOW, longest // 20) if longest >= 4 * WINDOW else 1
    with mpl.rc_context(style.LOOK):
        made = style.figure(10.5, 5.6)
        grid = made.subplots(2, 3, sharex="col", sharey="row")
        for (upper, lower), (title, x) in zip(grid.T, across, strict=True):
            _accuracies(upper, section, x)
            _losses(lower, section, x, window)
            lower.set_xlabel(title)
            wide = x is across[-1][1] and max(totals, default=0.0) > WIDE * min(totals, default=0.0) > 0
            lower.set_xscale("log") if wide else lower.set_xlim(left=0)
        grid[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        grid[0, 0].set_ylabel(f"{section.accuracy.removesuffix('_accuracy')} accuracy (%)")
        grid[1, 0].set_ylabel("training loss" + (f" (mean of {window} rounds)" if window > 1 else ""))
        style.widen(grid[0, 0], style.LEAST)
        style.legend(made, grid[0, 0])
        return made


def _accuracies(axes: Axes, section: Section, x: Callable[[Run], Array]) -> None:
    for place, group in enumerate(section.groups):
        found = curve(group, x, section.accuracy)
        look = {"marker": "o", "markersize": 3.5} if len(found.x) <= FEW else {}
        _line(axes, found, place, factor=100.0, label=name(group, section), **look)
    if section.majority is not None and section.accuracy == "test_accuracy":
        axes.axhline(100 * section.majority, label=MAJORITY, **style.BASELINE)


def _losses(axes: Axes, section: Section, x: Callable[[Run], Array], window: int) -> None:
    for place, group in enumerate(section.groups):
        _line(axes, curve(group, x, "loss", window), place)
        if window > 1 and len(section.groups) <= UNCROWDED:
            each = curve(group, x, "loss")
            axes.plot(each.x, each.mean, color=style.mark(place)["color"], linewidth=0.7, alpha=0.35)


def _line(axes: Axes, found: Curve, place: int, factor: float = 1.0, **look: Any) -> None:
    low, high = found.mean - found.spread, found.mean + found.spread
    axes.plot(found.x, factor * found.mean, **style.mark(place), **look)
    band = {"color": style.mark(place)["color"], "alpha": 0.15, "linewidth": 0}
    axes.fill_between(found.x, factor * low, factor * high, **band)


def _trailing_mean(values: Array, window: int) -> Array:
    if window == 1:
        return values
    sums = np.cumsum(np.pad(values, (window, 0)))
    return (sums[window:] - sums[:-window]) / np.minimum(np.arange(len(values)) + 1, window)


def _numbers(run: Run, key: str) -> Array:
    return np.array([np.nan if round.get(key) is None else round[key] for round in run.rounds], dtype=float)


def _stack(rows: list[Array]) -> Array:
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row)), constant_values=np.nan) for row in rows])
