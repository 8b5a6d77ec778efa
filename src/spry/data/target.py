"""What the examples of a task are labelled with: how cells become it, and what is known of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from spry.core.errors import DataError
from spry.data import cells
from spry.data.table import Columns, Table

if TYPE_CHECKING:
    from spry.data.dataset import Dataset

MISSING = ""
"""What stands for a cell without a text, label or id."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A column of labels, cleaned: what each row says, and the rows from 0 that say they have no label.

    Args:
        values: One a row, ``MISSING`` where there is none; whatever ``Target.numbered`` takes.
        nothing: What a cell says that is not empty, but means that there is nothing; where there is such a spelling.
        marks: How rows say that they have none, such as -1.
        broken: Rows from 0 whose label cannot be learnt, by what they have; they are refused, or left out where empty
            cells are.
        notes: Sentences on what was changed, or looks odd.
    """

    values: Sequence[Any]
    unlabelled: tuple[int, ...] = ()
    marks: tuple[str, ...] = ()
    broken: Mapping[str, Sequence[int]] = field(default_factory=dict)
    nothing: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InputRows:
    """What a model reads, one a row; ``parts`` are the columns that must not be empty, ``MISSING`` where they are."""

    values: Sequence[Any]
    parts: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...] = ()


class Target(ABC):
    """What is learnt of an example. A target is a value: two of the same settings are equal."""

    task: ClassVar[str]
    """The name of the task, as ``task.name`` has it."""
    most_texts: ClassVar[int] = 2
    """Columns of text that an example may be made of."""

    def columns(self, columns: Columns) -> Columns:
        """Which columns are read; those that are named, unless a task needs others."""
        return columns

    def claims(self, table: Table, columns: Columns) -> bool:
        """Tell whether the labels of a table can be meant only so, where no task is named."""
        return False

    def table(self, table: Table) -> Table:
        """Lay a table out as one row an example, where a task's benchmarks are published in another form."""
        return table

    def inputs(self, table: Table, columns: Columns) -> InputRows:
        """Take what a model reads out of a table: a text a row, or a tuple of two."""
        if not 1 <= len(columns.text) <= self.most_texts:
            pairs = ", or two for pairs of texts" if self.most_texts == 2 else f" to {self.most_texts}"
            raise DataError(f"{table.source}: {len(columns.text)} text columns were named. Name one{pairs}.")
        read = {name: cells.texts(table.column(name), column_of(table, name)) for name in columns.text}
        texts = [found for found, _ in read.values()]
        return InputRows(
            values=texts[0] if len(texts) == 1 else list(zip(*texts, strict=True)),
            parts={name: found for name, (found, _) in read.items()},
            notes=tuple(note for _, notes in read.values() for note in notes),
        )

    def unanswered(self) -> Target:
        """What reads the same inputs where nobody knows yet what is learnt of them."""
        return self

    @abstractmethod
    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        """Clean the labels of a table; ``names`` are the classes of the training part, when another part is read."""

    @abstractmethod
    def numbered(
        self,
        rows: Mapping[int, Any],
        names: tuple[str, ...] | None,
        *,
        table: Table,
        columns: Columns,
        left_out: str,
    ) -> tuple[list[Any], tuple[str, ...]]:
        """Turn cleaned labels, by row from 0, into what examples hold, and name the classes, if there are any.

        What examples hold can be hashed. ``left_out`` says which rows are no examples, and why.

        Raises:
            DataError: If a label is none that could be learnt.
        """

    def more(self, table: Table, columns: Columns) -> Mapping[str, Sequence[Any]]:
        """What else of each row is kept, such as which question an answer is to."""
        return {}

    def relabelled(self, labels: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
        """Bring labels into another order of the classes, in which class ``i`` has the number ``numbers[i]``."""
        return list(labels)

    def strata(self, labels: Sequence[Any]) -> Sequence[int] | None:
        """A class of each example, by which examples are dealt unevenly and parts are held out; None without any."""
        return None

    def bundles(self, dataset: Dataset) -> Sequence[Any] | None:
        """What examples have in common, such as a passage, so that they are held out together; None if nothing."""
        return None

    def counts(self, dataset: Dataset) -> dict[str, int]:
        """How many examples each class has; none without classes."""
        return {}

    def describe(self, dataset: Dataset) -> str:
        """Tell what the labels are, in a line."""
        return ""


def check_differ(
    labels: Collection[Any], needs: str, *, table: Table, columns: Columns, left_out: str
) -> None:
    """Refuse (DataError) a training part of whose labels nothing could be learnt, as all of them are alike."""
    found = set(labels)
    if len(found) < 2:
        there = f"every label is {found.pop()!r}" if found else "no row has a label"
        rest = f", but for {left_out}" if left_out else ""
        raise DataError(f"{column_of(table, columns.label)}: {there}{rest}. {needs}")


def column_of(table: Table, column: str) -> str:
    """Name a column in messages."""
    return f"{table.source}: column {column!r}"
