"""Turns the named columns of a table into a ``Dataset``, refusing what training would silently get wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from spry.core.errors import DataError
from spry.data import cells
from spry.data.class_target import CLASSES
from spry.data.dataset import Dataset
from spry.data.reading import LeftOut, Reading, quantity
from spry.data.table import Columns, Table
from spry.data.target import MISSING, Labels, Target, column_of

Blank = Literal["error", "skip"]
"""What becomes of an empty text, label or id: its file is refused, or its row is left out and counted."""


def build_dataset(
    table: Table,
    columns: Columns,
    *,
    name: str,
    names: tuple[str, ...] | None = None,
    blank: Blank = "error",
    target: Target = CLASSES,
) -> Dataset:
    """Build a data set from named columns; its examples keep the order of the table.

    ``names`` are the classes of the training part, where the target has classes; None finds them here.
    """
    table = target.table(table)
    _check(table, columns, blank)
    inputs, labels = target.inputs(table, columns), target.labels(table, columns, names)
    ids = None if columns.group is None else _ids(table, columns.group)
    filled = [(column, "text", found) for column, found in inputs.parts.items()]
    filled += [(columns.label, "label", labels.values)]
    filled += [] if ids is None else [(str(columns.group), "id", ids)]
    unlabelled = f"label {' or '.join(labels.marks)}, which stands for no label"
    out = _empty(table, filled, blank, labels.nothing) | {unlabelled: list(labels.unlabelled)}
    out |= _broken(table, columns, labels, blank)
    dropped = {row for rows in out.values() for row in rows}
    kept = [row for row in range(len(table)) if row not in dropped]
    why = ", ".join(f"{quantity(len(rows), 'row')} with {reason}" for reason, rows in out.items() if rows)
    if not kept:
        raise DataError(
            f"{column_of(table, columns.label)}: none of the {len(table)} rows is left ({why}). Give rows with labels."
        )
    numbers, classes = target.numbered(
        {row: labels.values[row] for row in kept}, names, table=table, columns=columns, left_out=why
    )
    return Dataset(
        name=name,
        texts=[inputs.values[row] for row in kept],
        labels=numbers,
        label_names=classes,
        groups=None if ids is None else [ids[row] for row in kept],
        reading=_reading(table, out, [*inputs.notes, *labels.notes]),
        target=target,
        more={what: [found[row] for row in kept] for what, found in target.more(table, columns).items()},
    )


def _check(table: Table, columns: Columns, blank: str) -> None:
    if blank not in get_args(Blank):
        raise DataError(f"blank is {blank!r}. Allowed: 'error' refuses empty cells, 'skip' leaves rows out.")
    for name in columns.names if table.columns else ():
        table.column(name)
    if not len(table):
        raise DataError(f"{table.source}: has no rows. Give a file with at least one example.")


def _ids(table: Table, column: str) -> list[str]:
    where = column_of(table, column)
    return [cells.text(cell, where, row).strip() for row, cell in enumerate(table.column(column), start=1)]


def _empty(
    table: Table, filled: Sequence[tuple[str, str, Sequence[Any]]], blank: Blank, nothing: str | None
) -> dict[str, list[int]]:
    """Find the rows, from 0, whose text, label or id is empty; refuse them unless they may be left out."""
    found = {}
    for column, what, values in filled:
        rows = [row for row, value in enumerate(values) if isinstance(value, str) and value == MISSING]
        if rows and blank == "error":
            none = f", with {nothing} where there is none," if nothing and what == "label" else ""
            raise DataError(
                f"{column_of(table, column)}: {len(rows)} of {len(values)} rows have an empty {what} "
                f"({cells.rows([row + 1 for row in rows])}). Fill them in{none} or remove them; "
                "data.blank=skip, or blank='skip' in Python, leaves them out."
            )
        found[f"empty {what} in column {column!r}"] = rows
    return found


def _broken(table: Table, columns: Columns, labels: Labels, blank: Blank) -> dict[str, list[int]]:
    """Find the rows, from 0, whose label cannot be learnt; refuse them unless they may be left out."""
    for what, rows in labels.broken.items():
        if rows and blank == "error":
            raise DataError(
                f"{column_of(table, columns.label)}: {quantity(len(rows), 'row')} of {len(table)} with {what} "
                f"({cells.rows([row + 1 for row in rows])}). Correct or remove them; data.blank=skip, or blank='skip' "
                "in Python, leaves them out."
            )
    return {what: list(rows) for what, rows in labels.broken.items()}


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
