from __future__ import annotations

import pytest

from spry.core.errors import DataError
from spry.data.examples import build_dataset
from spry.data.reading import LeftOut
from spry.data.table import Columns, Table

COLUMNS = {
    "premise": ["one", "two", "three"],
    "hypothesis": ["un", "deux", "trois"],
    "label": ["yes", "no", "yes"],
    "author": [7, 7, 8],
}


def build(columns=None, *, names=None, blank="error", text=("premise",), label="label", group=None):
    table = Table(source="t.csv", columns=COLUMNS | (columns or {}), format="CSV", size=99)
    wanted = Columns(text=text, label=label, group=group)
    return build_dataset(table, wanted, name="t", names=names, blank=blank)


def test_columns_become_texts_labels_and_groups_in_the_order_of_the_table():
    found = build(group="author")
    assert found.texts == ["one", "two", "three"]
    assert found.label_names == ("no", "yes")
    assert found.labels == [1, 0, 1]
    assert found.groups == ["7", "7", "8"]
    assert len(found) == 3


def test_two_text_columns_become_pairs():
    assert build(text=("premise", "hypothesis")).texts == [("one", "un"), ("two", "deux"), ("three", "trois")]


def test_the_labels_of_a_test_part_are_those_of_the_training_part():
    assert build({"label": ["c", "c", "-1"]}, names=("a", "b", "c")).labels == [2, 2]
    with pytest.raises(DataError, match=r"row 2 has the label 'A'.*does not have"):
        build({"label": ["c", "A", "c"]}, names=("a", "b", "c"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"text": ("premises",)}, r"no column 'premises'. Did you mean 'premise'"),
        ({"label": "lable"}, r"no column 'lable'. Did you mean 'label'"),
        ({"group": "writer"}, r"no column 'writer'"),
        ({"text": ()}, "0 text columns"),
        ({"text": ("premise", "hypothesis", "author")}, "3 text columns"),
        ({"columns": {name: [] for name in COLUMNS}}, "no rows"),
        (
            {"columns": {"premise": ["a", " \t", ""]}},
            r"2 of 3 rows have an empty text \(row 2, 3\).*data.blank=skip",
        ),
        ({"columns": {"premise": ["a", None, "b"]}}, "1 of 3 rows have an empty text"),
        (
            {"text": ("premise", "hypothesis"), "columns": {"hypothesis": ["a", None, ""]}},
            "'hypothesis': 2 of 3",
        ),
        ({"columns": {"author": ["a", "", "b"]}, "group": "author"}, "empty id"),
        ({"blank": "drop"}, "blank is 'drop'. Allowed: 'error'"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(changes, says):
    with pytest.raises(DataError, match=says):
        build(**changes)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["yes"] * 3, "every label is 'yes'. A classifier needs"),
        (["a", float("nan"), "b"], "1 of 3 rows have an empty label"),
        ([0, 0, -1], r"every label is '0', but for 1 row with label -1"),
        ([-1, -1, -1], r"none of the 3 rows is left \(3 rows with label -1"),
    ],
)
def test_labels_that_leave_nothing_to_learn_are_refused(labels, says):
    with pytest.raises(DataError, match=f"t.csv: column 'label'.*{says}"):
        build({"label": labels})


def test_rows_left_out_are_counted_by_reason():
    columns = {
        "premise": ["a", None, "c", "d", "", "f"],
        "label": [0, 1, None, 2, 0, -1],
        "author": ["x", "y", "z", " v ", "", "w"],
    }
    found = build(columns, group="author", blank="skip")
    assert (found.texts, found.labels, found.groups) == (["a", "d"], [0, 1], ["x", "v"])
    assert found.reading is not None
    assert found.reading.left_out == (
        LeftOut(reason="empty text in column 'premise'", rows=2, first=(2, 5)),
        LeftOut(reason="empty label in column 'label'", rows=1, first=(3,)),
        LeftOut(reason="empty id in column 'author'", rows=1, first=(5,)),
        LeftOut(reason="label -1, which stands for no label", rows=1, first=(6,)),
    )
    assert (found.reading.rows, found.reading.size, found.reading.format) == (6, 99, "CSV")


def test_select_keeps_the_order_asked_for():
    found = build(group="author").select([2, 0])
    assert (found.texts, found.labels, found.groups) == (["three", "one"], [1, 1], ["8", "7"])


def test_classes_can_be_numbered_in_another_order():
    found = build().relabelled(["yes", "maybe", "no"])
    assert (found.labels, found.label_names) == ([0, 2, 0], ("yes", "maybe", "no"))
    assert found.counts == {"yes": 2, "maybe": 0, "no": 1}
    with pytest.raises(DataError, match="has the class 'no', which is not among the 2 classes"):
        build().relabelled(["yes", "maybe"])
    with pytest.raises(DataError, match="names one of them twice"):
        build().relabelled(["yes", "no", "no"])
