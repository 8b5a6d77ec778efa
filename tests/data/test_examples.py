from __future__ import annotations

import pandas as pd
import pytest

from spry.core.errors import DataError
from spry.data.examples import dataset

TABLE = pd.DataFrame({
    "premise": ["one", "two", "three"],
    "hypothesis": ["un", "deux", "trois"],
    "label": ["yes", "no", "yes"],
    "author": [7, 7, 8],
})


def build(table=TABLE, **changes):
    arguments = {"name": "t", "text": ("premise",), "label": "label", "source": "t.csv"} | changes
    return dataset(table, **arguments)


def test_columns_become_texts_labels_and_groups_in_the_order_of_the_table():
    found = build(group="author")
    assert found.texts == ["one", "two", "three"]
    assert found.label_names == ("no", "yes")
    assert found.labels == [1, 0, 1]
    assert found.groups == ["7", "7", "8"]
    assert len(found) == 3


def test_two_text_columns_become_pairs():
    assert build(text=("premise", "hypothesis")).texts == [("one", "un"), ("two", "deux"), ("three", "trois")]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9, 10], ("9", "10")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["b", "a", "10"], ("10", "a", "b")),
        ([True, False, True], ("False", "True")),
    ],
)
def test_classes_are_named_in_a_fixed_order(labels, names):
    assert build(TABLE.assign(label=labels)).label_names == names


def test_the_labels_of_a_test_part_are_those_of_the_training_part():
    train = build(TABLE.assign(label=["c", "a", "b"]))
    test = build(TABLE.assign(label=["c", "c", "c"]), names=train.label_names)
    assert test.labels == [2, 2, 2]
    with pytest.raises(DataError, match=r"row 2 has the label 'A'.*does not have"):
        build(TABLE.assign(label=["c", "A", "c"]), names=train.label_names)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"text": ("premises",)}, r"no column 'premises'. Did you mean 'premise'"),
        ({"label": "lable"}, r"no column 'lable'. Did you mean 'label'"),
        ({"group": "writer"}, r"no column 'writer'"),
        ({"text": ()}, "0 text columns"),
        ({"text": ("premise", "hypothesis", "author")}, "3 text columns"),
        ({"table": TABLE.iloc[:0]}, "no rows"),
        ({"table": TABLE.assign(label="yes")}, "every label is 'yes'"),
        ({"table": TABLE.assign(premise=["a", " \t", ""])}, r"2 of 3 rows have an empty text \(row 2, 3\)"),
        ({"table": TABLE.assign(premise=["a", None, "b"])}, r"1 of 3 rows have an empty text"),
        ({"table": TABLE.assign(label=["a", float("nan"), "b"])}, "empty label"),
        ({"table": TABLE.assign(author=["a", "", "b"]), "group": "author"}, "empty id"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(changes, says):
    with pytest.raises(DataError, match=says) as caught:
        build(**changes)
    assert "t.csv" in str(caught.value)


def test_select_keeps_the_order_asked_for():
    found = build(group="author").select([2, 0])
    assert (found.texts, found.labels, found.groups) == (["three", "one"], [1, 1], ["8", "7"])
