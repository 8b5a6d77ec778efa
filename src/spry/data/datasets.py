"""Finds a data set by name: built in, a file of your own, or on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spry.core.errors import DataError, nearest
from spry.data import builtin, hub
from spry.data.builtin import BUILTINS
from spry.data.dataset import Splits
from spry.data.examples import dataset
from spry.data.files import READERS, ending, read
from spry.data.holdout import hold_out


def load(
    name: str,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    group: str | None = None,
    test: str | None = None,
    test_fraction: float | None = None,
    subset: str | None = None,
    encoding: str = "utf-8-sig",
) -> Splits:
    """Load labelled text by the name of a built-in data set, the path of a file, or a name on the Hub.

    Args:
        name: ``tweets`` or ``bbc-news``; a path ending in .csv, .tsv, .jsonl, .json or .parquet, also with
            .gz; or a Hub name. A built-in data set has its own columns and ignores all arguments below.
        text: The text column, or two of them for pairs such as premise and hypothesis.
        label: The label column.
        group: The column of natural client ids, if the data is to be dealt by it.
        test: The official test part: a second file beside a file, the name of a part for a Hub data set.
        test_fraction: Share of the training part to hold out, in (0, 1), where there is no official test
            part; None holds out nothing. The same examples are held out in every run.
        subset: The configuration of a Hub data set, such as ``sst2``.
        encoding: How a text file is encoded.

    Returns:
        The training part and, if there is one or one was held out, the test part, in the source's own order.

    Raises:
        DataError: If the source cannot be found or read, lacks a column, has blank texts, no rows, one class
            only, or a test label that the training part does not have.
    """
    if name in BUILTINS:
        return builtin.load(name)
    columns = (text,) if isinstance(text, str) else tuple(text)
    if ending(Path(name)) in READERS:
        found = _files(name, columns, label, group, test, encoding)
    else:
        if "/" not in name and not Path(name).exists() and _looks_builtin(name):
            raise DataError(f"There is no data set {name!r}. {nearest(name, BUILTINS)}")
        found = _hub(name, columns, label, group, test, subset)
    if found.test is None and test_fraction is not None:
        return hold_out(found.train, test_fraction)
    return found


def _files(
    name: str, text: tuple[str, ...], label: str, group: str | None, test: str | None, encoding: str
) -> Splits:
    path = Path(name)
    train = dataset(
        read(path, encoding), name=path.name, text=text, label=label, group=group, source=str(path)
    )
    if test is None:
        return Splits(train=train)
    held = dataset(
        read(Path(test), encoding),
        name=Path(test).name,
        text=text,
        label=label,
        names=train.label_names,
        source=test,
    )
    return Splits(train=train, test=held, official=True)


def _hub(
    name: str, text: tuple[str, ...], label: str, group: str | None, test: str | None, subset: str | None
) -> Splits:
    columns = [*text, label, *([group] if group else [])]
    train_table, test_table = hub.tables(name, subset=subset, test=test, columns=columns, label=label)
    train = dataset(train_table, name=name, text=text, label=label, group=group, source=f"{name} (train)")
    if test_table is None:
        return Splits(train=train)
    held = dataset(
        test_table, name=name, text=text, label=label, names=train.label_names, source=f"{name} (test)"
    )
    return Splits(train=train, test=held, official=True)


def _looks_builtin(name: str) -> bool:
    return nearest(name, BUILTINS).startswith("Did you mean")
