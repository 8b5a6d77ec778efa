"""Tables as data, and as Markdown; ``terminal`` writes them for a screen, and the page as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell; ``share`` is its value over the column's largest, drawn as a bar on the page if it is given."""

    text: str
    share: float | None = None
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """A table with as many cells a row as headings; the first column names the rows, the others hold numbers.

    With ``prose`` all columns hold texts, whose lines break where the page is narrow.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    prose: bool = False


def text_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, prose: bool = False
) -> ReportTable:
    cells = tuple(tuple(Cell(text=text) for text in row) for row in rows)
    return ReportTable(title=title, columns=tuple(columns), rows=cells, prose=prose)


def markdown(table: ReportTable) -> str:
    r"""Write a table as Markdown.

    >>> print(markdown(text_table("Colours", ["name", "share"], [["red|blue", "5 %"]])))
    **Colours**
    <BLANKLINE>
    | name | share |
    | :--- | ---: |
    | red\|blue | 5 % |
    """
    marks = [":---", *["---:"] * (len(table.columns) - 1)]
    rows = [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in table.rows]
    lines = [" | ".join(_escaped(text) for text in row) for row in (table.columns, marks, *rows)]
    return "\n".join([f"**{table.title}**", "", *(f"| {line} |" for line in lines)])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
