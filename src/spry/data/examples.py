"""Turns the named columns of tables into a ``Dataset``, refusing what training would silently get wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from spry.core.errors import DataError, nearest
from spry.data.dataset import Dataset, Text


def column(table: pd.DataFrame, name: str, *, source: str) -> list[str]:
    """Take one column as text.

    Args:
        table: A table as read.
        name: The column's name.
        source: Where the table comes from, for messages.

    Returns:
        The column's cells as text; a missing cell is the empty text.

    Raises:
        DataError: If there is no such column.
    """
    if name not in table.columns:
        known = [str(known) for known in table.columns]
        raise DataError(f"{source}: there is no column {name!r}. {nearest(name, known)}")
    cells = table[name].tolist()
    return ["" if _missing(cell) else str(cell) for cell in cells]


def texts(table: pd.DataFrame, names: Sequence[str], *, source: str) -> list[Text]:
    """Take one text column, or a pair of them, and refuse blank texts.

    Args:
        table: A table as read.
        names: One or two column names.
        source: Where the table comes from, for messages.

    Returns:
        One text or pair of texts per row.

    Raises:
        DataError: If the table has no rows, a column is missing, a text is blank, or more than two columns or
            none are named.
    """
    if len(names) not in {1, 2}:
        raise DataError(
            f"{source}: {len(names)} text columns were named. Name one, or two for pairs of texts."
        )
    columns = [column(table, name, source=source) for name in names]
    if not columns[0]:
        raise DataError(f"{source}: has no rows. Give a file with at least one example.")
    for name, cells in zip(names, columns, strict=True):
        _refuse_blank(cells, f"{source}: column {name!r}", "text")
    return list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))


def label_names(cells: Iterable[str], *, source: str) -> tuple[str, ...]:
    """Name the classes of a training set.

    Args:
        cells: The label column of the training part.
        source: Where it comes from, for messages.

    Returns:
        The different labels; whole numbers in the order of their size, anything else in alphabetical order.

    Raises:
        DataError: If a label is blank, or all labels are the same.
    """
    cells = list(cells)
    _refuse_blank(cells, source, "label")
    found = set(cells)
    if len(found) < 2:
        raise DataError(
            f"{source}: every label is {next(iter(found))!r}. A classifier needs at least two classes."
        )
    if all(label.removeprefix("-").isdecimal() for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def dataset(
    table: pd.DataFrame,
    *,
    name: str,
    text: Sequence[str],
    label: str,
    group: str | None = None,
    names: tuple[str, ...] | None = None,
    source: str,
) -> Dataset:
    """Build a data set from named columns.

    Args:
        table: A table as read; its order is kept.
        name: What the data set is called.
        text: One or two text columns.
        label: The label column.
        group: The column of natural client ids, if any.
        names: The classes of the training part; None finds them here.
        source: Where the table comes from, for messages.

    Returns:
        The examples, with labels as places in ``names``.

    Raises:
        DataError: If a column is missing, a cell blank, a label not in ``names``, or there is one class only.
    """
    found = texts(table, text, source=source)
    labels = column(table, label, source=source)
    names = names or label_names(labels, source=f"{source}: column {label!r}")
    places = {known: place for place, known in enumerate(names)}
    for row, given in enumerate(labels, start=1):
        if given not in places:
            raise DataError(
                f"{source}: row {row} has the label {given!r}, which the training part does not have. "
                f"{nearest(given, names)}"
            )
    groups = None if group is None else column(table, group, source=source)
    if groups is not None:
        _refuse_blank(groups, f"{source}: column {group!r}", "id")
    return Dataset(
        name=name,
        texts=found,
        labels=[places[given] for given in labels],
        label_names=names,
        groups=groups,
    )


def _missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


def _refuse_blank(cells: Sequence[str], where: str, what: str) -> None:
    blank = [row for row, cell in enumerate(cells, start=1) if not cell.strip()]
    if blank:
        shown = ", ".join(map(str, blank[:5])) + (", ..." if len(blank) > 5 else "")
        raise DataError(
            f"{where}: {len(blank)} of {len(cells)} rows have an empty {what} (row {shown}). "
            "Fill them in or remove them."
        )
