"""Texts to go on with: documents, prompts with answers, or chats. What is learnt is the text itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from spry.core.errors import DataError
from spry.data.conversations import asked, conversation, exchange
from spry.data.table import Columns, Table
from spry.data.target import MISSING, InputRows, Labels, Target, column_of

if TYPE_CHECKING:
    from spry.data.dataset import Dataset


@dataclass(frozen=True)
class LanguageTarget(Target):
    """InputRows are documents, as text, or conversations; nothing stands beside them as a label.

    Args:
        messages: The column of chat messages.
        prompts: The column of prompts.
        answers: The column of answers to them.
        asking: Whether there are prompts only, as a model is asked.
    """

    task: ClassVar[str] = "causal-lm"

    messages: str | None = None
    prompts: str | None = None
    answers: str | None = None
    asking: bool = False

    def columns(self, columns: Columns) -> Columns:
        if self.messages is not None:
            return replace(columns, text=(self.messages,), label="")
        if self.prompts is not None and self.answers is not None:
            text = (self.prompts,) if self.asking else (self.prompts, self.answers)
            return replace(columns, text=text, label="")
        return replace(columns, label="")

    def unanswered(self) -> Target:
        return replace(self, asking=True)

    def inputs(self, table: Table, columns: Columns) -> InputRows:
        if self.messages is not None:
            return _chats(table, self.messages, asking=self.asking)
        found = super().inputs(table, columns)
        if self.prompts is not None:
            make = asked if self.asking else exchange
            return replace(found, values=[make(*one) for one in _tuples(found.values)])
        if len(columns.text) > 1:
            raise DataError(
                f"{table.source}: two text columns were named. Name one of documents, or a prompt and its answer: "
                f"task.prompts={columns.text[0]} task.answers={columns.text[1]}"
            )
        return found

    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        return Labels(values=[0] * len(table))

    def numbered(
        self,
        rows: Mapping[int, Any],
        names: tuple[str, ...] | None,
        *,
        table: Table,
        columns: Columns,
        left_out: str,
    ) -> tuple[list[int], tuple[str, ...]]:
        return [0] * len(rows), ()

    def describe(self, dataset: Dataset) -> str:
        if dataset.texts and isinstance(dataset.texts[0], str):
            return "documents, all of whose tokens are learnt"
        return "prompts with answers, of which the answers are learnt"


def _tuples(values: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [value if isinstance(value, tuple) else (value,) for value in values]


def _chats(table: Table, column: str, *, asking: bool) -> InputRows:
    where = column_of(table, column)
    values = [
        conversation(cell, where, row, asking=asking)
        for row, cell in enumerate(table.column(column), start=1)
    ]
    return InputRows(values=values, parts={column: [MISSING if not turns else "there" for turns in values]})


def check_columns(messages: str | None, prompts: str | None, answers: str | None) -> None:
    """Refuse (DataError) columns that do not go together."""
    if messages is not None and (prompts, answers) != (None, None):
        raise DataError(
            "task.messages is set, and task.prompts or task.answers, too. Set messages, or prompts and answers."
        )
    if (prompts is None) != (answers is None):
        missing = "answers" if answers is None else "prompts"
        raise DataError(
            f"task.{missing} is unset. Name both columns: task.prompts=question task.answers=reply"
        )


def has_conversations(dataset: Dataset) -> bool:
    """Whether a data set's inputs are conversations rather than documents."""
    return len(dataset) > 0 and not isinstance(dataset.texts[0], str)
