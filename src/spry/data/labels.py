"""Labels out of the cells of a column: one label a meaning, not one a spelling."""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from spry.core.errors import DataError
from spry.data import cells
from spry.data.classes import NUMBER, WHOLE, check_classes
from spry.data.target import Labels

UNLABELLED = ("-1", "-100", "-")
"""What stands for "no label" by convention: in GLUE and on the Hub, in PyTorch, in SNLI."""

_RARE = 0.1  # a smaller share of -1 among 0 and 1 is no third class


def clean(column: Sequence[Any], where: str, known: Collection[str] | None = None) -> Labels:
    """Read a label column: spaces off, numbers in one spelling, rows without a label found.

    ``known`` are the classes of the training part, when a test part is read.
    """
    _refuse_mixed(column, where)
    written = [_text(cell, where, row) for row, cell in enumerate(column, start=1)]
    stripped = [label.strip() for label in written]
    values = _numbers_alike(stripped, known or ())
    marks = _marks(Counter(filter(None, values)), where) if known is None else set(UNLABELLED) - set(known)
    classes = {value for value in values if value and value not in marks}
    return Labels(
        values=values,
        unlabelled=tuple(row for row, value in enumerate(values) if value in marks),
        marks=tuple(sorted(marks & set(values))),
        notes=(
            *_spaces(written, where),
            *_spellings(stripped, values, where),
            *(f"{where}: {mark!r} is taken as a class." for mark in UNLABELLED if mark in classes),
            *(check_classes(classes, len(values), where) if known is None else ()),
        ),
    )


def _text(cell: Any, where: str, row: int) -> str:
    if cells.is_list(cell) or (isinstance(cell, str) and spells_list(cell.strip())):
        raise DataError(
            f"{where}: row {row} holds a list ({str(cell)[:60]}): several labels for one text. "
            "Set task.name=multi-label to learn them all, or give each row one label."
        )
    return cells.text(cell, where, row)


def spells_list(text: str) -> bool:
    if not text.startswith(("[", "(", "{")):
        return False
    try:
        return isinstance(ast.literal_eval(text), list | tuple | set | dict)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return bool(re.fullmatch(r"\[[-\d.\s]+\]", text))  # NumPy's spelling has no commas


def _refuse_mixed(column: Sequence[Any], where: str) -> None:
    truths = [row for row, cell in enumerate(column, start=1) if cells.is_truth(cell)]
    filled = sum(not cells.is_missing(cell) for cell in column)
    if truths and len(truths) < filled:
        raise DataError(
            f"{where} mixes true or false ({cells.rows(truths)}) with other labels. Write all labels alike."
        )


def _numbers_alike(labels: Sequence[str], known: Collection[str]) -> list[str]:
    """Spell numbers alike if all labels are numbers; else 1.10 may be a version, and other than 1.1."""
    if not all(NUMBER.fullmatch(label) for label in labels if label and label not in UNLABELLED):
        return list(labels)
    return [label if label in known else _one_spelling(label) for label in labels]


def _one_spelling(label: str) -> str:
    """``1`` for 1.0 and 1e0, ``0.5`` for .50; whole numbers stay as they are written, ``007`` too."""
    if not NUMBER.fullmatch(label) or WHOLE.fullmatch(label):
        return label
    value = float(label)
    if not math.isfinite(value):
        return label
    return str(int(value)) if value.is_integer() else repr(value)


def _marks(counts: Counter[str], where: str) -> set[str]:
    """Find which marks mean "no label" here: beside 1 or -2, -1 is a class; among 0 and 1 it may be; else it is not."""
    marks = {mark for mark in UNLABELLED if mark in counts}
    others = set(counts) - marks
    numbers = {float(label) for label in others if NUMBER.fullmatch(label)}
    if any(number < 0 for number in numbers) or (numbers == {1.0} and len(others) == 1):
        marks -= {"-1", "-100"}
    if "+" in others:
        marks -= {"-"}
    share = counts["-1"] / max(1, counts.total())
    if share > _RARE and len(numbers) == len(others) and numbers == {0.0, 1.0}:
        raise DataError(
            f"{where}: {share:.0%} of the labels are -1, the others 0 and 1. Where -1 means 'no label', remove "
            "these rows; where it is a class, give it a name, such as 'negative'."
        )
    return marks


def _spaces(written: Sequence[str], where: str) -> list[str]:
    rows = [row for row, label in enumerate(written, start=1) if label != label.strip()]
    return [f"{where}: spaces around labels were removed ({cells.rows(rows)})."] if rows else []


def _spellings(before: Sequence[str], after: Sequence[str], where: str) -> list[str]:
    if len(set(after)) == len(set(before)):
        return []
    other = sorted({old for old, new in zip(before, after, strict=True) if old != new})
    return [f"{where}: numbers were brought to one spelling ({', '.join(other[:5])})."]
