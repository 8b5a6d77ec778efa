"""The tables of a report: what methods reached at which cost, and their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from spry.report import formats
from spry.report.groups import Group, Section
from spry.report.tables import Cell, ReportTable, text_table
from spry.tasks.score_text import NONE, baseline_label, labelled, score_label, score_value


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the outcome table: a number's key in a run's outcome, and what writes it; costs are drawn as bars."""

    key: str
    title: str
    kind: Literal["score", "cost", "fact"]
    text: Callable[[float | None], str]


def _cost(key: str, title: str, text: Callable[[float | None], str]) -> Column:
    return Column(key=key, title=title, kind="cost", text=text)


def _fact(key: str, title: str) -> Column:
    return Column(key=key, title=title, kind="fact", text=formats.format_count)


COSTS = (
    _cost("peak_bytes_above_model", "peak memory above the model", formats.format_bytes),
    _cost("operations_per_client_round", "operations per client and round", formats.format_operations),
    _cost("bytes_up_per_client_round", "bytes up per client and round", formats.format_bytes),
)
"""What the terminal shows beside the scores."""

MORE = (
    _cost("bytes_down_per_client_round", "bytes down per client and round", formats.format_bytes),
    _cost("operations", "operations, all clients, whole run", formats.format_operations),
    _cost("client_cpu_seconds", "processor time, all clients, whole run", formats.duration),
    Column(
        key="client_seconds_total",
        title="wall time, all clients, whole run",
        kind="fact",
        text=formats.duration,
    ),
    _fact("trainable_weights", "trainable weights"),
    _fact("rounds", "rounds"),
    _fact("failed_replies", "failed replies"),
)
"""What the page adds."""


def main_columns(section: Section) -> tuple[Column, ...]:
    score = section.score
    text = partial(score_value, score=score.name)
    titles = {
        "test": score_label(score.name, "test"),
        **({"validation": labelled("validation", score.name)} if section.knows("validation") else {}),
        "generalized": labelled("generalized", score.name),
        "personalized": labelled("personalized", score.name),
    }
    scores = (
        Column(key=score.key(part), title=told, kind="score", text=text) for part, told in titles.items()
    )
    return (*scores, *COSTS)


def outcome_table(section: Section, more: Sequence[Column] = ()) -> ReportTable:
    """Tabulate what each method reached at which cost, after the untrained answer if its score is known.

    A column of which no run knows anything is left out, but for that of the test part, and one of facts that are the
    same for all.
    """
    score = section.score
    columns = [column for column in (*main_columns(section), *more) if _tells(column, section)]
    rows = []
    if score.baseline is not None:
        known = score_value(score.baseline, score.name)
        cells = [Cell(text=known if column.key == score.key("test") else NONE) for column in columns]
        rows.append((Cell(text=baseline_label(score)), *cells))
    across = [[_cell(group, column, section) for group in section.groups] for column in columns]
    for index, group in enumerate(section.groups):
        rows.append((Cell(text=group_name(group, section)), *(cells[index] for cells in across)))
    headings = ("method", *(column.title for column in columns))
    return ReportTable(title=section_title(section), columns=headings, rows=tuple(rows))


def _tells(column: Column, section: Section) -> bool:
    if column.key == section.score.key("test"):
        return True
    values = [value for group in section.groups for value in group.values(column.key)]
    if column.key == "failed_replies":
        return any(values)
    return bool(values) and (column.key != "rounds" or len(set(values)) > 1)


def section_title(section: Section) -> str:
    """Data set and model, and the number of seeds if all groups have the same."""
    seeds = {len(group.runs) for group in section.groups}
    told = f", {seeds.pop()} seeds" if len(seeds) == 1 and seeds != {1} else ""
    return f"{_short(section.dataset)}, {_short(section.model)}{told}"


def _short(name: str) -> str:
    path = Path(name)
    return path.name if path.is_absolute() else name


def group_name(group: Group, section: Section) -> str:
    """A group's label, its number of seeds where groups differ in that, and whether it is in progress."""
    uneven = len({len(other.runs) for other in section.groups}) > 1
    notes = [f"{len(group.runs)} seeds" if len(group.runs) > 1 else "1 seed"] if uneven else []
    notes += ["in progress"] if any(run.summary is None for run in group.runs) else []
    return f"{group.label} ({', '.join(notes)})" if notes else group.label


def _cell(group: Group, column: Column, section: Section) -> Cell:
    value = group.across(column.key)
    known = [mean for other in section.groups if (mean := other.across(column.key)) is not None]
    if column.kind == "score":
        best = value is not None and len(known) > 1 and value == section.score.best(known)
        return Cell(text=score_value(value, section.score.name, group.std(column.key)), best=best)
    drawn = column.kind == "cost" and len(section.groups) > 1 and value is not None and max(known) > 0
    share = value / max(known) if drawn and value is not None else None
    return Cell(text=column.text(value), share=share)


def settings_tables(section: Section) -> tuple[ReportTable, ReportTable | None]:
    """Tabulate the settings that all groups have in common, and those in which they differ, if any."""
    configs = [group.runs[0].config for group in section.groups]
    keys = list(dict.fromkeys(key for config in configs for key in config if key != "seed"))
    shared = [key for key in keys if all(config.get(key) == configs[0].get(key) for config in configs)]
    common = text_table(
        "in common", ["setting", "value"], [[key, _value(configs[0].get(key))] for key in shared]
    )
    differing = [key for key in keys if key not in shared]
    if not differing:
        return common, None
    rows = [[key, *(_setting(config, key) for config in configs)] for key in differing]
    return common, text_table("differing", ["setting", *(group.label for group in section.groups)], rows)


def _setting(config: Mapping[str, Any], key: str) -> str:
    if key.startswith("method.") and key not in config:  # another method's option
        return NONE
    return _value(config.get(key))


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "found by themselves"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "the method's own" if value is None else str(value)
