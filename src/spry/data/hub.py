"""Reads a data set of the Hugging Face Hub, or a folder saved by or laid out for it, through ``datasets``."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from spry.core.errors import DataError, first_line, nearest
from spry.data.arrow import named_classes, of_arrow
from spry.data.cells import is_missing
from spry.data.reach import PATIENCE, why_unreachable
from spry.data.table import Columns, Table

TEST_PARTS = ("test", "validation", "validation_matched")
"""Where a test part is looked for, in this order; one without labels, such as GLUE's, is passed over."""

_CONFIGURATIONS = re.compile(r"(?:available configs|Available): (\[[^\]]*\])")
_SAVED = ("dataset_dict.json", "state.json")


def tables(name: str, columns: Columns, *, subset: str | None = None, test: str | None = None) -> list[Table]:
    """Fetch the training part of a data set and its test part, if it has a labelled one.

    Args:
        name: A name such as ``stanfordnlp/imdb``, a folder that ``save_to_disk`` wrote, or one of data files.
        test: The part to test on; None takes the first of ``TEST_PARTS`` that has labels.

    Raises:
        DataError: If the data set cannot be reached, or lacks a part or a column.
    """
    parts = _saved(name) if is_saved(name) else _fetched(name, subset)
    return of_parts(parts, name, columns, test=test)


def is_saved(folder: str | Path) -> bool:
    """Whether a folder is one that ``save_to_disk`` wrote."""
    return any((Path(folder) / file).is_file() for file in _SAVED)


def of_parts(
    parts: Mapping[str, Any], name: str, columns: Columns, *, test: str | None = None
) -> list[Table]:
    """Take the training part and the test part, if there is a labelled one; see ``tables``."""
    for wanted in ("train", *([test] if test else [])):
        if wanted not in parts:
            raise DataError(f"{name}: there is no part {wanted!r}. {nearest(wanted, parts)}")
    train = of_dataset(parts["train"], f"{name} (train)", columns)
    columns = replace(columns, group=None)  # only training examples are dealt
    if test is not None:
        return [train, of_dataset(parts[test], f"{name} ({test})", columns)]
    for part in TEST_PARTS:
        if part in parts and (not columns.label or columns.label in parts[part].column_names):
            table = of_dataset(parts[part], f"{name} ({part})", columns)
            labels = table.column(columns.label) if columns.label else range(len(table))
            if any(not is_missing(label) and str(label) != "-1" for label in labels):
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
    why = None
    try:
        with _unless_unreachable(name) as why:
            return {str(part): table for part, table in datasets.load_dataset(name, subset).items()}
    except Exception as error:  # as above
        raise DataError(_refusal(name, subset, error, why)) from error
    finally:
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def _unless_unreachable(name: str) -> Generator[str | None]:
    """Ask the Hub once whether it is there; if not, the library looks into its cache, and does not try for minutes.

    Yields:
        Why the Hub is not asked; None if it is.
    """
    from datasets import config

    if Path(name).is_dir():
        yield None
        return
    if config.HF_HUB_OFFLINE:
        yield "the Hub was not asked, because HF_HUB_OFFLINE is set"
        return
    why = why_unreachable(lambda hub: hub.dataset_info(name, timeout=PATIENCE), config.HF_ENDPOINT)
    config.HF_HUB_OFFLINE = why is not None
    try:
        yield why
    finally:
        config.HF_HUB_OFFLINE = False


def _refusal(name: str, subset: str | None, error: Exception, why: str | None) -> str:
    options = _CONFIGURATIONS.search(str(error))
    if options is not None:
        names = re.findall(r"'([^']+)'", options[1])
        if subset is not None:
            return f"{name}: there is no subset {subset!r}. {nearest(subset, names)}"
        return (
            f"{name}: holds several data sets ({', '.join(names)}). Choose one: data.subset={names[0]}, or "
            f'subset="{names[0]}" in Python.'
        )
    if Path(name).is_dir():
        return (
            f"{name}: this folder cannot be read as a data set ({first_line(error)}). Allowed: what save_to_disk "
            "wrote, or files such as train.csv and test.csv; or give the path of one file."
        )
    remedy = "Check the spelling (see `spry datasets`); without a network give a local file."
    found = (
        f"could not be read from the Hub ({first_line(error)})"
        if why is None
        else f"not in the cache of the Hub; {why}"
    )
    return f"{name!r} is no file, no built-in data set, and {found}. {remedy}"


def of_dataset(part: Any, source: str, columns: Columns) -> Table:
    """Take the wanted columns of a ``datasets.Dataset``; numbers of classes become their names."""
    for wanted in columns.names:
        if wanted not in part.column_names:
            raise DataError(f"{source}: there is no column {wanted!r}. {nearest(wanted, part.column_names)}")
    kept = part.select_columns(list(dict.fromkeys(columns.names)))
    table = of_arrow(kept.with_format("arrow")[:], source=source, format="data set")
    feature = part.features[columns.label] if columns.label else None
    names = getattr(getattr(feature, "feature", feature), "names", None)  # of a list of classes, too
    return named_classes(table, {} if names is None else {columns.label: names})
