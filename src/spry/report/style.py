"""How figures look: colours that colour-blind eyes tell apart, quiet axes, legends outside the axes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
"""Okabe and Ito's palette without its yellow, which is too pale for lines on white."""

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
INK = "#24292f"
BASELINE_LINE = {"color": "#8b949e", "linewidth": 1.2, "linestyle": (0, (1, 2))}

LOOK: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.edgecolor": "#b6bcc4",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.8,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.hashsalt": "spry",
}


PHONE_WIDTH = 3.7
"""Inches of a figure on a phone: at its width the type is as large as the page's."""


def mark(index: int) -> dict[str, Any]:
    """Choose the colour and dashes of the line of group ``index``; no two of the first 28 look alike.

    Neighbours differ in both, so that a line is seen through the gaps of an equal one that is drawn over it.
    """
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


def figure(width: float, height: float, *, apart: float = 0.04) -> Figure:
    """Make an empty figure without a window, to be filled within ``mpl.rc_context(LOOK)``.

    Args:
        width: In inches, as the others.
        apart: Room above and below each axes.
    """
    made = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=apart))
    FigureCanvasAgg(made)
    return made


def legend(made: Figure, axes: Axes, place: str = "outside upper left", columns: int = 4) -> None:
    """Put one legend beside all axes of a figure, ``columns`` names side by side at most."""
    handles, labels = axes.get_legend_handles_labels()
    side: Any = place  # matplotlib's types do not know the places outside
    if labels:
        made.legend(handles, labels, loc=side, ncols=min(columns, len(labels)), handlelength=2.2)


def widen(axes: Axes, least: float) -> None:
    """Make the y axis span at least ``least``, in its units, around what it shows."""
    low, high = axes.get_ylim()
    missing = max(0.0, least - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)


def write_png(made: Figure, path: Path) -> None:
    made.savefig(path, dpi=200, facecolor="white", metadata={"Software": None})


def svg(made: Figure) -> bytes:
    """Draw a figure as an SVG document, the same bytes each time."""
    buffer = BytesIO()
    with mpl.rc_context(LOOK):
        made.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
