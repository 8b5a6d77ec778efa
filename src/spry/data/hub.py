"""Reads a data set of the Hugging Face Hub, or a folder laid out like one, through ``datasets``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from spry.core.errors import DataError, nearest

TEST_PARTS = ("test", "validation", "validation_matched")
"""Where a test part is looked for, in this order; one without labels, such as GLUE's, is passed over."""


def tables(
    name: str, *, subset: str | None, test: str | None, columns: Sequence[str], label: str
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Fetch the training part of a Hub data set and its test part, if it has a labelled one.

    Args:
        name: A name such as ``stanfordnlp/imdb``, or a folder of data files.
        subset: The configuration, such as ``sst2`` of ``nyu-mll/glue``.
        test: The part to test on; None takes the first of ``TEST_PARTS`` that has labels.
        columns: The columns to keep, the label among them.
        label: The label column; class numbers become class names.

    Returns:
        The tables of the training part and of the test part.

    Raises:
        DataError: If the data set cannot be reached, or lacks a part or a column.
    """
    parts = _fetch(name, subset)
    for wanted in ("train", *([test] if test else [])):
        if wanted not in parts:
            raise DataError(f"{name}: there is no part {wanted!r}. {nearest(wanted, parts)}")
    train = _table(parts["train"], name, columns, label)
    if test is not None:
        return train, _table(parts[test], name, columns, label)
    for part in TEST_PARTS:
        if part in parts:
            table = _table(parts[part], name, columns, label)
            if bool(table[label].notna().all()):
                return train, table
    return train, None


def _fetch(name: str, subset: str | None) -> dict[str, Any]:
    import datasets

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return {str(part): table for part, table in datasets.load_dataset(name, subset).items()}
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name!r} is no file, no built-in data set, and could not be read from the Hub ({error}). "
            "Check the spelling (see `spry datasets`); without a network give a local file."
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()


def _table(part: Any, name: str, columns: Sequence[str], label: str) -> pd.DataFrame:
    for wanted in columns:
        if wanted not in part.column_names:
            raise DataError(f"{name}: there is no column {wanted!r}. {nearest(wanted, part.column_names)}")
    table = part.select_columns(list(columns)).to_pandas()
    named = getattr(part.features[label], "int2str", None)
    if named is not None:
        table[label] = [named(int(value)) if value >= 0 else None for value in table[label]]
    return table
