"""Finds a data set by name: built in, a file or folder of your own, or on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spry.core.errors import DataError, nearest
from spry.data import hub
from spry.data.builtin import BUILTINS, load_builtin
from spry.data.dataset import Splits
from spry.data.examples import Blank, build_dataset
from spry.data.files import ENDINGS, ending, read_table
from spry.data.holdout import hold_out
from spry.data.table import Columns


def load_splits(
    name: str,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    group: str | None = None,
    test: str | None = None,
    test_fraction: float | None = None,
    subset: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    blank: Blank = "error",
) -> Splits:
    """Load labelled text: a built-in data set, a file or folder, or a name on the Hub; see ``load_dataset``.

    Args:
        name: As there. A built-in data set has its own columns and ignores all arguments below.
        test_fraction: Share of the training part to hold out, in (0, 1), where there is no official test part; None
            holds out nothing. The same examples are held out in every run.
        encoding: How a text file is encoded; None reads UTF-8, and UTF-16 with a byte order mark.
        blank: ``"error"`` refuses empty texts, labels and ids, ``"skip"`` leaves their rows out and counts them.
    """
    if name in BUILTINS:
        return load_builtin(name)
    path = Path(name)
    columns = Columns(text=(text,) if isinstance(text, str) else tuple(text), label=label, group=group)
    if path.is_file() or (ending(path) in ENDINGS and not path.exists()):
        files = [name, *([test] if test else [])]
        tables = [read_table(Path(file), columns, encoding=encoding, separator=separator) for file in files]
    else:
        if "/" not in name and not path.exists() and nearest(name, BUILTINS).startswith("Did you mean"):
            raise DataError(f"There is no data set {name!r}. {nearest(name, BUILTINS)}")
        tables = hub.tables(name, columns, subset=subset, test=test)
    train = build_dataset(tables[0], columns, name=path.name if path.exists() else name, blank=blank)
    if len(tables) > 1:
        columns = replace(columns, group=None)  # only training examples are dealt
        held = build_dataset(
            tables[1], columns, name=f"{train.name} (test)", names=train.label_names, blank=blank
        )
        return Splits(train=train, test=held, official=True)
    return Splits(train=train) if test_fraction is None else hold_out(train, test_fraction)
