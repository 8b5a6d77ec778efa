"""Turns the named columns of a table into a ``Dataset``, refusing what training would silently get wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from spry.core.errors import DataError, nearest
from spry.data import cells
from spry.data.classes import number_labels
from spry.data.dataset import Dataset
from spry.data.labels import clean
from spry.data.reading import LeftOut, Reading, quantity
from spry.data.table import Columns, Table

Blank = Literal["error", "skip"]
"""What becomes of an empty text, label or id: its file is refused, or its row is left out and counted."""


def build_dataset(
    table: Table,
    columns: Columns,
    *,
    name: str,
    names: tuple[str, ...] | None = None,
    blank: Blank = "error",
) -> Dataset:
    """Build a data set from named columns; its examples keep the order of the table.

    ``names`` are the classes of the training part; None finds them here. At least two are needed.
    """
    _check(table, columns, blank)
    texts, text_notes = zip(*(_texts(table, column) for column in columns.text), strict=True)
    labels = clean(table.column(columns.label), _where(table, columns.label), names)
    ids = None if columns.group is None else _ids(table, columns.group)
    filled = [*zip(columns.text, ["text"] * 2, texts, strict=False), (columns.label, "label", labels.values)]
    filled += [] if ids is None else [(str(columns.group), "id", ids)]
    unlabelled = f"label {' or '.join(labels.marks)}, which stands for no label"
    out = _empty(table, filled, blank) | {unlabelled: list(labels.unlabelled)}
    dropped = {row for rows in out.values() for row in rows}
    kept = [row for row in range(len(table)) if row not in dropped]
    why = ", ".join(f"{quantity(len(rows), 'row')} with {reason}" for reason, rows in out.items() if rows)
    numbers, classes = _numbered(table, columns.label, labels.values, kept, names, why)
    pairs = texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
    return Dataset(
        name=name,
        texts=[pairs[row] for row in kept],
        labels=numbers,
        label_names=classes,
        groups=None if ids is None else [ids[row] for row in kept],
        reading=_reading(table, out, [*(note for notes in text_notes for note in notes), *labels.notes]),
    )


def _check(table: Table, columns: Columns, blank: str) -> None:
    if blank not in get_args(Blank):
        raise DataError(f"blank is {blank!r}. Allowed: 'error' refuses empty cells, 'skip' leaves rows out.")
    if len(columns.text) not in {1, 2}:
        raise DataError(
            f"{table.source}: {len(columns.text)} text columns were named. Name one, or two for pairs of texts."
        )
    for name in columns.names if table.columns else ():
        table.column(name)
    if not len(table):
        raise DataError(f"{table.source}: has no rows. Give a file with at least one example.")


def _texts(table: Table, column: str) -> tuple[list[str], list[str]]:
    return cells.texts(table.column(column), _where(table, column))


def _where(table: Table, column: str) -> str:
    return f"{table.source}: column {column!r}"


def _ids(table: Table, column: str) -> list[str]:
    where = _where(table, column)
    return [cells.text(cell, where, row).strip() for row, cell in enumerate(table.column(column), start=1)]


def _empty(
    table: Table, filled: Sequence[tuple[str, str, Sequence[str]]], blank: Blank
) -> dict[str, list[int]]:
    """Find the rows, from 0, whose text, label or id is empty; refuse them unless they may be left out."""
    found = {}
    for column, what, values in filled:
        rows = [row for row, value in enumerate(values) if not value]
        if rows and blank == "error":
            raise DataError(
                f"{_where(table, column)}: {len(rows)} of {len(values)} rows have an empty {what} "
                f"({cells.rows([row + 1 for row in rows])}). Fill them in or remove them; "
                "data.blank=skip, or blank='skip' in Python, leaves them out."
            )
        found[f"empty {what} in column {column!r}"] = rows
    return found


def _numbered(
    table: Table,
    column: str,
    values: Sequence[str],
    kept: Sequence[int],
    names: tuple[str, ...] | None,
    left_out: str,
) -> tuple[list[int], tuple[str, ...]]:
    where = _where(table, column)
    if not kept:
        raise DataError(
            f"{where}: none of the {len(table)} rows is left ({left_out}). Give rows with labels."
        )
    chosen = [values[row] for row in kept]
    if names is None and len(set(chosen)) < 2:
        rest = f", but for {left_out}" if left_out else ""
        raise DataError(
            f"{where}: every label is {chosen[0]!r}{rest}. A classifier needs at least two classes."
        )
    for row in kept:
        if names is not None and values[row] not in names:
            raise DataError(
                f"{table.source}: row {row + 1} has the label {values[row]!r}, which the training part does not "
                f"have. {nearest(values[row], names)}"
            )
    return number_labels(chosen, names)


def _reading(table: Table, out: Mapping[str, Sequence[int]], notes: Sequence[str]) -> Reading:
    return Reading(
        source=table.source,
        format=table.format,
        rows=len(table),
        size=table.size,
        left_out=tuple(
            LeftOut(reason=reason, rows=len(rows), first=tuple(row + 1 for row in rows[:5]))
            for reason, rows in out.items()
            if rows
        ),
        notes=(*table.notes, *notes),
    )
