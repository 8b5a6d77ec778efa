"""Options out of MultiRC's and n-way forms: what is right, which question they are of, and what is refused."""

from __future__ import annotations

import json

import pytest

from spry.core.errors import DataError
from spry.data.dataset import Dataset
from spry.data.datasets import load_splits
from spry.data.examples import build_dataset
from spry.data.table import Columns, Table
from spry.tasks.multiple_choice.target import CHOICES, OPTIONS


def load(tmp_path, rows, target, **options) -> Dataset:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_splits(file, target=target, **options).train


PASSAGE = {
    "idx": 4,
    "passage": {
        "text": "A film.",
        "questions": [
            {
                "idx": 0,
                "question": "Who?",
                "answers": [{"text": "A man", "label": 1}, {"text": "A cat", "label": 0}],
            },
            {"idx": 1, "question": " Why? ", "answers": [{"text": "No reason", "label": 1}]},
        ],
    },
}


def test_passages_become_options(tmp_path):
    made = load(tmp_path, [PASSAGE], OPTIONS, group="passage_id")
    assert made.texts == [("A film.", "Who? A man"), ("A film.", "Who? A cat"), ("A film.", "Why? No reason")]
    assert [made.label_names[label] for label in made.labels] == ["true", "false", "true"]
    assert (made.label_names, made.more["question"]) == (("false", "true"), [0, 0, 1])
    assert made.groups == ["4", "4", "4"]


@pytest.mark.parametrize(
    ("right", "wrong"), [(1, 0), ("True", "False"), (True, False), ("yes", "no"), ("1", "0")]
)
def test_rows_of_options_say_right_and_wrong_in_many_ways(tmp_path, right, wrong):
    rows = [
        {"paragraph": "A film.", "question": "Who?", "answer": option, "label": label}
        for option, label in (("A man", right), ("A cat", wrong))
    ]
    made = load(tmp_path, rows, OPTIONS, text=("paragraph", "question", "answer"))
    assert [made.label_names[label] for label in made.labels] == ["true", "false"]


def option(label, **more):
    return {"passage": "p", "question": "q", "answer": "a", "label": label, **more}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([option("a"), option("b")], "row 1 has the label 'a'"),
        ([option(1), option(1)], "at least two classes"),
        ([option(1, answer=""), option(0)], "column 'answer': 1 of 2 rows have an empty text"),
        ([{"passage": {"text": "p", "questions": [{"question": "q"}]}}], r"record 1 is not whole"),
        (
            [{"passage": "p", "answer": "a", "label": 1}],
            "there is no column 'question'|record 1 is not whole",
        ),
    ],
)
def test_options_that_cannot_be_learnt_are_refused(tmp_path, rows, told):
    with pytest.raises(DataError, match=told):
        load(tmp_path, rows, OPTIONS)


def choices(cell, label, **more) -> Dataset:
    columns = {
        "question": ["Who?"],
        "choices": [cell],
        "label": [label],
        **{name: [v] for name, v in more.items()},
    }
    text = ("passage", "question") if "passage" in more else ("question",)
    read = CHOICES.columns(Columns(text=text))
    return build_dataset(Table(source="made", columns=columns), read, name="made", target=CHOICES)


@pytest.mark.parametrize(
    ("cell", "label", "place"),
    [
        (["x", "y", "z"], 2, 2),
        (["x", "y", "z"], "0", 0),
        (["x", "y", "z"], "B", 1),
        (["x", "y", "z"], "c", 2),
        (["x", "y", "z"], 2.0, 2),
        ({"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "3", 2),
        ({"text": ["x", "y", "z"], "label": [1, 0, 2]}, 1.0, 0),
        ({"text": ["x", "y", "z"], "label": ["0", "1", "2"]}, 0, 0),
        ({"text": ["x", "y", "z"], "label": ["A", "B", "C"]}, "B", 1),
    ],
)
def test_the_right_option_has_a_place(cell, label, place):
    made = choices(cell, label)
    assert (made.labels, list(made.strata or ())) == ([place], [place])
    assert made.texts == [(("Who?", "x"), ("Who?", "y"), ("Who?", "z"))]


def test_a_passage_stands_before_question_and_option():
    assert choices(["x", "y"], 0, passage="A film.").texts == [(("A film.", "Who? x"), ("A film.", "Who? y"))]


@pytest.mark.parametrize(
    ("cell", "label", "told"),
    [
        (["x", "y"], 2, "row 1 has the label '2' of 2 options. Allowed: 0 to 1, or A to B"),
        (["x", "y"], "D", "Allowed: 0 to 1, or A to B"),
        ({"text": ["x", "y"], "label": ["p", "q"]}, "r", "Allowed: p, q"),
        (["x"], 0, "row 1 holds no options"),
        ("x, y", 0, "row 1 holds no options"),
        (["x", " "], 0, "row 1 has an empty option"),
        (["x", "y"], None, "column 'label': 1 of 1 rows have an empty label"),
    ],
)
def test_choices_that_cannot_be_learnt_are_refused(cell, label, told):
    with pytest.raises(DataError, match=told):
        choices(cell, label)


def test_different_numbers_of_options_are_told(tmp_path):
    rows = [{"question": f"q{k}", "choices": ["x"] * (2 + k % 2), "label": k % 2} for k in range(4)]
    made = load(tmp_path, rows, CHOICES)
    assert "questions have 2 to 3 options" in made.reading.notes[0]
    assert made.target.describe(made) == "10 options; right ones by place: A 2, B 2"
