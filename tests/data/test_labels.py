from __future__ import annotations

import datetime
import re
from decimal import Decimal

import numpy as np
import pytest

from spry.core.errors import DataError
from spry.data.classes import number_labels
from spry.data.labels import clean


def classes(column) -> tuple[str, ...]:
    found = clean(column, "t")
    kept = [value for row, value in enumerate(found.values) if row not in found.unlabelled]
    return number_labels(kept)[1]


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ([10, 9, 10], ("9", "10")),
        (["10", "9", "-2"], ("-2", "9", "10")),
        (["b", "a", "10"], ("10", "a", "b")),
        ([True, False, True], ("False", "True")),
        ([np.True_, np.False_], ("False", "True")),
        ([1, 1.0, "1", "1.0", 0], ("0", "1")),
        ([1.0, 0.0, 2.0], ("0", "1", "2")),
        (["1.", "0.0", "1e0"], ("0", "1")),
        ([Decimal("1.0"), np.float32(0), np.int8(2)], ("0", "1", "2")),
        (["007", "08"], ("007", "08")),
        (["1.10", "1.1", "2.x"], ("1.1", "1.10", "2.x")),
        (["pos ", "neg", "pos", " neg\t"], ("neg", "pos")),
        ([b"yes", b"no"], ("no", "yes")),
        ([0.5, 1.0, 0.0, ".5", "0.50"], ("0", "0.5", "1")),
    ],
)
def test_classes_are_meanings_and_not_spellings_in_a_fixed_order(column, names):
    assert classes(column) == names


@pytest.mark.parametrize(
    ("column", "unlabelled", "names"),
    [
        ([0, 1, 2, -1, -1], (3, 4), ("0", "1", "2")),
        (["0.0", "1.0", "2.0", "-1.0"], (3,), ("0", "1", "2")),
        ([0, 1] * 9 + [-1, -1], (18, 19), ("0", "1")),
        (["yes", "no", "-1"], (2,), ("no", "yes")),
        (["entailment", "neutral", "-"], (2,), ("entailment", "neutral")),
        ([0, 1, -100, -1] + [0, 1] * 9, (2, 3), ("0", "1")),
        ([-1, 1, -1], (), ("-1", "1")),
        ([-2, -1, 0, 1, 2], (), ("-2", "-1", "0", "1", "2")),
        (["+", "-", "+"], (), ("+", "-")),
    ],
)
def test_rows_without_a_label_are_found_where_the_mark_is_no_class(column, unlabelled, names):
    assert clean(column, "t").unlabelled == unlabelled
    assert classes(column) == names


def test_minus_one_among_zero_and_one_is_asked_about():
    with pytest.raises(DataError, match=r"33% of the labels are -1.*remove these rows.*give it a name"):
        clean([-1, 0, 1] * 4, "t")


def test_a_mark_of_a_test_part_is_no_label_unless_it_is_a_class_of_the_training_part():
    assert clean([-1, 0, 1], "t", known=("0", "1")).unlabelled == (0,)
    assert clean([-1, 1], "t", known=("-1", "1")).unlabelled == ()
    assert clean(["1.0", "0.0"], "t", known=("0", "1")).values == ["1", "0"]
    assert clean(["1.0"], "t", known=("1.0", "x")).values == ["1.0"]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ([[0, 3], [1]], r"row 1 holds a list \(\[0, 3\]\).*multi-label"),
        (["a", ["b"]], r"row 2 holds a list.*multi-label"),
        ([np.array([0, 1])], r"row 1 holds a list.*multi-label"),
        (["[0, 3]", "[1]"], r"row 1 holds a list.*multi-label"),
        (["['a' 'b']"], r"row 1 holds a list.*multi-label"),
        (["[0 3]"], r"row 1 holds a list.*multi-label"),
        (["a", "b", "a|b"], r"holds lists of labels, such as 'a\|b'.*multi-label"),
        (["(0, 1)", "(1,)"], r"row 1 holds a list.*multi-label"),
        (["a", "b", "a/b"], r"holds lists of labels, such as 'a/b'.*multi-label"),
        (["unknown", *(f"{t / 10}" for t in range(51))], r"51 different real numbers, from 0.0 to 5.0"),
        (["a", "b", "a, b"], r"holds lists of labels, such as 'a, b'.*multi-label"),
        ([{"a": 1}], "row 1 holds a dictionary"),
        ([datetime.date(2020, 1, 1)], "row 1 holds a date"),
        ([tenth / 10 for tenth in range(51)] * 2, r"51 different real numbers, from 0 to 5.*regression"),
        ([f"{tenth / 10}" for tenth in range(51)], r"51 different real numbers.*regression"),
        (
            [f"{t // 10},{t % 10}" for t in range(51)],
            r"51 different real numbers, from 0,0 to 5,0.*regression",
        ),
        ([f"id-{row}" for row in range(20)], r"each of the 20 rows has a label of its own"),
        ([True, 1, 0], r"mixes true or false \(row 1\)"),
        ([True, "true"], r"mixes true or false \(row 1\)"),
    ],
)
def test_what_is_no_class_is_refused(column, says):
    with pytest.raises(DataError, match=f"t.*{says}"):
        clean(column, "t")


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["pos ", "pos", "neg"], r"spaces around labels were removed \(row 1\)"),
        (["1", "1.0", "0"], r"numbers were brought to one spelling \(1.0\)"),
        ([0, 0.5, 1], "the real numbers 0, 0.5, 1 are taken as classes"),
        (["0,5", "1,5"], "the real numbers 0,5, 1,5 are taken as classes"),
        (["Pos", "pos", "neg"], "'Pos', 'pos' are different classes"),
        (["a", "b", "nan"], "the class 'nan' looks like a missing value"),
        ([-1, 1], "'-1' is taken as a class"),
        ([f"id-{row % 15}" for row in range(20)], "15 classes in 20 rows"),
        ([37 * (row % 30) for row in range(90)], "30 whole numbers with gaps"),
    ],
)
def test_what_is_unusual_is_told(column, says):
    (note,) = clean(column, "t").notes
    assert re.search(says, note)


def test_ordinary_labels_need_no_note():
    for column in (["pos", "neg"], [0, 1, 2], [True, False], [f"intent {row % 150}" for row in range(900)]):
        assert clean(column, "t").notes == ()
    assert clean([row % 150 for row in range(900)], "t").notes == ()


def test_labels_are_numbered_in_the_order_given():
    assert number_labels(["b", "a", "b"]) == ([1, 0, 1], ("a", "b"))
    assert number_labels(["b", "a", "b"], ["c", "b", "a"]) == ([1, 2, 1], ("c", "b", "a"))
    with pytest.raises(DataError, match=r"row 2 has the unknown label 'positve'. Did you mean 'positive'"):
        number_labels(["negative", "positve"], ["positive", "negative"])
