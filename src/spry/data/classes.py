"""Classes out of labels: their order and number, refusing labels that are quantities, row numbers or lists."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from spry.core.errors import DataError, nearest
from spry.data.cells import MISSING_WORDS

WHOLE = re.compile(r"[-+]?\d+")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_COMMA = re.compile(r"[-+]?\d+,\d+")

MOST_REAL_CLASSES = 10
"""So many different real numbers, such as half stars, may still be classes; more are a quantity."""

_FEW = 10  # of fewer rows than this, nothing follows from each having a label of its own
_MANY = 20  # more whole numbers than this, with gaps between them, may be a quantity


def number_labels(
    values: Sequence[str], order: Sequence[str] | None = None, *, source: str = "labels"
) -> tuple[list[int], tuple[str, ...]]:
    """Number labels by their class, and name the classes; a label that is not in ``order`` is a DataError.

    Without an ``order``, such as a checkpoint's, numbers are sorted by their size and other labels by the alphabet.
    """
    names = tuple(order) if order is not None else in_order(set(values))
    numbers = {name: number for number, name in enumerate(names)}
    for row, given in enumerate(values, start=1):
        if given not in numbers:
            raise DataError(f"{source}: row {row} has the unknown label {given!r}. {nearest(given, names)}")
    return [numbers[given] for given in values], names


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Sort numbers by their size and anything else by the alphabet."""
    if all(map(WHOLE.fullmatch, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    if all(map(NUMBER.fullmatch, names)):
        return tuple(sorted(names, key=_value))
    return tuple(sorted(names))


def check_classes(found: Collection[str], rows: int, where: str) -> list[str]:
    """Refuse labels that combine others, are many real numbers, or one a row; say what is unusual about the rest."""
    _refuse_lists(found, where)
    real = _real_numbers(found)
    if len(real) > MOST_REAL_CLASSES and 2 * len(real) > len(found):
        least, most = min(real, key=_value), max(real, key=_value)
        raise DataError(
            f"{where} holds {len(real)} different real numbers, from {least} to {most}: a quantity, not "
            "classes. Set task.name=regression to predict it, round the numbers to a few classes, or name another "
            "column."
        )
    if real and len(real) == len(found):
        return [f"{where}: the real numbers {', '.join(in_order(found))} are taken as classes."]
    if len(found) == rows > _FEW:
        raise DataError(
            f"{where}: each of the {rows} rows has a label of its own, so they name rows, not classes. "
            "Name the column that holds the classes."
        )
    return [*_sparse(found, rows, where), *_alike(found, where), *_missing(found, where)]


def _real_numbers(found: Collection[str]) -> list[str]:
    """The numbers among labels, unless all of them are whole."""
    whole = [label for label in found if WHOLE.fullmatch(label)]
    broken = [label for form in (NUMBER, _COMMA) for label in found if form.fullmatch(label)]
    return sorted({*whole, *broken}) if set(broken) - set(whole) else []


def _refuse_lists(found: Collection[str], where: str) -> None:
    for mark in ",;|/":
        combined = {label: [piece.strip() for piece in label.split(mark)] for label in found if mark in label}
        alone = set(found) - set(combined)
        if combined and all(piece in alone for pieces in combined.values() for piece in pieces):
            raise DataError(
                f"{where} holds lists of labels, such as {min(combined)!r}, whose parts are labels too. "
                "Set task.name=multi-label to learn them all, or give each row one label."
            )


def _sparse(found: Collection[str], rows: int, where: str) -> list[str]:
    if 2 * len(found) > rows > _FEW:
        return [f"{where}: there are {len(found)} classes in {rows} rows, fewer than two rows a class."]
    if len(found) > _MANY and all(map(WHOLE.fullmatch, found)):
        numbers = [int(label) for label in found]
        if max(numbers) - min(numbers) >= 2 * len(found):
            return [f"{where}: {len(found)} whole numbers with gaps between them are taken as classes."]
    return []


def _alike(found: Collection[str], where: str) -> list[str]:
    folded: dict[str, list[str]] = {}
    for label in sorted(found):
        folded.setdefault(" ".join(label.casefold().split()), []).append(label)
    return [
        f"{where}: {', '.join(map(repr, same))} are different classes; they differ in capitals or spaces only."
        for same in folded.values()
        if len(same) > 1
    ]


def _missing(found: Collection[str], where: str) -> list[str]:
    words = sorted(label for label in found if label.casefold() in MISSING_WORDS)
    return [f"{where}: the class {label!r} looks like a missing value." for label in words]


def _value(label: str) -> float:
    return float(label.replace(",", "."))
