"""Tables out of Arrow: Parquet files and data sets of the Hub, with the names of their classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from spry.core.errors import DataError
from spry.data.table import Table

if TYPE_CHECKING:
    import pyarrow


def of_arrow(table: pyarrow.Table, *, source: str, format: str, size: int | None = None) -> Table:
    """Turn Arrow's columns into Python's values; a dictionary-encoded column becomes its values."""
    import pyarrow as pa

    def values(column: pyarrow.ChunkedArray) -> list[Any]:
        if column.type == pa.float32():  # 0.1, not the 0.10000000149011612 that it is in double precision
            column = column.cast(pa.string()).cast(pa.float64())
        return column.to_pylist()

    names = [str(name) for name in table.column_names]
    return Table(
        source=source,
        columns={name: values(table.column(place)) for place, name in enumerate(names)},
        format=format,
        size=size,
        repeated={name for name in names if names.count(name) > 1},
    )


def named_classes(table: Table, names: Mapping[str, Sequence[str]]) -> Table:
    """Put the names of classes in place of their numbers, in lists too, column by column; -1 and None stay."""

    def named(cell: Any, known: Sequence[str]) -> Any:
        if isinstance(cell, list):
            return [named(one, known) for one in cell]
        return known[cell] if isinstance(cell, int) and 0 <= cell < len(known) else cell

    renamed = {
        column: [named(cell, known) for cell in table.columns[column]]
        for column, known in names.items()
        if column in table.columns
    }
    return replace(table, columns={**table.columns, **renamed})


def parquet(content: bytes, source: str, size: int) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(BytesIO(content))
        table = of_arrow(found, source=source, format="Parquet", size=size)
        return named_classes(table, _class_names(found.schema.metadata or {}))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{source}: is not a whole Parquet file. Is it damaged or cut short?") from error


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """The names of classes by column that ``datasets`` writes into a Parquet file, whose cells are numbers."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (KeyError, ValueError, AttributeError, TypeError):
        return {}
