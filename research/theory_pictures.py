"""The pictures of docs/theory.md, from research/results/theory.json.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

from spry.report import style

Rows = list[dict[str, Any]]


def draw(result: dict[str, Any], folder: Path) -> None:
    """Draw and write all pictures.

    Args:
        result: What ``theory.py`` measured.
        folder: Where to; made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(style.LOOK):
        _errors(result["error"], folder / "theory_error.png")
        _bias(result["bias"], folder / "theory_bias.png")
        _training(result["training"], folder / "theory_training.png")


def _errors(sweeps: dict[str, Rows], path: Path) -> None:
    made = style.figure(9.6, 3.3)
    axes = made.subplots(1, 3)
    for place, (letter, title) in enumerate((("K", "K directions, d = 128"), ("d", "d weights, K = 1"))):
        _sweep(
            axes[place], letter, sweeps[letter], [(n, {"directions": n}) for n in ("gaussian", "rademacher")]
        )
        axes[place].set_title(title)
    parts = [("no split", {"split": False}), ("split, L = 8 units", {"split": True})]
    _sweep(axes[2], "M", sweeps["M"], parts, first=2)
    axes[2].set_title("M clients with the same data, d = 128")
    axes[0].set_ylabel("relative squared error of one step")
    made.savefig(path, dpi=200, facecolor="white", metadata={"Software": None})


def _sweep(
    axes: Axes, letter: str, rows: Rows, parts: list[tuple[str, dict[str, Any]]], first: int = 0
) -> None:
    """Measured dots on predicted lines."""
    for place, (label, wanted) in enumerate(parts):
        own = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
        x, look = [row[letter] for row in own], style.mark(first + place)
        axes.plot(x, [row["predicted"] for row in own], linewidth=1.2, color=look["color"])
        marker = style.MARKERS[first + place]
        axes.plot(x, [row["error"] for row in own], marker, color=look["color"], label=label, markersize=5)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
    axes.set_xticks([row[letter] for row in own])
    axes.set_xlabel(letter)
    axes.minorticks_off()
    axes.legend(loc="best")


def _bias(rows: Rows, path: Path) -> None:
    made = style.figure(5.6, 3.4)
    axes = made.subplots()
    for place, m in enumerate(sorted({row["M"] for row in rows})):
        own = sorted((row for row in rows if row["M"] == m), key=lambda row: -row["alpha"])
        x, look = range(len(own)), style.mark(place)
        owners = m // own[0]["L"]
        axes.plot(x, [row["predicted"] for row in own], linewidth=1.2, color=look["color"])
        label = f"M = {m}: {owners} owner{'s' if owners > 1 else ''} a unit"
        axes.plot(x, [row["one_deal"] for row in own], style.MARKERS[place], color=look["color"], label=label)
    axes.set_yscale("log")
    axes.set_xticks(range(len(own)), [f"{row['alpha']:g}" for row in own])
    axes.set_xlabel("Dirichlet's alpha: from alike to one class a client")
    axes.set_ylabel("relative squared bias of one deal")
    axes.legend(loc="best")
    made.savefig(path, dpi=200, facecolor="white", metadata={"Software": None})


def _training(rows: Rows, path: Path) -> None:
    made = style.figure(8.4, 3.6)
    alphas = sorted({row["alpha"] for row in rows}, reverse=True)
    panels = made.subplots(1, len(alphas), sharey=True)
    for axes, alpha in zip(panels, alphas, strict=True):
        for place, row in enumerate(row for row in rows if row["alpha"] == alpha):
            label = f"{'split' if row['split'] else 'no split'}, {row['mode']}, {row['optimizer']}"
            colour, dash = style.COLOURS[place % 4], style.DASHES[0 if row["split"] else 1]
            axes.plot(row["loss"], color=colour, linestyle=dash, label=label)
        axes.set_title(f"alpha = {alpha:g}")
        axes.set_xlabel("rounds")
    panels[0].set_ylabel("loss on all data")
    style.legend(made, panels[0], "outside lower center", columns=2)
    made.savefig(path, dpi=200, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
