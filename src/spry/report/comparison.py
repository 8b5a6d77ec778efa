"""The tables of a comparison: after equal rounds, within equal budgets, cost of a target, and the tuning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spry.core.errors import DataError
from spry.report import formats, schema1, schema2
from spry.report.tables import Cell, ReportTable, markdown, text_table
from spry.tasks.score import Score
from spry.tasks.score_text import NONE, score_label, score_name, score_value, score_with_unit

COMPARISON_JSON, COMPARISON_MARKDOWN = "comparison.json", "comparison.md"
MAX_COLUMNS = 6
"""Of the table after equal rounds."""

COST_WRITERS = {
    "operations": formats.format_operations,
    "bytes_per_client": formats.format_bytes,
    "cpu_seconds": formats.duration,
}
"""The costs that limit a budget and rank methods, and what writes them."""

Json = Mapping[str, Any]


def comparison_tables(folder: Path) -> list[ReportTable]:
    """Tabulate what ``comparison.json`` says beyond its rows, as far as it is there; DataError if it is damaged."""
    path = folder / COMPARISON_JSON
    if not path.is_file():
        return []
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path} is damaged: {error}. Run the comparison again; its runs are kept."
        ) from error
    comparison = schema2.without_wall_time(schema1.upgrade_comparison(written))
    views, tuning = comparison.get("views"), comparison.get("tuning")
    if not views:
        return []
    shown = _Shown(
        score=Score.of_summary(comparison),
        names={row["method"]: _name(row) for row in comparison["rows"]},
        several=any(len(row["seeds"]) > 1 for row in comparison["rows"]),
    )
    made = [_equal_rounds(views["equal_rounds"], shown), _budget(views["budget"], shown)]
    made += [_target(views["target"], shown)] if views["target"] else []
    return made + ([_tuning(tuning, shown)] if tuning else [])


def write_markdown(folder: Path, outcomes: Sequence[ReportTable]) -> Path:
    """Write all tables of a comparison as Markdown, those of outcomes first."""
    path = folder / COMPARISON_MARKDOWN
    text = "\n\n".join(markdown(table) for table in (*outcomes, *comparison_tables(folder)))
    path.write_text(text + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What the tables of a comparison have in common."""

    score: Score
    names: Mapping[str, str]
    several: bool

    @property
    def label(self) -> str:
        return score_label(self.score.name, "test")

    def text(self, found: Json | None) -> str:
        if found is None:
            return NONE
        std = found["score_std"] if self.several else None
        return score_value(found["score_mean"], self.score.name, std)


def _name(row: Json) -> str:
    told = row.get("checkpointing") and "checkpointing" not in row["method"]
    return f"{row['method']} + checkpointing" if told else row["method"]


def _ranked(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Json | None], Sequence[str]]],
    shown: _Shown,
) -> ReportTable:
    """Put scores, the best of each column marked, before columns of plain text."""
    best = [
        shown.score.best(found["score_mean"] for found in column if found)
        for column in zip(*(scores for _, scores, _ in rows), strict=True)
    ]
    made = []
    for name, scores, texts in rows:
        cells = [
            Cell(text=shown.text(found), best=found is not None and found["score_mean"] == top)
            for found, top in zip(scores, best, strict=True)
        ]
        made.append((Cell(text=name), *cells, *(Cell(text=text) for text in texts)))
    return ReportTable(title=title, columns=("method", *columns), rows=tuple(made))


def _equal_rounds(view: Json, shown: _Shown) -> ReportTable:
    count = len(view["rounds"])
    columns = min(MAX_COLUMNS, count)
    chosen = sorted({round((k + 1) * count / columns) - 1 for k in range(columns)})
    rows = [
        (shown.names[row["method"]], [row["after"][index] for index in chosen], ()) for row in view["rows"]
    ]
    after = (view["rounds"][index] for index in chosen)
    headings = [f"after {count} round{'s' if count != 1 else ''}" for count in after]
    return _ranked(f"{_capital(shown.label)} after equal rounds", headings, rows, shown)


def _budget(view: Json, shown: _Shown) -> ReportTable:
    """Show a column for each limit that there is, and one for all of them if there are several."""
    budget = view["budget"]
    memory = budget["peak_bytes_above_model"]
    whose = {
        "operations": "of all clients",
        "bytes_per_client": "per client",
        "cpu_seconds": "of processor time",
    }
    limits = {
        f"within_{name}": f"within {write(budget[name])} {whose[name]}"
        for name, write in COST_WRITERS.items()
        if budget[name] is not None
    }
    if len(limits) + bool(memory) > 1:
        limits["within_all"] = "within all"
    rows = []
    for row in view["rows"]:
        peak = formats.format_bytes(row["peak_bytes_above_model"])
        fits = peak if row["fits"] else f"{peak} (too much)"
        rows.append((shown.names[row["method"]], [row[limit] for limit in limits], [fits]))
    told = f"{'highest ' if shown.several else ''}peak memory above the model" + (
        f" (limit {formats.format_bytes(memory)})" if memory else ""
    )
    return _ranked(f"Best {shown.label} within equal budgets", (*limits.values(), told), rows, shown)


def _target(view: Json, shown: _Shown) -> ReportTable:
    """Mark the least of each cost, wall time left out, among the methods that all their seeds brought there."""
    there = [row for row in view["rows"] if row["reached"] == row["seeds"]]
    least = {
        cost: min((row[cost] for row in there if row[cost] is not None), default=None)
        for cost in COST_WRITERS
    }
    rows = []
    for row in view["rows"]:
        part = f" ({row['reached']} of {row['seeds']} seeds)" if row["reached"] < row["seeds"] else ""
        rounds = f"{row['rounds']:.3g}{part}" if row["reached"] else "not reached"
        known = row if row["reached"] else dict.fromkeys((*COST_WRITERS, "client_seconds"))
        best = {cost for cost in COST_WRITERS if len(there) > 1 and row in there and row[cost] == least[cost]}
        costs = [
            Cell(text=write(known[cost]), best=cost in best and known[cost] is not None)
            for cost, write in COST_WRITERS.items()
        ]
        wall = Cell(text=formats.duration(known["client_seconds"]))
        rows.append((Cell(text=shown.names[row["method"]]), Cell(text=rounds), *costs, wall))
    columns = (
        "method", "rounds", "operations, all clients", "bytes per client, up and down",
        "processor time, all clients", "wall time (not ranked)",
    )  # fmt: skip
    score = shown.score.name
    target = f"a {score_name(score, 'test')} of {score_with_unit(view['target'], score)}"
    return ReportTable(title=f"Cost of reaching {target}", columns=columns, rows=tuple(rows))


def _tuning(tuning: Json, shown: _Shown) -> ReportTable:
    score = shown.score.name
    rows = []
    for method, found in tuning["methods"].items():
        tried = (f"{_values(point['settings'])}: {_scored(point, score)}" for point in found["points"])
        rows.append([
            shown.names[method],
            ", ".join(found["chosen"]),
            ";  ".join(tried),
            _values(found["chosen"]),
            ", ".join(found["at_edge"]) or "no",
        ])
    title = (
        f"Tuning: {score_label(score, 'validation')} at {tuning['points']} points each, "
        f"{tuning['rounds']} rounds, seed {tuning['seed']}, {100 * tuning['validation']:.3g} % of the training part "
        "for validation"
    )
    return text_table(title, ["method", "settings", "tried", "chosen", "at the grid's edge"], rows)


def _values(settings: Json) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in settings.values())


def _scored(point: Json, score: str) -> str:
    return "broke down" if point["score"] is None else score_value(point["score"], score)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
