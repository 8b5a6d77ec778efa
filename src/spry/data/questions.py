"""Questions whose answers are spans of a context, read from SQuAD's rows or articles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spry.core.errors import DataError
from spry.data import cells
from spry.data.dataset import Dataset
from spry.data.examples import Blank
from spry.data.nested import flat
from spry.data.reading import LeftOut, Reading, quantity
from spry.data.table import Table

ANSWERABLE = ("no answer", "answer")
"""The classes by which questions are dealt and held out: whether the context has an answer."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """An answer: ``context[start : start + len(text)] == text``."""

    text: str
    start: int


@dataclass(frozen=True, kw_only=True)
class Questions(Dataset):
    """Questions on contexts: ``texts`` are pairs (question, context), ``labels`` say whether there is an answer.

    Args:
        ids: One id a question.
        answers: The answers of each question, all of them right; none if the context has no answer.
    """

    ids: Sequence[str]
    answers: Sequence[tuple[Span, ...]]

    def select(self, indices: Iterable[int]) -> Questions:
        kept = [int(index) for index in indices]
        return replace(
            self,
            texts=[self.texts[i] for i in kept],
            labels=[self.labels[i] for i in kept],
            groups=None if self.groups is None else [self.groups[i] for i in kept],
            ids=[self.ids[i] for i in kept],
            answers=[self.answers[i] for i in kept],
        )


@dataclass(frozen=True, kw_only=True)
class QuestionColumns:
    """Which columns are meant; ids are numbers of rows where there is no such column."""

    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    id: str = "id"
    group: str | None = None


_PLAIN = QuestionColumns()


def build_questions(
    table: Table,
    columns: QuestionColumns = _PLAIN,
    *,
    name: str,
    blank: Blank = "error",
) -> Questions:
    """Build questions from a table, or from SQuAD's nested articles; they keep its order.

    An answer's cell is ``{"text": [...], "answer_start": [...]}``, a list of ``{"text", "answer_start"}``, or missing.

    Args:
        table: The table as it was read.
        columns: Which columns are meant.
        name: The data set's name.
        blank: ``skip`` leaves out rows without a question or context, or with an answer that the context lacks.

    Raises:
        DataError: If a column is missing, a cell is malformed, or such a row is not to be left out.
    """
    table = flat(table)
    # a question's outer spaces are no words; a context's stay, for answers are counted by its characters
    questions = [text.strip() for text in _texts(table, columns.question)]
    contexts = _texts(table, columns.context)
    where = f"{table.source}: column {columns.answers!r}"
    found = [
        _placed(_answers(cell, f"{where}, row {row + 1}"), contexts[row])
        for row, cell in enumerate(table.column(columns.answers))
    ]
    out = {
        "empty question or context": [r for r in range(len(table)) if not (questions[r] and contexts[r])],
        "answer that is not in its context": [r for r, spans in enumerate(found) if spans is None],
    }
    kept = _kept(table, out, blank)
    moved = [row + 1 for row in kept if any(span.moved for span in found[row] or ())]
    told = (
        f"answers of {quantity(len(moved), 'question')} are not where their offsets say, and were looked up"
    )
    ids = table.columns.get(columns.id, range(1, len(table) + 1))
    answers = [tuple(Span(text=s.text, start=s.start) for s in found[row] or ()) for row in kept]
    return Questions(
        name=name,
        texts=[(questions[row], contexts[row]) for row in kept],
        labels=[int(bool(spans)) for spans in answers],
        label_names=ANSWERABLE,
        groups=None if columns.group is None else [str(table.column(columns.group)[row]) for row in kept],
        reading=_reading(table, out, [f"{where}: {told} ({cells.rows(moved)})."] if moved else []),
        ids=[str(ids[row]) for row in kept],
        answers=answers,
    )


def _texts(table: Table, column: str) -> list[str]:
    where = f"{table.source}: column {column!r}"
    return [cells.text(cell, where, row) for row, cell in enumerate(table.column(column), start=1)]


def _answers(cell: Any, where: str) -> list[tuple[str, int | None]]:
    """Take a cell's answers with their offsets, None where there is none; blank answers are none."""
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


def _kept(table: Table, out: Mapping[str, Sequence[int]], blank: Blank) -> list[int]:
    """Keep the rows that are whole; others are refused unless they may be left out."""
    for reason, rows in out.items():
        if rows and blank == "error":
            raise DataError(
                f"{table.source}: {quantity(len(rows), 'row')} of {len(table)} with {reason} "
                f"({cells.rows([row + 1 for row in rows])}). Correct or remove them; data.blank=skip, or blank='skip' "
                "in Python, leaves them out."
            )
    dropped = {row for rows in out.values() for row in rows}
    kept = [row for row in range(len(table)) if row not in dropped]
    if not kept:
        raise DataError(f"{table.source}: has no question that could be asked. Give at least one.")
    return kept


def _reading(table: Table, out: Mapping[str, Sequence[int]], notes: Sequence[str]) -> Reading:
    return Reading(
        source=table.source,
        format=table.format,
        rows=len(table),
        size=table.size,
        left_out=tuple(
            LeftOut(reason=reason, rows=len(rows), first=tuple(row + 1 for row in rows[:5]))
            for reason, rows in out.items()
            if rows
        ),
        notes=(*table.notes, *notes),
    )
