"""Predictions beside the columns they were made of, in the format that a file's ending asks for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from spry.core.errors import DataError
from spry.experiment.atomic import replace_file
from spry.inference.inputs import Texts

Cells = Mapping[str, Sequence[Any]]


def with_predictions(read: Texts, predictions: Cells) -> Cells:
    """Add columns of predictions, a cell a text, to a table; empty where a row has no text.

    A column whose name is taken gets another: ``predicted`` for a label, ``predicted_NAME`` for others.
    """
    taken = set(read.table.columns)
    named = {
        _free(name, "predicted" if name == "label" else f"predicted_{name}", taken): column
        for name, column in predictions.items()
    }
    return {**read.table.columns, **{name: _placed(column, read) for name, column in named.items()}}


def _free(name: str, other: str, taken: Collection[str]) -> str:
    if name not in taken:
        return name
    while other in taken:
        other += "_"
    return other


def _placed(values: Sequence[Any], read: Texts) -> list[Any]:
    found = dict(zip(read.rows, values, strict=True))
    return [found.get(row) for row in range(len(read.table))]


def to_csv(columns: Cells, separator: str = ",") -> str:
    """Write columns as text with a line of names."""
    written = io.StringIO()
    writer = csv.writer(written, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(_cell, column) for column in columns.values()), strict=True))
    return written.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else value


def _rows(columns: Cells) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, default=str, ensure_ascii=False, indent=indent)


def _parquet(columns: Cells) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def column(values: Sequence[Any]) -> Any:
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # cells of several types
            return pa.array([None if value is None else str(value) for value in values])

    target = io.BytesIO()
    pq.write_table(pa.table({name: column(values) for name, values in columns.items()}), target)
    return target.getvalue()


WRITERS: Mapping[str, Callable[[Cells], bytes]] = {
    ".csv": lambda columns: to_csv(columns).encode(),
    ".tsv": lambda columns: to_csv(columns, "\t").encode(),
    ".jsonl": lambda columns: "".join(_json(row) + "\n" for row in _rows(columns)).encode(),
    ".json": lambda columns: (_json(_rows(columns), indent=1) + "\n").encode(),
    ".parquet": _parquet,
}


def check_target(target: Path, source: Path | None) -> None:
    """Refuse (DataError) a file that could not be written, before the work is done."""
    if target.suffix.lower() not in WRITERS:
        raise DataError(f"{target}: predictions are written to files that end in {', '.join(WRITERS)}.")
    if not target.parent.is_dir():
        raise DataError(f"{target}: there is no folder {target.parent}. Make it, or choose another file.")
    if source is not None and target.exists() and target.samefile(source):
        raise DataError(f"{target}: is the file that is read. Choose another file for --out.")


def write_table(columns: Cells, target: Path) -> None:
    """Write columns to a file as a whole, or leave what was there."""
    replace_file(target, WRITERS[target.suffix.lower()](columns))
