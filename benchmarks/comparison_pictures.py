"""Draws accuracy against rounds and operations, a picture for each data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from benchmarks.comparison_cells import Cell, Place, spent
from benchmarks.comparison_rows import ROWS
from benchmarks.comparison_targets import where
from benchmarks.convergence_data import SETS
from matplotlib.axes import Axes

from spry.report import style
from spry.report.score_axis import LEAST_POINTS

PICTURES = Path("docs/pictures")
PLACES = {row: place for place, row in enumerate(ROWS)}
BELOW = "outside lower center"


def picture(name: str) -> Path:
    """Where the picture of a data set is."""
    return PICTURES / f"comparison-{name}.png"


def draw(found: Mapping[Place, Mapping[str, Cell]]) -> None:
    """Draw all data sets that have been run; a line for each alpha."""
    for name in SETS:
        own = {place: rows for place, rows in sorted(found.items(), reverse=True) if place[0] == name}
        if own:
            _draw_set(own, picture(name))


def _draw_set(own: Mapping[Place, Mapping[str, Cell]], path: Path) -> None:
    with mpl.rc_context(style.LOOK):
        made = style.figure(10.5, 1.2 + 3.2 * len(own))
        made.suptitle("mean over the seeds, and their range")
        grid = made.subplots(len(own), 2, squeeze=False, sharey="row")
        for (place, rows), (left, right) in zip(own.items(), grid, strict=True):
            for row, cell in rows.items():
                _line(left, row, cell, [float(at) for at in cell.rounds])
                if prices := _operations(cell):
                    _line(right, row, cell, prices)
            left.set_ylabel(f"{where(place)}\ntest accuracy (%)")
            left.set_xlabel("rounds")
            right.set_xlabel("operations, all clients (TFLOP)")
            style.widen(left, LEAST_POINTS)
        fullest = max(range(len(own)), key=lambda at: len(list(own.values())[at]))
        style.legend(made, grid[fullest, 0], BELOW, columns=4)
        style.write_png(made, path)


def _line(axes: Axes, row: str, cell: Cell, x: list[float]) -> None:
    look = style.mark(PLACES.get(row, len(PLACES)))
    seeds = [[100 * accuracy for accuracy in found] for _, found in cell.points]
    mean = [100 * accuracy for _, accuracy in cell.curve]
    axes.plot(x, mean, label=cell.title, **look)
    axes.fill_between(
        x, list(map(min, seeds)), list(map(max, seeds)), color=look["color"], alpha=0.12, linewidth=0
    )


def _operations(cell: Cell) -> list[float]:
    """TFLOP until each evaluated round; nothing if they were not counted."""
    prices = [spent(cell, at)["operations"] for at in cell.rounds]
    return [price / 1e12 for price in prices if price is not None]
