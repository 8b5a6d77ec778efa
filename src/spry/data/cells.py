"""Texts out of cells: what is no text is refused by its kind, lest Python's spelling of it be learnt."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from spry.core.errors import DataError

MISSING_WORDS = {"nan", "none", "null", "<na>", "n/a", "#n/a"}
"""How programs spell a missing value, in small letters."""

_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\xad"
_SPELLED = {
    "lists": re.compile(r"""\[\s*(['"\[{\d-].*)?\]""", re.DOTALL),
    "dictionaries": re.compile(r"""\{\s*(['"].*)?\}""", re.DOTALL),
    "bytes": re.compile(r"""b(['"]).*\1""", re.DOTALL),
}
_ADVICE = {
    "lists": "Join the pieces of each into one text before writing them.",
    "dictionaries": "Write the field that is meant into a column of its own.",
    "bytes": "Decode them to text before writing them.",
    "a list": "Join the pieces into one text first, for example ' '.join(words), or name a column of texts.",
    "a list of chat turns": "Render each chat to one text first, for example by tokenizer.apply_chat_template.",
    "a dictionary": "Write the field that is meant into a column of its own.",
    "a date or time": "Write it as text first, or name another column.",
    "bytes that are not UTF-8": "Decode them to text first.",
}


def texts(cells: Sequence[Any], where: str) -> tuple[list[str], list[str]]:
    """Take a column's cells as texts, and say what is odd about them; a missing or blank one becomes the empty text.

    A column is refused (DataError) if a cell is neither text nor a number, or if all are numbers or spell lists.
    """
    found = [text(cell, where, row) for row, cell in enumerate(cells, start=1)]
    filled = [words for words in found if words]
    numbers = [row for row, cell in enumerate(cells, start=1) if is_number(cell) and not is_missing(cell)]
    if numbers and len(numbers) == len(filled):
        raise DataError(f"{where} holds numbers, not text. Name the column that holds the texts.")
    _refuse_spelled(found, where)
    notes = [f"{where}: numbers were read as text ({rows(numbers)})."] if numbers else []
    missing = [row for row, words in enumerate(found, start=1) if words.strip().lower() in MISSING_WORDS]
    if missing:
        notes.append(f"{where}: some texts spell a missing value, such as 'nan' or 'None' ({rows(missing)}).")
    if filled and all(map(_is_numeric, filled)):
        notes.append(f"{where}: every text is a number. Is it the right column?")
    return found, notes


def text(cell: Any, where: str, row: int) -> str:
    """Take one cell, in a row counted from 1, as text; empty if it is missing or blank."""
    if isinstance(cell, bytes) and _is_utf8(cell):
        cell = cell.decode("utf-8")
    if isinstance(cell, str):
        # half a surrogate pair, as of an emoji cut in two, is no text that could be encoded
        whole = cell if cell.isascii() else cell.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole if whole.strip().strip(_INVISIBLE).strip() else ""
    if is_missing(cell):
        return ""
    if is_number(cell):
        return str(cell)
    what = _kind(cell)
    advice = _ADVICE.get(what, "Write the column as text.")
    raise DataError(f"{where}: row {row} holds {what}, not text ({str(cell)[:60]}). {advice}")


def is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN, NaT or pandas' NA."""
    return (
        cell is None
        or type(cell).__name__ in {"NAType", "NaTType"}
        or (is_number(cell) and str(cell).lower() == "nan")
    )


def is_number(cell: Any) -> bool:
    """Whether a cell is a number, NaN or a truth value, of Python or NumPy."""
    return not isinstance(cell, str) and (isinstance(cell, Number) or is_truth(cell))


def is_truth(cell: Any) -> bool:
    """Whether a cell is true or false, Python's or NumPy's, which is no number to NumPy."""
    return type(cell).__name__ in {"bool", "bool_"}


def is_list(cell: Any) -> bool:
    """Whether a cell holds several values: a list, tuple, set or array."""
    sequence = isinstance(cell, Sequence | set | frozenset) and not isinstance(cell, str | bytes)
    return sequence or getattr(cell, "ndim", 0) > 0


def rows(numbers: Sequence[int]) -> str:
    """Name rows: the first five of them."""
    return f"row {', '.join(map(str, numbers[:5]))}" + (", ..." if len(numbers) > 5 else "")


def _kind(cell: Any) -> str:
    if isinstance(cell, Mapping):
        return "a dictionary"
    if is_list(cell):
        turns = len(cell) > 0 and all(isinstance(turn, Mapping) for turn in cell)
        return "a list of chat turns" if turns else "a list"
    if isinstance(cell, datetime.date | datetime.time | datetime.timedelta):
        return "a date or time"
    return "bytes that are not UTF-8" if isinstance(cell, bytes) else f"a {type(cell).__name__}"


def _is_utf8(cell: bytes) -> bool:
    try:
        cell.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refuse_spelled(texts: Sequence[str], where: str) -> None:
    """Refuse a column that was written to text by a program that knew no better, as ``['the', 'film']``."""
    for what, form in _SPELLED.items():
        spelled = [row for row, text in enumerate(texts) if form.fullmatch(text.strip())]
        if 2 * len(spelled) > sum(map(bool, texts)):
            raise DataError(
                f"{where} spells {what}, not text; row {spelled[0] + 1} is {texts[spelled[0]][:60]}. "
                f"{_ADVICE[what]}"
            )


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
