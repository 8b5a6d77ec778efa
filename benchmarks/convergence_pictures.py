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
from convergence_conditions import AVERAGED, MAIN, METHODS, RANKED, RANKED_UNEVEN, TUNED, UNEVEN
from convergence_data import SETS
from matplotlib.axes import Axes

from spry.report import style

PICTURES = Path("docs/pictures")


def main() -> None:
    """Draw two pictures for a condition: accuracy as it grows with what is spent, and against memory at the end."""
    sets = json.loads(RESULTS.read_text(encoding="utf-8"))["sets"]
    for condition in (TUNED, UNEVEN, AVERAGED, RANKED, RANKED_UNEVEN):
        compared = {name: own[condition] for name, own in sets.items() if condition in own}
        with mpl.rc_context(style.LOOK):
            made = style.figure(10.5, 0.6 + 2.1 * len(compared))
            grid = made.subplots(len(compared), 4, squeeze=False, sharey="row")
            for (name, found), line in zip(compared.items(), grid, strict=True):
                _draw(found, line)
                line[0].set_ylabel(f"{SETS[name].title}\ntest accuracy (%)")
                style.widen(line[0], style.LEAST)
            style.legend(made, grid[0, 0], columns=len(MAIN))
            style.write(made, PICTURES / f"convergence-{condition}.png")
        _front(compared, PICTURES / f"convergence-front-{condition}.png")


def _front(sets: Mapping[str, Any], target: Path) -> None:
    """Accuracy against memory, a column for each data set: up is better, left is cheaper."""
    with mpl.rc_context(style.LOOK):
        made = style.figure(10.5, 3.4)
        line = made.subplots(1, len(sets), squeeze=False)[0]
        for axes, (name, own) in zip(line, sets.items(), strict=True):
            for row in (row for row in own["rows"] if row["method"] in METHODS):
                place = METHODS.index(row["method"])  # one look in all pictures
                look = {
                    "color": style.mark(place)["color"],
                    "marker": style.MARKERS[place // len(style.COLOURS)],
                }
                mean, spread = 100 * row["accuracy_mean"], 100 * row["accuracy_std"]
                peak = row["peak_bytes_above_model"] / (1 << 20)
                axes.errorbar(peak, mean, spread, label=row["method"], linestyle="", markersize=6, **look)
            style.widen(axes, style.LEAST)
            axes.set_title(SETS[name].title)
            axes.set_xscale("log")
            axes.set_xlim(3.5, 32)
            axes.set_xticks([5, 10, 20], ["5", "10", "20"])
            axes.minorticks_off()
            axes.set_xlabel("peak above the model (MiB)")
        line[0].set_ylabel("test accuracy (%)")
        style.legend(made, line[0], columns=7)
        style.write(made, target)


def _draw(found: Mapping[str, Any], axes: Any) -> None:
    """Accuracy against rounds, clients' time, operations and bytes of one client."""
    rounds = found["views"]["equal_rounds"]["rounds"]
    after = {row["method"]: row["after"] for row in found["views"]["equal_rounds"]["rows"]}
    rows = {row["method"]: row for row in found["rows"]}
    clients = found["setting"]["schedule.clients_per_round"]
    for place, method in enumerate(MAIN):
        if method not in rows:
            continue
        row = rows[method]
        sent = row["bytes_up_per_client_round"] + row["bytes_down_per_client_round"]
        prices = (1.0, row["client_seconds"], clients * row["flops_per_client_round"] / 1e12, sent / 1024)
        for one, price in zip(axes, prices, strict=True):
            _line(one, place, method, [price * count for count in rounds], after[method])
    titles = ("rounds", "client compute (s)", "operations (TFLOP)", "sent to and from a client (KiB)")
    for one, title in zip(axes, titles, strict=True):
        one.set_xlabel(title)
        one.set_xlim(left=0)
    axes[0].set_xticks([0, *rounds])


def _line(axes: Axes, place: int, label: str, x: list[float], after: list[dict[str, float]]) -> None:
    mean = [100 * point["accuracy_mean"] for point in after]
    spread = [100 * point["accuracy_std"] for point in after]
    axes.errorbar(x, mean, spread, label=label, capsize=2, marker="o", markersize=3.5, **style.mark(place))


if __name__ == "__main__":
    main()
