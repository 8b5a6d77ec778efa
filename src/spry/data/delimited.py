"""Cells between separators (CSV, TSV), refusing the stray quotation mark that would swallow rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from spry.core.errors import DataError
from spry.data.reading import quantity
from spry.data.table import Columns

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_SPELLED = {"\\t": "\t", **{name: mark for mark, name in SEPARATORS.items()}}
_DECLARED = re.compile(r"""\s*"?sep=(.)"?[;,]*\r?\n""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row and the lines of the file that it takes up, from 1."""

    first: int
    last: int
    cells: list[str]


def separator(text: str, columns: Columns, told: str) -> str:
    """Choose what stands between cells: whatever makes the wanted names out of the first line."""

    def fit(candidate: str) -> tuple[int, bool, int]:
        names = _names(_first_row(text, candidate))
        return len(set(columns.names) & set(names)), candidate == told and len(names) > 1, len(names)

    return max(dict.fromkeys((told, *SEPARATORS)), key=fit)


def given_separator(given: str, source: str) -> str:
    """Take a separator as it was given: one character, or the name of a common one, such as ``tab``."""
    chosen = _SPELLED.get(given.lower(), given)
    if len(chosen) != 1:
        raise DataError(
            f"{source}: the separator is {given!r}. Allowed: one character, such as ';', or one of "
            f"{', '.join(SEPARATORS.values())}."
        )
    return chosen


def declared_separator(text: str) -> tuple[str, str | None]:
    """Take Excel's first line ``sep=;`` for what it is; the lines below keep their numbers."""
    found = _DECLARED.match(text)
    return (text, None) if found is None else ("\n" + text[found.end() :], found[1])


def is_tabular(text: str, columns: Columns, separator: str) -> bool:
    """Whether the first line names a wanted column, or has several cells, as many as the second."""
    lines = (line for line in StringIO(text, newline="") if line.strip())
    rows = csv.reader(lines, delimiter=separator)
    try:
        names, first = _names(next(rows, [])), next(rows, [])
    except csv.Error:
        return False
    return bool(set(columns.names) & set(names)) or len(names) == len(first) > 1


def heads(text: str, columns: Columns, told: str) -> bool:
    """Whether the first line names all wanted columns."""
    return set(columns.names) <= set(_names(_first_row(text, separator(text, columns, told))))


def parse_delimited(
    text: str, *, source: str, columns: Columns, separator: str
) -> tuple[list[str], list[list[Any]]]:
    """Split a text into the names in its first line and its rows; None fills a row that is too short.

    Between tabs, quotation marks are text, as in GLUE, unless the file was clearly written with quoting. Stray
    quotation marks and rows with more cells than names are refused.
    """
    spaced = any(name.startswith(" ") for name in _first_row(text, separator))
    form: dict[str, Any] = {"delimiter": separator, "skipinitialspace": spaced}
    quoted = separator != "\t" or _is_quoted(_rows(text, source=source, quoting=csv.QUOTE_NONE, **form))
    rows = _rows(text, source=source, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, **form)
    names, body = _names(rows[0].cells), rows[1:]
    if quoted and columns.label in names:
        lines = list(StringIO(text, newline=""))
        _refuse_swallowed(
            lines, body, form, width=len(names), label=names.index(columns.label), source=source
        )
    return names, [_padded(row, names, number, separator, source) for number, row in enumerate(body, start=1)]


def _rows(text: str, *, source: str, **form: Any) -> list[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # the library's own limit is 128 KiB a cell
    reader = csv.reader(StringIO(text, newline=""), strict=True, **form)
    rows: list[Row] = []
    begin = 1
    try:
        for cells in reader:
            if cells:
                rows.append(Row(first=begin, last=reader.line_num, cells=cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        unclosed = "end of data" in str(error)
        how = "is never closed" if unclosed else f"closes inside a cell in line {reader.line_num}"
        place = f"row {len(rows)}" if rows else "first line"
        raise DataError(
            f"{source}: {place}: the quotation mark that opens a cell in line {begin} {how}. Remove it; "
            "or put the whole cell into quotation marks, and write those inside it twice."
        ) from error
    return rows


def _first_row(text: str, separator: str) -> list[str]:
    lines = (line for line in StringIO(text, newline="") if line.strip())
    return next(csv.reader(lines, delimiter=separator), [])


def _names(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _is_quoted(rows: Sequence[Row]) -> bool:
    """Whether rows that were read without quoting were written with it."""
    # Then every cell that begins with a mark ends with one, those inside are doubled, and there is one to prove it;
    # or cells with line breaks were torn into rows of too few cells.
    marked = [cell for row in rows for cell in row.cells if cell.startswith('"')]
    whole = [cell[1:-1] for cell in marked if len(cell) > 1 and cell.endswith('"')]
    sound = all('"' not in cell.replace('""', "") for cell in whole)
    torn = len({len(row.cells) for row in rows}) > 1
    return bool(marked) and sound and (torn or (len(whole) == len(marked) and any('""' in c for c in whole)))


def _refuse_swallowed(
    lines: Sequence[str], rows: Sequence[Row], form: Mapping[str, Any], *, width: int, label: int, source: str
) -> None:
    """Refuse a cell over several lines of which most are, read alone, rows with a label known from elsewhere."""
    known = {row.cells[label] for row in rows if row.first == row.last and len(row.cells) > label} - {""}
    for number, row in enumerate(rows, start=1):
        if row.first == row.last:
            continue
        alone = [_label(line, form, width, label) for line in lines[row.first - 1 : row.last] if line.strip()]
        seen = known or {value for value, times in Counter(alone).items() if value and times > 1}
        alike = sum(value in seen for value in alone)
        if alike >= 2 and 2 * alike >= len(alone):
            raise DataError(
                f"{source}: row {number}: the quotation mark that opens a cell in line {row.first} closes only in "
                f"line {row.last}, and would swallow {quantity(row.last - row.first, 'row')}. Remove it, or close the "
                "cell where its text ends."
            )


def _label(line: str, form: Mapping[str, Any], width: int, label: int) -> str:
    """The label of a line that is read as a row by itself, with quoting if that makes one of it, else without."""
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        cells = next(csv.reader([line.rstrip("\r\n")], quoting=quoting, **form))
        if len(cells) == width:
            return cells[label]
    return ""


def _padded(row: Row, names: Sequence[str], number: int, separator: str, source: str) -> list[Any]:
    cells, width = row.cells, len(names)
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) > width:
        raise DataError(
            f"{source}: row {number} (line {row.first}) has {len(cells)} fields, more fields than the first line "
            f"names ({width}: {', '.join(names)}). Name all columns there, and put texts that hold a "
            f"{SEPARATORS.get(separator, 'separator')} into quotation marks."
        )
    return [*cells, *[None] * (width - len(cells))]
