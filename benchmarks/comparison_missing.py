"""What of the comparison has not been run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.comparison import ALPHAS, SEEDS
from benchmarks.comparison_cells import Cell, Place
from benchmarks.comparison_rows import ROWS
from benchmarks.comparison_targets import where
from benchmarks.convergence_data import SETS


def missing(found: Mapping[Place, Mapping[str, Cell]]) -> list[str]:
    """One line a place where something is missing, and one for all places where nothing was run."""
    lines, empty = [], []
    for place in ((name, alpha) for name in SETS for alpha in ALPHAS):
        own = found.get(place, {})
        if not own:
            empty.append(where(place))
        elif told := _absent(own):
            lines.append(f"{where(place)}: {'; '.join(told)}")
    return [*lines, *([f"nothing at all on {'; '.join(empty)}"] if empty else [])]


def _absent(own: Mapping[str, Cell]) -> list[str]:
    """Rows by the seeds that they lack, all of them first."""
    lacking: dict[tuple[int, ...], list[str]] = {}
    for row, made in ROWS.items():
        seeds = tuple(seed for seed in SEEDS if row not in own or seed not in own[row].seeds)
        if seeds:
            lacking.setdefault(seeds, []).append(made.title)
    return [_told(seeds, titles) for seeds, titles in sorted(lacking.items(), key=lambda item: -len(item[0]))]


def _told(seeds: Sequence[int], titles: Sequence[str]) -> str:
    which = (
        ""
        if len(seeds) == len(SEEDS)
        else f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} of "
    )
    return which + ("all rows" if len(titles) == len(ROWS) else ", ".join(f"*{title}*" for title in titles))
