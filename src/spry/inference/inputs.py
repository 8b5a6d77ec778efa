"""From a file to texts, by the columns that an adapter was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spry.core.errors import DataError, nearest
from spry.data.class_target import CLASSES
from spry.data.dataset import Dataset
from spry.data.examples import build_dataset
from spry.data.files import read_table
from spry.data.table import Columns, Table
from spry.data.target import MISSING, Target
from spry.tasks.adapter_info import AdapterInfo


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A table, and the rows of it that have texts, from 0, with what they say."""

    table: Table
    rows: Sequence[int]
    texts: Sequence[Any]
    notes: tuple[str, ...] = ()

    @property
    def without(self) -> list[int]:
        """The rows that have no text, from 1."""
        known = set(self.rows)
        return [row + 1 for row in range(len(self.table)) if row not in known]


def columns_for(info: AdapterInfo, text: Sequence[str] = (), label: str | None = None) -> Columns:
    """Choose columns: those that are asked for, or those of the training data.

    Raises:
        DataError: If a single column is given where the adapter reads pairs, or the other way round.
    """
    wanted = tuple(text) or info.text or (("text", "text_pair") if info.pair else ("text",))
    count = len(info.text) if info.text else None if info.pair is None else 1 + info.pair
    if count is not None and len(wanted) != count:
        several = "pairs of texts: name two columns" if count == 2 else f"{count} texts: name {count} columns"
        takes = "single texts: name one column" if count == 1 else several
        raise DataError(f"the adapter reads {takes}, not {len(wanted)} ({', '.join(wanted)}).")
    return Columns(text=wanted, label=label or info.label or "label")


def read_texts(
    path: Path,
    columns: Columns,
    target: Target = CLASSES,
    *,
    encoding: str | None = None,
    separator: str | None = None,
) -> Texts:
    """Read a file's texts; its labels may be absent.

    Raises:
        DataError: If the file or a column cannot be read, or no row has a text.
    """
    return texts_of(read_table(path, columns, encoding=encoding, separator=separator), columns, target)


def texts_of(table: Table, columns: Columns, target: Target = CLASSES) -> Texts:
    """Take the texts of a table."""
    table = target.table(table)
    _check_columns(table, columns.text, "--text-column")
    read = target.inputs(table, columns)
    rows = [row for row in range(len(table)) if all(part[row] != MISSING for part in read.parts.values())]
    if not rows:
        raise DataError(f"{table.source}: no row has a text in {' and '.join(map(repr, columns.text))}.")
    return Texts(
        table=table,
        rows=rows,
        texts=[read.values[row] for row in rows],
        notes=(*table.notes, *read.notes),
    )


def read_labelled(
    path: Path,
    columns: Columns,
    labels: tuple[str, ...],
    target: Target = CLASSES,
    *,
    encoding: str | None = None,
    separator: str | None = None,
) -> Dataset:
    """Read a file's texts and their labels, numbered as the adapter does; rows that lack either are left out.

    Raises:
        DataError: If there are no labels, or one that the adapter does not know.
    """
    table = target.table(read_table(path, columns, encoding=encoding, separator=separator))
    _check_columns(table, columns.text, "--text-column")
    if columns.label:
        _check_columns(table, [columns.label], "--label-column; without labels, use spry predict")
    return build_dataset(table, columns, name=path.name, names=labels, blank="skip", target=target)


def _check_columns(table: Table, names: Sequence[str], option: str) -> None:
    if not table.columns:
        raise DataError(f"{table.source}: has no rows.")
    for name in names:
        if name not in table.columns:
            advice = " ".join(
                filter(None, [nearest(name, table.columns), table.hint, f"Name it with {option}."])
            )
            raise DataError(f"{table.source}: there is no column {name!r}. {advice}")
