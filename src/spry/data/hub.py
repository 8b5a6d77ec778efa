"""Reads a data set of the Hugging Face Hub, or a folder saved by or laid out for it, through ``datasets``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spry.core.errors import DataError, nearest
from spry.data.cells import is_missing
from spry.data.files import of_arrow
from spry.data.table import Columns, Table

TEST_PARTS = ("test", "validation", "validation_matched")
"""Where a test part is looked for, in this order; one without labels, such as GLUE's, is passed over."""

_SAVED = ("dataset_dict.json", "state.json")


def tables(name: str, columns: Columns, *, subset: str | None = None, test: str | None = None) -> list[Table]:
    """Fetch the training part of a data set and its test part, if it has a labelled one.

    Args:
        name: A name such as ``stanfordnlp/imdb``, a folder that ``save_to_disk`` wrote, or one of data files.
        test: The part to test on; None takes the first of ``TEST_PARTS`` that has labels.

    Raises:
        DataError: If the data set cannot be reached, or lacks a part or a column.
    """
    parts = _saved(name) if any((Path(name) / file).is_file() for file in _SAVED) else _fetched(name, subset)
    for wanted in ("train", *([test] if test else [])):
        if wanted not in parts:
            raise DataError(f"{name}: there is no part {wanted!r}. {nearest(wanted, parts)}")
    train = _table(parts["train"], f"{name} (train)", columns)
    columns = replace(columns, group=None)  # only training examples are dealt
    if test is not None:
        return [train, _table(parts[test], f"{name} ({test})", columns)]
    for part in TEST_PARTS:
        if part in parts and columns.label in parts[part].column_names:
            table = _table(parts[part], f"{name} ({part})", columns)
            if any(not is_missing(label) and str(label) != "-1" for label in table.column(columns.label)):
                return [train, table]
    return [train]


def _saved(folder: str) -> Mapping[str, Any]:
    import datasets

    try:
        found = datasets.load_from_disk(folder)
    except Exception as error:  # the library and Arrow below it raise errors of many unrelated types
        raise DataError(
            f"{folder}: cannot be read as a saved data set ({error}). Was it copied whole?"
        ) from error
    return {str(name): part for name, part in found.items()} if isinstance(found, dict) else {"train": found}


def _fetched(name: str, subset: str | None) -> Mapping[str, Any]:
    import datasets

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return {str(part): table for part, table in datasets.load_dataset(name, subset).items()}
    except Exception as error:  # as above
        if Path(name).is_dir():
            raise DataError(
                f"{name}: this folder cannot be read as a data set ({_first_line(error)}). Allowed: what save_to_disk "
                "wrote, or files such as train.csv and test.csv; or give the path of one file."
            ) from error
        raise DataError(
            f"{name!r} is no file, no built-in data set, and could not be read from the Hub ({_first_line(error)}). "
            "Check the spelling (see `spry datasets`); without a network give a local file."
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()


def _table(part: Any, source: str, columns: Columns) -> Table:
    for wanted in columns.names:
        if wanted not in part.column_names:
            raise DataError(f"{source}: there is no column {wanted!r}. {nearest(wanted, part.column_names)}")
    kept = part.select_columns(list(dict.fromkeys(columns.names)))
    table = of_arrow(kept.with_format("arrow")[:], source=source, format="data set")
    named = getattr(part.features[columns.label], "int2str", None)
    if named is None:
        return table
    labels = [value if value is None or value < 0 else named(value) for value in table.column(columns.label)]
    return replace(table, columns={**table.columns, columns.label: labels})


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
