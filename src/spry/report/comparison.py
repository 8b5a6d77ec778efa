"""The tables of a comparison: three sides of the same runs, and what was tuned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spry.core.errors import DataError
from spry.report import formats
from spry.report.tables import Cell, Table, markdown, plain

FILE, MARKDOWN = "comparison.json", "comparison.md"
MOST = 6
"""Columns of the table at equal rounds, at most."""

Json = Mapping[str, Any]


def tables(folder: Path) -> list[Table]:
    """Tabulate what ``comparison.json`` says beyond its rows.

    Args:
        folder: A comparison folder, or any other.

    Returns:
        Quality at equal rounds, under a budget, cost to a target, and the tuning, as far as they are there.

    Raises:
        DataError: If the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        comparison = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is damaged: {error}. Run the comparison again; its runs are kept."
        ) from error
    views = comparison.get("views")
    if not views:
        return []
    names = {row["method"]: _name(row) for row in comparison["rows"]}
    several = any(len(row["seeds"]) > 1 for row in comparison["rows"])
    made = [_equal_rounds(views["equal_rounds"], names, several), _budget(views["budget"], names, several)]
    made += [_target(views["target"], names)] if views["target"] else []
    return made + ([_tuning(comparison["tuning"], names)] if comparison["tuning"] else [])


def write(folder: Path, outcomes: Sequence[Table]) -> Path:
    """Write all tables of a comparison as Markdown.

    Args:
        folder: The comparison folder.
        outcomes: The tables of outcomes, which come first.

    Returns:
        The file.
    """
    path = folder / MARKDOWN
    text = "\n\n".join(markdown(table) for table in (*outcomes, *tables(folder)))
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _name(row: Json) -> str:
    told = row.get("checkpointing") and "checkpointing" not in row["method"]
    return f"{row['method']} + checkpointing" if told else row["method"]


def _accuracy(found: Json | None, several: bool) -> str:
    if found is None:
        return formats.NONE
    return formats.accuracy(found["accuracy_mean"], found["accuracy_std"] if several else None)


def _ranked(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Json | None], Sequence[str]]],
    several: bool,
) -> Table:
    """Put accuracies, the best of each column marked, before columns of plain text."""
    best = [
        max((found["accuracy_mean"] for found in column if found), default=None)
        for column in zip(*(accuracies for _, accuracies, _ in rows), strict=True)
    ]
    made = []
    for name, accuracies, texts in rows:
        cells = [
            Cell(text=_accuracy(found, several), best=found is not None and found["accuracy_mean"] == most)
            for found, most in zip(accuracies, best, strict=True)
        ]
        made.append((Cell(text=name), *cells, *(Cell(text=text) for text in texts)))
    return Table(title=title, columns=("method", *columns), rows=tuple(made))


def _equal_rounds(view: Json, names: Mapping[str, str], several: bool) -> Table:
    count = len(view["rounds"])
    shown = sorted({round((k + 1) * count / min(MOST, count)) - 1 for k in range(min(MOST, count))})
    columns = [f"after {view['rounds'][place]} rounds" for place in shown]
    rows = [(names[row["method"]], [row["after"][place] for place in shown], ()) for row in view["rows"]]
    return _ranked("Test accuracy (%) at equal rounds", columns, rows, several)


def _budget(view: Json, names: Mapping[str, str], several: bool) -> Table:
    budget = view["budget"]
    memory = budget["peak_bytes_above_model"]
    limits = [
        f"within {formats.duration(budget['client_seconds'])} of client compute",
        f"within {formats.size(budget['bytes_per_client'])} per client",
        "within all",
    ]
    rows = []
    for row in view["rows"]:
        peak = formats.size(row["peak_bytes_above_model"])
        fits = peak if row["fits"] else f"{peak}: does not fit"
        rows.append((
            names[row["method"]],
            [row["within_seconds"], row["within_bytes"], row["within_all"]],
            [fits],
        ))
    told = "peak memory above the model" + (f" (limit {formats.size(memory)})" if memory else "")
    return _ranked("Best test accuracy (%) under a budget", (*limits, told), rows, several)


def _target(view: Json, names: Mapping[str, str]) -> Table:
    rows = []
    for row in view["rows"]:
        if not row["reached"]:
            rows.append([names[row["method"]], "not reached", formats.NONE, formats.NONE])
            continue
        part = f" ({row['reached']} of {row['seeds']} seeds)" if row["reached"] < row["seeds"] else ""
        rows.append([
            names[row["method"]],
            f"{row['rounds']:.3g}{part}",
            formats.duration(row["client_seconds"]),
            formats.size(row["bytes_per_client"]),
        ])
    columns = ["method", "rounds", "client compute, all clients", "bytes per client, up and down"]
    return plain(f"Cost to {formats.accuracy(view['target'])} % test accuracy", columns, rows)


def _tuning(tuning: Json, names: Mapping[str, str]) -> Table:
    rows = []
    for method, found in tuning["methods"].items():
        keys = list(found["chosen"])
        rows.append([
            names[method],
            ", ".join(keys),
            ";  ".join(f"{_values(point['settings'])}: {_scored(point)}" for point in found["points"]),
            _values(found["chosen"]),
            ", ".join(found["at_edge"]) or "no",
        ])
    title = (
        f"Tuning: validation accuracy (%) at {tuning['points']} points each, {tuning['rounds']} rounds, seed "
        f"{tuning['seed']}, {100 * tuning['validation']:.3g} % of the training part for validation"
    )
    return plain(title, ["method", "settings", "tried", "chosen", "at the grid's edge"], rows)


def _values(settings: Json) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in settings.values())


def _scored(point: Json) -> str:
    return "broke down" if point["accuracy"] is None else formats.accuracy(point["accuracy"])
