"""Tables out of objects that are in memory already: data sets of the Hub's library, frames, rows and columns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from spry.core.errors import DataError
from spry.data import hub
from spry.data.arrow import of_arrow
from spry.data.table import Columns, Table

OBJECTS = "a datasets.Dataset or DatasetDict, a pandas DataFrame, a list of dicts, or a dict of lists"
"""What may be given in place of a name."""
_FORMAT = "in memory"


def has_parts(given: Any) -> bool:
    """Whether an object holds a training part and others by name."""
    return _is(given, "datasets", "DatasetDict")


def table_of(given: Any, columns: Columns, *, source: str | None = None) -> Table:
    """Take one object as a table; its kind is its name unless another is given."""
    kind = type(given).__name__
    name = source or kind
    if _is(given, "datasets", "Dataset"):
        return replace(hub.of_dataset(given, name, columns), format=_FORMAT)
    if _is(given, "pandas", "DataFrame"):
        return _of_frame(given, name)
    if _is(given, "pyarrow", "Table"):
        return of_arrow(given, source=name, format=_FORMAT)
    if isinstance(given, Mapping) and not has_parts(given):
        return _of_columns(given, name)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return _of_rows(given, name)
    if _is(given, "datasets", "IterableDataset"):
        raise DataError(
            f"data is {_article(kind)}, which is read once. Keep it first: datasets.Dataset.from_list(list(stream))."
        )
    raise DataError(
        f"data is {_article(kind)}. Allowed: {OBJECTS}; or a name: a file, a built-in or Hub data set."
    )


def _of_frame(frame: Any, source: str) -> Table:
    names = [str(name) for name in frame.columns]
    return Table(
        source=source,
        columns={name: frame.iloc[:, place].tolist() for place, name in enumerate(names)},
        format=_FORMAT,
        repeated={name for name in names if names.count(name) > 1},
    )


def _of_columns(given: Mapping[Any, Any], source: str) -> Table:
    lengths: dict[str, int] = {}
    for name, cells in given.items():
        if isinstance(cells, str | bytes) or not hasattr(cells, "__len__"):
            raise DataError(
                f"{source}: column {str(name)!r} is {_article(type(cells).__name__)}. Allowed: {OBJECTS}."
            )
        lengths[str(name)] = len(cells)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise DataError(f"{source}: its columns have not the same number of cells ({shown}).")
    return Table(
        source=source, columns={str(name): list(cells) for name, cells in given.items()}, format=_FORMAT
    )


def _of_rows(rows: Sequence[Any], source: str) -> Table:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"{source}: row {number} is {_article(type(row).__name__)}. Allowed: a dict such as "
                '{"text": "...", "label": "..."}.'
            )
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(
        source=source, columns={str(name): [row.get(name) for row in rows] for name in names}, format=_FORMAT
    )


def _is(given: Any, package: str, kind: str) -> bool:
    """Whether an object is of a package's class, without importing packages that nobody has imported."""
    module = sys.modules.get(package)
    return module is not None and isinstance(given, getattr(module, kind))


def _article(kind: str) -> str:
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
