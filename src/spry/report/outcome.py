"""The tables of a report: what methods reached at which cost, and what was run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spry.report import formats
from spry.report.groups import Group, Section
from spry.report.tables import Cell, Table, plain


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the outcome table.

    Args:
        key: The number's key in ``summary.json``.
        title: The heading.
        kind: An accuracy (the higher the better), a cost (drawn as a bar), or neither.
        text: Writes the number.
    """

    key: str
    title: str
    kind: Literal["accuracy", "cost", "fact"]
    text: Callable[[float | None], str]


def _accuracy(key: str, title: str) -> Column:
    return Column(key=key, title=title, kind="accuracy", text=formats.accuracy)


def _cost(key: str, title: str, text: Callable[[float | None], str]) -> Column:
    return Column(key=key, title=title, kind="cost", text=text)


def _fact(key: str, title: str) -> Column:
    return Column(key=key, title=title, kind="fact", text=formats.count)


MAIN = (
    _accuracy("test_accuracy", "test accuracy (%)"),
    _accuracy("generalized_accuracy", "generalized (%)"),
    _accuracy("personalized_accuracy", "personalized (%)"),
    _cost("peak_bytes_above_model", "peak memory above the model", formats.size),
    _cost("seconds_per_round", "time per round", formats.duration),
    _cost("bytes_up_per_client_round", "bytes up per client and round", formats.size),
)
"""What the terminal shows."""

MORE = (
    _cost("bytes_down_per_client_round", "bytes down per client and round", formats.size),
    _cost("client_seconds_per_round", "client compute per round", formats.duration),
    _fact("trainable_weights", "trainable weights"),
    _fact("rounds", "rounds"),
    _fact("failed_replies", "failed replies"),
)
"""What the page shows beside."""

MAJORITY = "majority class"


def outcome(section: Section, columns: Sequence[Column] = MAIN) -> Table:
    """Tabulate what each method reached at which cost.

    Args:
        section: Runs of one model on one data set.
        columns: What to show.

    Returns:
        A row for always guessing the most frequent class, where that is known, and one for each group.
    """
    rows = []
    if section.majority is not None:
        guess = formats.accuracy(section.majority)
        cells = [Cell(text=guess if column.key == "test_accuracy" else formats.NONE) for column in columns]
        rows.append((Cell(text=MAJORITY), *cells))
    across = [[_cell(group, column, section) for group in section.groups] for column in columns]
    for index, group in enumerate(section.groups):
        rows.append((Cell(text=name(group, section)), *(cells[index] for cells in across)))
    headings = ("method", *(column.title for column in columns))
    return Table(title=title(section), columns=headings, rows=tuple(rows))


def title(section: Section) -> str:
    """Name a section.

    Args:
        section: Runs of one model on one data set.

    Returns:
        Data set and model, and how many seeds there are if all groups have as many.
    """
    seeds = {len(group.runs) for group in section.groups}
    told = f", {seeds.pop()} seeds" if len(seeds) == 1 and seeds != {1} else ""
    return f"{_short(section.dataset)}, {_short(section.model)}{told}"


def _short(name: str) -> str:
    path = Path(name)
    return path.name if path.is_absolute() else name


def name(group: Group, section: Section) -> str:
    """Name a group.

    Args:
        group: One of the section's groups.
        section: Where it is shown.

    Returns:
        Its label, how many seeds it has where groups differ in that, and whether it is in progress.
    """
    uneven = len({len(other.runs) for other in section.groups}) > 1
    notes = [f"{len(group.runs)} seeds" if len(group.runs) > 1 else "1 seed"] if uneven else []
    notes += ["in progress"] if any(run.summary is None for run in group.runs) else []
    return f"{group.label} ({', '.join(notes)})" if notes else group.label


def _cell(group: Group, column: Column, section: Section) -> Cell:
    value = group.mean(column.key)
    known = [mean for other in section.groups if (mean := other.mean(column.key)) is not None]
    if column.kind == "accuracy":
        best = value is not None and len(known) > 1 and value == max(known)
        return Cell(text=formats.accuracy(value, group.spread(column.key)), best=best)
    share = value / max(known) if column.kind == "cost" and value is not None and max(known) > 0 else None
    return Cell(text=column.text(value), share=share)


def settings(section: Section) -> tuple[Table, Table | None]:
    """Tabulate the settings.

    Args:
        section: Runs of one model on one data set.

    Returns:
        What all groups have in common, and what they differ in, if anything.
    """
    configs = [group.runs[0].config for group in section.groups]
    keys = list(dict.fromkeys(key for config in configs for key in config if key != "seed"))
    shared = [key for key in keys if all(config.get(key) == configs[0].get(key) for config in configs)]
    common = plain("in common", ["setting", "value"], [[key, _value(configs[0].get(key))] for key in shared])
    differing = [key for key in keys if key not in shared]
    if not differing:
        return common, None
    rows = [[key, *(_value(config.get(key)) for config in configs)] for key in differing]
    return common, plain("differing", ["setting", *(group.label for group in section.groups)], rows)


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "found by themselves"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "the method's own" if value is None else str(value)
