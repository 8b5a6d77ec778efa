"""Answers that are spans of a context, read from SQuAD's rows or articles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from spry.core.errors import DataError
from spry.data import cells
from spry.data.nested import flat
from spry.data.reading import quantity
from spry.data.table import Columns, Table
from spry.data.target import InputRows, Labels, Target, column_of

if TYPE_CHECKING:
    from spry.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Span:
    """An answer: ``context[start : start + len(text)] == text``."""

    text: str
    start: int


@dataclass(frozen=True)
class QuestionTarget(Target):
    """Examples are pairs (question, context); their labels are all right answers, none if the context has none."""

    task: ClassVar[str] = "question-answering"

    def columns(self, columns: Columns) -> Columns:
        plain = Columns()
        text = ("question", "context") if columns.text == plain.text else columns.text
        label = "answers" if columns.label == plain.label else columns.label
        return replace(columns, text=text, label=label)

    def table(self, table: Table) -> Table:
        return flat(table)

    def inputs(self, table: Table, columns: Columns) -> InputRows:
        if len(columns.text) != 2:
            raise DataError(
                f"{table.source}: a question needs two text columns, not {len(columns.text)}. Name that of questions, "
                "then that of contexts: data.text=question,context"
            )
        read = super().inputs(table, columns)
        # a question's outer spaces are no words; a context's stay, for answers are counted by its characters
        values = [(question.strip(), context) for question, context in read.values]
        return replace(read, values=values)

    def labels(self, table: Table, columns: Columns, names: tuple[str, ...] | None) -> Labels:
        where = column_of(table, columns.label)
        contexts = [
            cells.text(cell, where, row) for row, cell in enumerate(table.column(columns.text[1]), start=1)
        ]
        found = [
            _placed(_answers(cell, f"{where}, row {row + 1}"), contexts[row])
            for row, cell in enumerate(table.column(columns.label))
        ]
        moved = [row for row, spans in enumerate(found, start=1) if any(span.moved for span in spans or ())]
        told = f"answers of {quantity(len(moved), 'question')} are not where their offsets say, and were looked up"
        return Labels(
            values=[tuple(Span(text=span.text, start=span.start) for span in spans or ()) for spans in found],
            broken={
                "an answer that its context lacks": [row for row, spans in enumerate(found) if spans is None]
            },
            notes=(f"{where}: {told} ({cells.rows(moved)}).",) if moved else (),
        )

    def numbered(
        self,
        rows: Mapping[int, Any],
        names: tuple[str, ...] | None,
        *,
        table: Table,
        columns: Columns,
        left_out: str,
    ) -> tuple[list[tuple[Span, ...]], tuple[str, ...]]:
        return list(rows.values()), ()

    def bundles(self, dataset: Dataset) -> Sequence[Any]:
        """The contexts."""
        return [context for _, context in dataset.texts]

    def strata(self, labels: Sequence[tuple[Span, ...]]) -> Sequence[int]:
        """Whether there is an answer."""
        return [int(bool(answers)) for answers in labels]

    def describe(self, dataset: Dataset) -> str:
        with_answer = sum(map(bool, dataset.labels))
        return f"answers in {with_answer:,} contexts, none in {len(dataset) - with_answer:,}"


def _answers(cell: Any, where: str) -> list[tuple[str, int | None]]:
    """Take a cell's answers with their offsets, None where there is none; blank answers are none.

    A cell is ``{"text": [...], "answer_start": [...]}``, a list of ``{"text", "answer_start"}``, or missing.
    """
    if cells.is_missing(cell):
        return []
    try:
        pairs = _pairs(cell)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where} holds no answers ({str(cell)[:60]}). Allowed: an object such as "
            '{"text": ["the answer"], "answer_start": [17]}, or a list of {"text", "answer_start"}; empty lists say '
            "that there is no answer."
        ) from error
    return [pair for pair in pairs if pair[0].strip()]


def _pairs(cell: Any) -> list[tuple[str, int | None]]:
    if isinstance(cell, Mapping):
        texts = list(cell["text"])
        starts = list(cell.get("answer_start", [None] * len(texts)))
    else:
        texts = [answer["text"] for answer in cell]
        starts = [answer.get("answer_start", answer.get("start")) for answer in cell]
    return [(str(t), None if s is None else int(s)) for t, s in zip(texts, starts, strict=True)]


@dataclass(frozen=True, kw_only=True)
class _Found:
    text: str
    start: int
    moved: bool


def _placed(answers: Sequence[tuple[str, int | None]], context: str) -> list[_Found] | None:
    """Find answers in their context, nearest to where their offsets say; None if one is not in it."""
    placed = []
    for text, start in answers:
        before = len(text) - len(text.lstrip())
        words = text.strip()
        wanted = None if start is None else start + before
        places = [wanted] if wanted is not None and context[wanted : wanted + len(words)] == words else []
        places = places or [match.start() for match in re.finditer(f"(?={re.escape(words)})", context)]
        if not places:
            return None
        nearest = min(places, key=lambda place: abs(place - (wanted or 0)))
        placed.append(_Found(text=words, start=nearest, moved=wanted is not None and nearest != wanted))
    return placed


QUESTIONS = QuestionTarget()
