"""Nested records of reading comprehension, as benchmarks publish them, laid out as one row a question or an option."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spry.core.errors import DataError
from spry.data.table import Table

Record = Mapping[str, Any]


def flat(table: Table) -> Table:
    """Lay out SQuAD's articles (``paragraphs``) and SuperGLUE's MultiRC (``passage``); other tables stay as they are.

    Rows of the first have ``id``, ``title``, ``context``, ``question`` and ``answers``; of the second ``passage``,
    ``passage_id``, ``question``, ``question_id``, ``answer`` and ``label``.

    Raises:
        DataError: If a record lacks a part.
    """
    for column, rows_of in _FORMS.items():
        if column in table.columns and "question" not in table.columns:
            return _laid_out(table, rows_of)
    return table


def _laid_out(table: Table, rows_of: Callable[[Record], Iterator[Record]]) -> Table:
    rows: list[Record] = []
    for number in range(len(table)):
        record = {name: cells[number] for name, cells in table.columns.items()}
        try:
            rows += rows_of(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{table.source}: record {number + 1} is not whole ({type(error).__name__}: {error}). Write it as the "
                "benchmark does, or give one row a question."
            ) from error
    names = dict.fromkeys(name for row in rows for name in row)
    return replace(table, columns={name: [row.get(name) for row in rows] for name in names})


def _of_article(article: Record) -> Iterator[Record]:
    for paragraph in article["paragraphs"]:
        for question in paragraph["qas"]:
            yield {
                "id": question["id"],
                "title": article.get("title"),
                "context": paragraph["context"],
                "question": question["question"],
                "answers": [] if question.get("is_impossible") else question["answers"],
            }


def _of_passage(record: Record) -> Iterator[Record]:
    passage, number = record["passage"], record.get("idx")
    questions: Sequence[Record] = passage["questions"]
    for place, question in enumerate(questions):
        for answer in question["answers"]:
            yield {
                "passage": passage["text"],
                "passage_id": number,
                "question": question["question"],
                "question_id": f"{number}-{question.get('idx', place)}",
                "answer": answer["text"],
                "label": answer.get("label"),
            }


_FORMS: Mapping[str, Callable[[Record], Iterator[Record]]] = {
    "paragraphs": _of_article,
    "passage": _of_passage,
}
"""How a record is laid out, by the column that tells its form."""
