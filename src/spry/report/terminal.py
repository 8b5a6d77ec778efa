"""Tables for a screen, never wider than it, with every number whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import fill, wrap

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from spry.report.tables import ReportTable

LEAST_TEXT = 24
"""A column of sentences is not made narrower."""
HEADING_LINES = 2
"""How tall headings are where there is room."""
GAP = 2
"""Columns between two columns of a table: one is padding, one belongs to the box."""


def terminal(table: ReportTable, width: int = 80) -> RenderableType:
    """Write a table for a screen; columns that do not fit beside the others follow below, after the rows' names.

    Names of several words are folded if fewer lines of columns do then.
    """
    columns = [_Column(table, place) for place in range(len(table.columns))]
    names = (columns[0], replace(columns[0], least=columns[0].word))
    tried = [(name, _rows(name, columns[1:], width)) for name in names]
    name, rows = min(tried, key=lambda found: (_overflows(*found, width), len(found[1])))
    blocks = [
        _block(table, [name, *row], titled=number == 0, width=width)
        for number, row in enumerate(rows or [[]])
    ]
    return Group(*(part for block in blocks for part in (block, Text())))


@dataclass(frozen=True)
class _Column:
    """One column of a table as a screen shows it.

    Args:
        least: The least width at which it is readable; it folds if that is less than its widest cell.
    """

    table: ReportTable
    place: int
    least: int = -1

    def __post_init__(self) -> None:
        if self.least < 0:
            sentences = self.widest > LEAST_TEXT and self.word < self.widest
            object.__setattr__(self, "least", max(self.word, LEAST_TEXT if sentences else self.widest))

    @property
    def texts(self) -> list[str]:
        return [row[self.place].text for row in self.table.rows]

    @property
    def widest(self) -> int:
        return max(map(cell_len, self.texts), default=0)

    @property
    def heading(self) -> str:
        return self.table.columns[self.place]

    @property
    def comfortable(self) -> int:
        """The least width at which the heading takes a few lines only."""
        sizes = range(max(self.least, 1), max(self.least, cell_len(self.heading)) + 1)
        return next((size for size in sizes if len(wrap(self.heading, size)) <= HEADING_LINES), self.least)

    @property
    def word(self) -> int:
        """The longest word, which is not to be cut."""
        words = " ".join([self.heading, *self.texts]).split()
        return max(map(cell_len, words), default=0)


def _rows(name: _Column, columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    """Divide columns into as few rows as fit beside the names: into equally many each, if that fits as well."""
    greedy: list[list[_Column]] = []
    for column in columns:
        if not greedy or not _fits([name, *greedy[-1], column], width):
            greedy.append([])
        greedy[-1].append(column)
    each = -(-len(columns) // max(len(greedy), 1))
    even = [list(columns[start : start + each]) for start in range(0, len(columns), each or 1)]
    return even if all(_fits([name, *row], width) for row in even) else greedy


def _overflows(name: _Column, rows: Sequence[Sequence[_Column]], width: int) -> bool:
    return not all(_fits([name, *row], width) for row in rows)


def _fits(columns: Sequence[_Column], width: int) -> bool:
    return sum(column.least + GAP for column in columns) - GAP <= width


def _block(table: ReportTable, columns: Sequence[_Column], *, titled: bool, width: int) -> RichTable:
    shown = RichTable(
        title=table.title if titled else None,
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
    )
    sentences = any(column.least < column.widest for column in columns[1:])
    for column, size in zip(columns, _widths(columns, width), strict=True):
        left = column.place == 0 or column.least < column.widest
        shown.add_column(
            fill(column.heading, max(size, 1)),
            justify="left" if left else "right",
            vertical="top" if sentences else "bottom",
            width=size,
            overflow="fold",
        )
    places = [column.place for column in columns]
    for row in table.rows:
        shown.add_row(*(Text(row[place].text, "bold" if row[place].best else "") for place in places))
    return shown


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """Give what is left over to columns that fold, then to tall headings; take what is too much from the names."""
    sizes = [column.least for column in columns]
    left = width - sum(sizes) - GAP * (len(columns) - 1)
    if left < 0:
        return [max(sizes[0] + left, 1), *sizes[1:]]
    for wanted in ([column.widest for column in columns], [column.comfortable for column in columns]):
        for place, size in enumerate(wanted):
            more = min(left, max(0, size - sizes[place]))
            sizes[place], left = sizes[place] + more, left - more
    return sizes
