"""Options of questions on passages: each option right or wrong by itself, or one of a question's right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from spry.core.errors import DataError
from spry.data import cells
from spry.data.class_target import ClassTarget
from spry.data.nested import flat
from spry.data.reading import quantity
from spry.data.table import Columns, Table
from spry.data.target import MISSING, InputRows, Labels, Target, column_of

if TYPE_CHECKING:
    from spry.data.dataset import Dataset

WRONG, RIGHT = "false", "true"
QUESTION = "question"
"""What ``Dataset.more`` calls the question that an option is of, a number."""
_TRUTH = {"0": WRONG, "1": RIGHT, "no": WRONG, "yes": RIGHT, WRONG: WRONG, RIGHT: RIGHT}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class OptionTarget(ClassTarget):
    """An example is one option: a pair (passage, question and option), labelled true or false; as in MultiRC.

    The columns of text are passage, question and option. Rows of one passage and question are of one question.
    """

    task: ClassVar[str] = "multi-answer"
    most_texts: ClassVar[int] = 3

    def columns(self, columns: Columns) -> Columns:
        return _with_text(columns, ("passage", "question", "answer"))

    def table(self, table: Table) -> Table:
        return flat(table)

    def inputs(self, table: Table, columns: Columns) -> InputRows:
        if len(columns.text) != 3:
            raise DataError(
                f"{table.source}: an option needs three text columns, not {len(columns.text)}. Name those of passages, "
                "questions and options: data.text=passage,question,answer"
            )
        read = super().inputs(table, columns)
        values = [
            (passage, f"{question.strip()} {option.strip()}") for passage, question, option in read.values
        ]
        return replace(read, values=values)

    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        read = super().labels(table, columns, None)
        values = [_TRUTH.get(value.lower(), value) for value in read.values]
        for row, value in enumerate(values, start=1):
            if value not in {WRONG, RIGHT, MISSING} and row - 1 not in read.unlabelled:
                raise DataError(
                    f"{column_of(table, columns.label)}: row {row} has the label {value!r}. Allowed: 0 or 1, false or "
                    "true, no or yes: whether the option is right."
                )
        return replace(read, values=values)

    def bundles(self, dataset: Dataset) -> Sequence[Any]:
        """The passages."""
        return [passage for passage, _ in dataset.texts]

    def more(self, table: Table, columns: Columns) -> Mapping[str, Sequence[int]]:
        pairs = zip(*(table.column(name) for name in columns.text[:2]), strict=True)
        numbers: dict[Any, int] = {}
        return {QUESTION: [numbers.setdefault(tuple(map(str, pair)), len(numbers)) for pair in pairs]}


OPTIONS = OptionTarget()


@dataclass(frozen=True)
class ChoiceTarget(Target):
    """An example is a question with its options, one of them right: its texts are pairs (lead, option), one an option.

    The columns of text are any lead, such as a passage, and the question. A cell of options is a list of texts, or
    ``{"text": [...], "label": [...]}``; the label is the right option's place, counted from 0, its letter, counted from
    A, or one of the cell's own labels.

    Args:
        choices: The column of options.
    """

    choices: str = "choices"
    task: ClassVar[str] = "multiple-choice"

    def columns(self, columns: Columns) -> Columns:
        return replace(_with_text(columns, ("question",)), more={"choices": self.choices})

    def inputs(self, table: Table, columns: Columns) -> InputRows:
        read = super().inputs(table, columns)
        column = self.choices
        options = [
            _options(cell, table, column, row)[0] for row, cell in enumerate(table.column(column), start=1)
        ]
        values = [_pairs(lead, own) for lead, own in zip(read.values, options, strict=True)]
        counts = Counter(map(len, options))
        notes = () if len(counts) == 1 else (
            f"{column_of(table, column)}: questions have {min(counts)} to {max(counts)} options; missing ones are "
            "never chosen.",
        )  # fmt: skip
        return replace(read, values=values, notes=(*read.notes, *notes))

    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        column = self.choices
        values = [
            _place(cell, *_options(own, table, column, row), column_of(table, columns.label), row)
            for row, (cell, own) in enumerate(
                zip(table.column(columns.label), table.column(column), strict=True), start=1
            )
        ]
        return Labels(values=values)

    def numbered(
        self,
        rows: Mapping[int, Any],
        names: tuple[str, ...] | None,
        *,
        table: Table,
        columns: Columns,
        left_out: str,
    ) -> tuple[list[int], tuple[str, ...]]:
        return list(rows.values()), ()

    def strata(self, labels: Sequence[int]) -> Sequence[int]:
        """The right option's place."""
        return labels

    def describe(self, dataset: Dataset) -> str:
        found = Counter(dataset.labels)
        listed = ", ".join(f"{_LETTERS[place % 26]} {found[place]:,}" for place in sorted(found))
        return f"{quantity(sum(map(len, dataset.texts)), 'option')}; right ones by place: {listed}"


CHOICES = ChoiceTarget()


def _with_text(columns: Columns, text: tuple[str, ...]) -> Columns:
    return replace(columns, text=text) if columns.text == Columns().text else columns


def _pairs(lead: str | tuple[str, str], options: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if isinstance(lead, str):
        return tuple((lead, option) for option in options)
    return tuple((lead[0], f"{lead[1].strip()} {option}") for option in options)


def _options(cell: Any, table: Table, column: str, row: int) -> tuple[list[str], list[str]]:
    """The options of a cell, and what it calls them, if anything."""
    inner: Any = cell.get("text") if isinstance(cell, Mapping) else cell
    names = [str(name) for name in cell.get("label", ())] if isinstance(cell, Mapping) else []
    if not cells.is_list(inner) or len(inner) < 2:
        raise DataError(
            f"{column_of(table, column)}: row {row} holds no options ({str(cell)[:60]}). Allowed: a list of at least "
            'two texts, or {"text": [...], "label": [...]}.'
        )
    texts = [cells.text(option, column_of(table, column), row).strip() for option in inner]
    if not all(texts):
        raise DataError(
            f"{column_of(table, column)}: row {row} has an empty option. Fill it in or remove it."
        )
    return texts, names


def _place(cell: Any, options: Sequence[str], names: Sequence[str], where: str, row: int) -> int | str:
    """The right option's place from 0; ``MISSING`` where the cell is empty."""
    whole = isinstance(cell, float) and cell.is_integer()  # as tables with an empty cell have whole numbers
    label = "" if cells.is_missing(cell) else str(int(cell) if whole else cell).strip()
    if not label:
        return MISSING
    places = {name: place for place, name in enumerate(names)}
    if not names:
        places = {spelt: at for at in range(len(options)) for spelt in (str(at), _LETTERS[at : at + 1])}
    place = places.get(label, places.get(label.upper()))
    if place is None:
        allowed = ", ".join(names) or f"0 to {len(options) - 1}, or A to {_LETTERS[len(options) - 1]}"
        raise DataError(
            f"{where}: row {row} has the label {label!r} of {len(options)} options. Allowed: {allowed}."
        )
    return place
