"""Draws accuracy against what it cost, from benchmarks/results/convergence.json.

python benchmarks/convergence_pictures.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from convergence import RESULTS
from convergence_conditions import (
    ALONG,
    AVERAGED,
    CONDITIONS,
    METHODS,
    RANKED,
    RANKED_LONG,
    SHOWN,
    TUNED,
    UNEVEN,
)
from convergence_data import SETS
from matplotlib.axes import Axes

from spry.report import style
from spry.report.score_axis import LEAST_POINTS

PICTURES = Path("docs/pictures")
BELOW = "outside lower center"
NEAR = 10
"""How many points below all else the commonest class is still drawn."""
OTHER = "#b6bcc4"
"""The colour of methods that are not named; the table has them."""
PLACES = {method: place for place, method in enumerate(SHOWN)}
PLACES[ALONG] = PLACES["spry_block"] + len(style.COLOURS)
"""Where each has its look: with another B the colour of spry_block, dashed."""


def main() -> None:
    """Draw two pictures for a condition: accuracy as it grows with what is spent, and against memory at the end."""
    sets = json.loads(RESULTS.read_text(encoding="utf-8"))["sets"]
    for condition in (TUNED, UNEVEN, AVERAGED, RANKED, RANKED_LONG):
        compared = {name: own[condition] for name, own in sets.items() if condition in own}
        _courses(compared, condition)
        _front(compared, condition)


def _courses(sets: Mapping[str, Any], condition: str) -> None:
    """Accuracy against rounds, clients' time, operations and bytes, a row for each data set."""
    with mpl.rc_context(style.LOOK):
        made = style.figure(10.5, 0.9 + 2.1 * len(sets))
        made.suptitle(_title(sets, condition))
        grid = made.subplots(len(sets), 4, squeeze=False, sharey="row")
        for (name, found), line in zip(sets.items(), grid, strict=True):
            _draw(found, line)
            line[0].set_ylabel(f"{SETS[name].title}\ntest accuracy (%)")
            style.widen(line[0], LEAST_POINTS)
        style.legend(made, grid[0, 0], BELOW, columns=len(SHOWN) + 1)
        style.write_png(made, PICTURES / f"convergence-{condition}.png")


def _front(sets: Mapping[str, Any], condition: str) -> None:
    """Accuracy against memory, a column for each data set: up is better, left is cheaper."""
    with mpl.rc_context(style.LOOK):
        made = style.figure(10.5, 3.9)
        made.suptitle(_title(sets, condition))
        line = made.subplots(1, len(sets), squeeze=False)[0]
        for axes, (name, own) in zip(line, sets.items(), strict=True):
            _dots(axes, [row for row in own["rows"] if row["method"] in {*METHODS, ALONG}])
            _commonest(axes, own)
            style.widen(axes, LEAST_POINTS)
            axes.set_title(SETS[name].title)
            axes.set_xscale("log")
            axes.set_xlim(3.5, 32)
            axes.set_xticks([5, 10, 20], ["5", "10", "20"])
            axes.minorticks_off()
            axes.set_xlabel("peak above the model (MiB)")
        line[0].set_ylabel("test accuracy (%)")
        style.legend(made, line[0], BELOW, columns=(len(SHOWN) + 3) // 2)
        style.write_png(made, PICTURES / f"convergence-front-{condition}.png")


def _dots(axes: Axes, rows: list[Mapping[str, Any]]) -> None:
    others = [row for row in rows if row["method"] not in SHOWN]
    for row in (*others, *(row for row in rows if row["method"] in SHOWN)):
        shown = row["method"] in SHOWN
        colour = style.mark(PLACES[row["method"]])["color"] if shown else OTHER
        marker = "D" if row["method"] == ALONG else "o"
        label = row["method"] if shown else "other methods" if row is others[0] else None
        mean, deviation = 100 * row["accuracy_mean"], 100 * row["accuracy_std"]
        peak = row["peak_bytes_above_model"] / (1 << 20)
        axes.errorbar(
            peak, mean, deviation, label=label, linestyle="", marker=marker, markersize=6, color=colour
        )


def _draw(found: Mapping[str, Any], axes: Any) -> None:
    """Accuracy against rounds, all clients' time and operations, and bytes of one client."""
    rounds = found["views"]["equal_rounds"]["rounds"]
    after = {row["method"]: row["after"] for row in found["views"]["equal_rounds"]["rows"]}
    rows = {row["method"]: row for row in found["rows"]}
    clients = found["setting"]["schedule.clients_per_round"]
    for method in (method for method in SHOWN if method in rows):
        row = rows[method]
        sent = row["bytes_up_per_client_round"] + row["bytes_down_per_client_round"]
        prices = (1.0, row["client_seconds"], clients * row["flops_per_client_round"] / 1e12, sent / 1024)
        for one, price in zip(axes, prices, strict=True):
            _line(one, PLACES[method], method, [price * count for count in rounds], after[method])
    titles = (
        "rounds",
        "client compute, all clients (s)",
        "operations, all clients (TFLOP)",
        "sent to and from a client (KiB)",
    )
    for one, title in zip(axes, titles, strict=True):
        _commonest(one, found)
        one.set_xlabel(title)
        one.set_xlim(left=0)
    axes[0].set_xticks([0, *rounds])


def _line(axes: Axes, place: int, label: str, x: list[float], after: list[dict[str, float]]) -> None:
    mean = [100 * point["accuracy_mean"] for point in after]
    spread = [100 * point["accuracy_std"] for point in after]
    axes.errorbar(x, mean, spread, label=label, capsize=2, marker="o", markersize=3.5, **style.mark(place))


def _commonest(axes: Axes, found: Mapping[str, Any]) -> None:
    commonest = 100 * found["rows"][0]["majority_accuracy"]
    if axes.get_ylim()[0] < commonest + NEAR:
        axes.axhline(commonest, label="commonest class", zorder=0, **style.BASELINE_LINE)


def _title(sets: Mapping[str, Any], condition: str) -> str:
    seeds = len(next(iter(sets.values()))["rows"][0]["seeds"])
    return f"{CONDITIONS[condition].title}: mean and deviation over {seeds} seeds"


if __name__ == "__main__":
    main()
