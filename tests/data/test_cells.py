from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from spry.core.errors import DataError
from spry.data import cells


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (["the", "film"], r"row 2 holds a list, not text \(\['the', 'film'\]\).*Join"),
        ([], "row 2 holds a list"),
        (("a", "b"), "row 2 holds a list"),
        ({"a", "b"}, "row 2 holds a list"),
        (np.array(["a", "b"]), "row 2 holds a list"),
        ([["a"], ["b"]], "row 2 holds a list"),
        ([{"role": "user", "content": "hi"}], "row 2 holds a list of chat turns.*apply_chat_template"),
        ([{"from": "human", "value": "hi"}], "row 2 holds a list of chat turns"),
        ({"en": "hi", "de": "hallo"}, "row 2 holds a dictionary.*column of its own"),
        (datetime.date(2020, 1, 1), "row 2 holds a date or time"),
        (pd.Timestamp("2020-01-01"), "row 2 holds a date or time"),
        (b"\xff\xfe", "row 2 holds bytes that are not UTF-8"),
        (object(), "row 2 holds a object"),
    ],
)
def test_what_is_no_text_is_refused_by_its_kind(cell, says):
    with pytest.raises(DataError, match=f"t: {says}"):
        cells.texts(["fine", cell], "t")


@pytest.mark.parametrize(
    "cell",
    [None, float("nan"), np.float32("nan"), Decimal("nan"), pd.NA, pd.NaT, "", " \t\n", "\u200b \ufeff"],
)
def test_what_is_missing_or_blank_is_empty(cell):
    assert cells.texts(["fine", cell], "t") == (["fine", ""], [])


def test_text_is_taken_as_it_is_written():
    written = [" spaced ", "[SEP]", "[a]", "naïve", "😀", b"caf\xc3\xa9", "half \ud83d"]
    assert cells.texts(written, "t") == (
        [" spaced ", "[SEP]", "[a]", "naïve", "😀", "café", "half \ufffd"],
        [],
    )


@pytest.mark.parametrize("numbers", [[1, 2], [1.5, None], [True, False], [np.int64(1)], [Decimal("1.5")]])
def test_a_column_of_numbers_is_no_text(numbers):
    with pytest.raises(DataError, match="t holds numbers, not text"):
        cells.texts(numbers, "t")


@pytest.mark.parametrize(
    ("spelled", "what"),
    [
        ("['a', 'b']", "lists"),
        ("['a' ... 'b'\n 'c']", "lists"),
        ("[1, 2]", "lists"),
        ('[{"role": "user", "content": null}]', "lists"),
        ("[]", "lists"),
        ("{'role': 'user'}", "dictionaries"),
        ("b'caf\\xc3'", "bytes"),
    ],
)
def test_a_column_of_spelled_lists_is_no_text(spelled, what):
    with pytest.raises(DataError, match=f"t spells {what}, not text; row 2 is"):
        cells.texts(["", spelled, "a text", spelled], "t")
    assert cells.texts([spelled, "a text", "[a] text"], "t")[0] == [spelled, "a text", "[a] text"]


def test_what_is_odd_is_told():
    assert cells.texts(["a", 2012, "b", 1.5], "t") == (
        ["a", "2012", "b", "1.5"],
        ["t: numbers were read as text (row 2, 4)."],
    )
    (note,) = cells.texts(["a", "nan", "None"], "t")[1]
    assert "spell a missing value" in note
    assert "(row 2, 3)" in note
    (note,) = cells.texts(["1", "2.5"], "t")[1]
    assert "Is it the right column?" in note
