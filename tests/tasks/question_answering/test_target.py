"""Questions out of SQuAD's forms: answers lie where they say, or are found, or are refused."""

from __future__ import annotations

import json

import pytest

from spry.core.errors import DataError
from spry.data.dataset import Dataset
from spry.data.datasets import load_splits
from spry.data.examples import build_dataset
from spry.data.table import Columns, Table
from spry.tasks.question_answering.target import QUESTIONS, Span

CONTEXT = "  The film was fine, the plot was bad. The film ended."


def table(**columns) -> Table:
    return Table(source="made", columns=columns)


def build(table: Table, **options) -> Dataset:
    return build_dataset(table, QUESTIONS.columns(Columns()), name="made", target=QUESTIONS, **options)


def one(answers, context: str = CONTEXT) -> Dataset:
    return build(table(id=["x"], question=[" What was fine? "], context=[context], answers=[answers]))


def answerable(made: Dataset) -> list[int]:
    return list(made.strata or ())


@pytest.mark.parametrize(
    "cell",
    [
        {"text": ["fine"], "answer_start": [15]},
        [{"text": "fine", "answer_start": 15}],
        [{"text": "fine", "start": 15}],
        [{"text": "fine"}],
        {"text": ["fine"]},
        {"text": [" fine "], "answer_start": [14]},
    ],
)
def test_an_answer_is_a_span_of_its_context(cell):
    made = one(cell)
    assert made.labels == [(Span(text="fine", start=15),)]
    assert made.texts == [("What was fine?", CONTEXT)]
    assert (answerable(made), made.reading.notes) == ([1], ())


@pytest.mark.parametrize(
    "cell", [[], None, {"text": [], "answer_start": []}, {"text": [" "], "answer_start": [0]}]
)
def test_no_answer_is_told_by_an_empty_list(cell):
    assert (answerable(one(cell)), one(cell).labels) == ([0], [()])


def test_an_answer_elsewhere_is_looked_up_nearest_to_its_offset_and_told():
    made = one({"text": ["film"], "answer_start": [40]})
    assert made.labels == [(Span(text="film", start=43),)]
    assert "1 question" in made.reading.notes[0]
    assert "row 1" in made.reading.notes[0]


def rows(*answers) -> Table:
    count = len(answers)
    return table(question=["q"] * count, context=["a plot"] * count, answers=list(answers))


def test_an_answer_that_is_nowhere_is_refused_or_left_out_with_its_row():
    made = rows([{"text": "plot"}], [{"text": "film", "start": 0}], [])
    with pytest.raises(DataError, match=r"1 row of 3 with an answer that its context lacks \(row 2\)"):
        build(made)
    kept = build(made, blank="skip")
    assert answerable(kept) == [1, 0]
    assert [(left.rows, left.first) for left in kept.reading.left_out] == [(1, (2,))]


def test_an_empty_context_is_told_as_such():
    with pytest.raises(DataError, match="column 'context': 1 of 1 rows have an empty text"):
        one({"text": ["film"], "answer_start": [0]}, context=" ")


@pytest.mark.parametrize(
    "cell", ["fine", 3, {"texts": []}, [{"start": 3}], {"text": ["a"], "answer_start": []}]
)
def test_a_cell_that_holds_no_answers_is_refused_with_its_row(cell):
    with pytest.raises(DataError, match="row 1"):
        one(cell)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="no column 'answers'"):
        build(table(question=["q"], context=["c"]))


def test_articles_and_rows_give_the_same_questions(tmp_path):
    asked = [
        {
            "id": "1",
            "question": "What?",
            "answers": [{"text": "film", "answer_start": 6}],
            "is_impossible": False,
        },
        {"id": "2", "question": "Who?", "answers": [], "plausible_answers": [], "is_impossible": True},
    ]
    article = {"title": "Films", "paragraphs": [{"context": CONTEXT, "qas": asked}]}
    nested, plain = tmp_path / "nested.json", tmp_path / "plain.jsonl"
    nested.write_text(json.dumps({"version": "v2.0", "data": [article]}))
    plain.write_text(
        "".join(json.dumps({**row, "context": CONTEXT, "title": "Films"}) + "\n" for row in asked)
    )
    made = [load_splits(path, target=QUESTIONS, group="title").train for path in (nested, plain)]
    for field in ("texts", "labels", "more", "groups"):
        assert getattr(made[0], field) == getattr(made[1], field)
    assert (answerable(made[0]), made[0].groups) == ([1, 0], ["Films", "Films"])


def test_selecting_keeps_answers_beside_their_questions():
    made = build(rows([{"text": "plot"}], [], [{"text": "a"}])).select([2, 1])
    assert [spans and spans[0].text for spans in made.labels] == ["a", ()]


def test_questions_on_one_context_are_held_out_together():
    source = [
        {
            "question": f"q{number}",
            "context": f"a plot {number // 4}",
            "answers": [{"text": "a"}] * (number % 2),
        }
        for number in range(40)
    ]
    splits = load_splits(source, target=QUESTIONS, test_fraction=0.2)
    assert splits.test is not None
    contexts = [{context for _, context in part.texts} for part in (splits.train, splits.test)]
    assert list(map(len, contexts)) == [8, 2]
    assert not contexts[0] & contexts[1]
    assert splits.train.target.describe(splits.train) == "answers in 16 contexts, none in 16"
    with pytest.raises(DataError, match="of its 1 passage is none"):
        load_splits(source[:4], target=QUESTIONS, test_fraction=0.2)


@pytest.mark.parametrize("text", [("question",), ("question", "context", "title")])
def test_other_than_two_text_columns_are_refused(text):
    columns = Columns(text=text, label="answers")
    with pytest.raises(DataError, match="two text columns"):
        build_dataset(
            table(question=["q"], context=["c"], title=["t"], answers=[[]]),
            columns,
            name="made",
            target=QUESTIONS,
        )
