"""Finds a data set: built in, a file or folder of your own, on the Hub, or an object in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from spry.core.errors import DataError, nearest
from spry.data import hub, memory
from spry.data.builtin import BUILTINS, load_builtin
from spry.data.class_target import CLASSES
from spry.data.dataset import Splits
from spry.data.examples import Blank, build_dataset
from spry.data.files import looks_local, read_table
from spry.data.holdout import hold_out
from spry.data.places import locate
from spry.data.table import Columns, Table
from spry.data.target import Target

Chooser = Callable[[Table, Columns], Target]
"""What chooses from the table of the training part what its labels are."""


def load_splits(
    source: Any,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    group: str | None = None,
    test: Any = None,
    test_fraction: float | None = None,
    subset: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    blank: Blank = "error",
    target: Target | Chooser = CLASSES,
) -> Splits:
    """Load labelled text; see ``load_dataset``, which has the same arguments.

    Args:
        source: As there. A built-in data set has its own columns, and the arguments below have no effect on it.
        test_fraction: Share of the training part to hold out, in (0, 1), where there is no official test part; None
            holds out nothing. The same examples are held out in every run.
    """
    source = os.fspath(source) if isinstance(source, os.PathLike) else source
    columns = Columns(text=(text,) if isinstance(text, str) else tuple(text), label=label, group=group)
    if isinstance(target, Target):
        columns = target.columns(columns)
    asked = {"subset": subset, "encoding": encoding, "separator": separator}
    if isinstance(source, str) and source in BUILTINS:
        _check_builtin(source, target)
        return _builtin(
            source, columns, {**asked, "test": test, "blank": None if blank == "error" else blank}
        )
    tables, name = _tables(source, columns, test, **asked)
    target = target if isinstance(target, Target) else target(tables[0], columns)
    train = build_dataset(tables[0], columns, name=name, blank=blank, target=target)
    without_effect = tuple(_without_effect(tables, source, asked))
    if len(tables) > 1:
        columns = replace(columns, group=None)  # only training examples are dealt
        held = build_dataset(
            tables[1],
            columns,
            name=f"{name} (test)",
            names=train.label_names,
            blank=blank,
            target=target,
        )
        return Splits(train=train, test=held, official=True, without_effect=without_effect)
    whole = Splits(train=train) if test_fraction is None else hold_out(train, test_fraction)
    return replace(whole, without_effect=without_effect)


def _check_builtin(name: str, target: Target | Chooser) -> None:
    if isinstance(target, Target) and target != CLASSES:
        raise DataError(
            f"{name}: its texts have one class each, which is no data for the task {target.task}. Set "
            "task.name=classification, or name other data."
        )


def _builtin(name: str, columns: Columns, asked: Mapping[str, Any]) -> Splits:
    if columns.group is not None:
        raise DataError(
            f"{name}: has no column of client ids, {columns.group!r} or other. Deal its examples iid or by Dirichlet."
        )
    plain = Columns()
    given = {
        **asked,
        "text": None if columns.text == plain.text else columns.text,
        "label": None if columns.label == plain.label else columns.label,
    }
    told = f"has no effect: {name} is built in, and has its own columns and test part."
    return replace(
        load_builtin(name),
        without_effect=tuple(
            f"{what} = {value!r} {told}" for what, value in given.items() if value is not None
        ),
    )


def _tables(
    source: Any, columns: Columns, test: Any, *, subset: str | None, **form: str | None
) -> tuple[list[Table], str]:
    """The tables of the training part and any test part, and the name of the data set."""
    if isinstance(source, str):
        if not source or "://" in source:
            what = "is an address: download what is there" if source else "is no name of a data set"
            raise DataError(f"{source!r} {what}. Give a file, a folder, or one of: {', '.join(BUILTINS)}.")
        path = locate(source)
        if path.is_file() or (looks_local(source) and not path.is_dir()):
            return [read_table(path, columns, **form), *_held(test, columns, form)], path.name
        if "/" not in source and not path.is_dir() and nearest(source, BUILTINS).startswith("Did you mean"):
            raise DataError(f"There is no data set {source!r}. {nearest(source, BUILTINS)}")
        name, place = (path.name, str(path)) if path.is_dir() else (source, source)
        parts = partial(hub.tables, place, columns, subset=subset)
    else:
        name = "data"  # whatever holds it, so that the same examples are held out
        if not memory.has_parts(source):
            return [memory.table_of(source, columns), *_held(test, columns, form)], name
        parts = partial(hub.of_parts, source, type(source).__name__, columns)
    if test is None or isinstance(test, str):
        return parts(test=test), name
    return [parts()[0], *_held(test, columns, form)], name


def _held(test: Any, columns: Columns, form: Mapping[str, str | None]) -> list[Table]:
    """The table of a test part that is a file or an object of its own."""
    if test is None:
        return []
    columns = replace(columns, group=None)  # only training examples are dealt
    if isinstance(test, str | os.PathLike):
        return [read_table(locate(test), columns, **form)]
    return [memory.table_of(test, columns, source="test")]


def _without_effect(tables: Sequence[Table], source: Any, asked: Mapping[str, Any]) -> list[str]:
    """Name what was asked for, and means nothing for what was found."""
    formats = [table.format for table in tables]
    separated = any(format.startswith(("CSV", "TSV")) for format in formats)
    of_use = {
        "encoding": separated or any(format.startswith("JSON") for format in formats),
        "separator": separated,
        "subset": formats[0] == "data set" and isinstance(source, str) and not hub.is_saved(source),
    }
    return [
        f"{what} = {value!r} has no effect on {tables[0].source} ({formats[0]})."
        for what, value in asked.items()
        if value is not None and not of_use[what]
    ]
