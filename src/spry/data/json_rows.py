"""Rows out of JSON: objects one a line, a list of objects, columns, or what pandas and the Hub write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spry.core.errors import DataError
from spry.data.table import Columns

Found = tuple[Mapping[str, Sequence[Any]], str]
"""Columns, and what the text turned out to be."""


def parse_json(text: str, *, source: str, columns: Columns) -> Found:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise DataError(f"{source}: is not JSON ({error}). Is it damaged or cut short?") from error
        return _of_rows(_lines(text, source), source, "line"), "JSON Lines"
    except RecursionError as error:
        raise DataError(f"{source}: is nested too deeply to be a table.") from error
    if isinstance(document, list):
        return _of_rows(document, source, "item"), "JSON, a list of objects"
    if isinstance(document, dict):
        return _of_object(document, source, columns)
    raise DataError(
        f"{source}: holds {type(document).__name__}. Allowed: a list of objects, or an object a line."
    )


def _lines(text: str, source: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{source}: line {number} is not JSON ({error.msg} at column {error.colno}). JSON Lines has one "
                    "whole object a line; other JSON is one list of objects. Is the file damaged or cut short?"
                ) from error
    return rows


def _of_rows(rows: Sequence[Any], source: str, unit: str) -> dict[str, list[Any]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{source}: {unit} {number} is a {type(row).__name__}. Allowed: an object such as "
                '{"text": "...", "label": "..."}.'
            )
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _of_object(document: Mapping[str, Any], source: str, columns: Columns) -> Found:
    values = list(document.values())
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        names = [str(name) for name in document["columns"]]
        return _of_rows([dict(zip(names, row, strict=False)) for row in document["data"]], source, "item"), (
            "JSON, split into columns and data"
        )
    if values and all(isinstance(value, dict) for value in values):
        return _of_mappings(document, source, columns)
    tables = {name: value for name, value in document.items() if _is_rows(value)}
    if not tables and set(columns.names) & set(document):
        return _of_lists(document, source)
    fitting = [name for name, rows in tables.items() if set(columns.names) <= set(rows[0])] or list(tables)
    if len(fitting) != 1:
        several = (
            f"several tables ({', '.join(fitting)}); write each to a file of its own"
            if fitting
            else "no table"
        )
        raise DataError(
            f"{source}: the object holds {several}. Allowed: a list of objects, or an object a line."
        )
    return _of_rows(tables[fitting[0]], source, "item"), f"JSON, the list under {fitting[0]!r}"


def _of_lists(document: Mapping[str, Any], source: str) -> Found:
    """An object of columns; of single values, the one row of a file of JSON Lines."""
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    if not lists:
        return {name: [value] for name, value in document.items()}, "JSON Lines"
    lengths = {name: len(value) for name, value in lists.items()}
    if len(set(lengths.values())) > 1 or len(lists) < len(document):
        shown = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise DataError(f"{source}: its columns have not the same number of cells ({shown}).")
    return lists, "JSON, an object of columns"


def _of_mappings(document: Mapping[str, Mapping[str, Any]], source: str, columns: Columns) -> Found:
    """Objects in an object, as pandas writes them: by column and row, or by row and column."""
    if not set(columns.names) & set(document):
        return _of_rows(list(document.values()), source, "item"), "JSON, an object of rows"
    places = dict.fromkeys(place for cells in document.values() for place in cells)
    return {n: [cells.get(p) for p in places] for n, cells in document.items()}, "JSON, an object of columns"


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
