"""Questions out of SQuAD's forms: answers lie where they say, or are found, or are refused."""

from __future__ import annotations

import json

import pytest

from spry.core.errors import DataError
from spry.data.files import read_table
from spry.data.questions import QuestionColumns, Span, build_questions
from spry.data.table import Table

CONTEXT = "  The film was fine, the plot was bad. The film ended."


def table(**columns) -> Table:
    return Table(source="made", columns=columns)


def one(answers, context: str = CONTEXT):
    made = build_questions(
        table(id=["x"], question=[" What was fine? "], context=[context], answers=[answers]), name="made"
    )
    return made


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
    assert made.answers == [(Span(text="fine", start=15),)]
    assert made.texts == [("What was fine?", CONTEXT)]
    assert (made.labels, made.ids, made.reading.notes) == ([1], ["x"], ())


@pytest.mark.parametrize(
    "cell", [[], None, {"text": [], "answer_start": []}, {"text": [" "], "answer_start": [0]}]
)
def test_no_answer_is_told_by_an_empty_list(cell):
    assert (one(cell).labels, one(cell).answers) == ([0], [()])


def test_an_answer_elsewhere_is_looked_up_nearest_to_its_offset_and_told():
    made = one({"text": ["film"], "answer_start": [40]})
    assert made.answers == [(Span(text="film", start=43),)]
    assert "1 question" in made.reading.notes[0]
    assert "row 1" in made.reading.notes[0]


def rows(*answers) -> Table:
    count = len(answers)
    return table(question=["q"] * count, context=["a plot"] * count, answers=list(answers))


def test_an_answer_that_is_nowhere_is_refused_or_left_out_with_its_row():
    made = rows([{"text": "plot"}], [{"text": "film", "start": 0}], [])
    with pytest.raises(DataError, match=r"1 row of 3 with answer that is not in its context \(row 2\)"):
        build_questions(made, name="made")
    kept = build_questions(made, name="made", blank="skip")
    assert (kept.ids, kept.labels) == (["1", "3"], [1, 0])
    assert (kept.reading.left_out[0].rows, kept.reading.left_out[0].first) == (1, (2,))


@pytest.mark.parametrize(
    "cell", ["fine", 3, {"texts": []}, [{"start": 3}], {"text": ["a"], "answer_start": []}]
)
def test_a_cell_that_holds_no_answers_is_refused_with_its_row(cell):
    with pytest.raises(DataError, match="row 1"):
        one(cell)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="no column 'answers'"):
        build_questions(table(question=["q"], context=["c"]), name="made")


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
    columns = QuestionColumns(group="title")
    made = [build_questions(read_table(path), columns, name="made") for path in (nested, plain)]
    for field in ("texts", "labels", "answers", "ids", "groups"):
        assert getattr(made[0], field) == getattr(made[1], field)
    assert (made[0].labels, made[0].groups) == ([1, 0], ["Films", "Films"])


def test_selecting_keeps_answers_beside_their_questions():
    made = build_questions(rows([{"text": "plot"}], [], [{"text": "a"}]), name="made").select([2, 1])
    assert [spans and spans[0].text for spans in made.answers] == ["a", ()]
    assert (made.labels, made.ids) == ([1, 0], ["3", "2"])
