"""Predictions beside the columns that were read, in every format that can be read again."""

from __future__ import annotations

import numpy as np
import pytest

from spry.core.errors import DataError
from spry.data.files import read_table
from spry.data.table import Columns, Table
from spry.inference.inputs import texts_of
from spry.inference.outputs import WRITERS, check_target, to_csv, with_predictions, write_table
from spry.tasks.classification import class_columns

ROWS = {"id": [7, 8, 9], "text": ['a, "b"\nc', "", "tab\tand é 😀"]}
SHARES = np.array([[0.25, 0.75], [0.9, 0.1]])


def read(**columns):
    return texts_of(Table(source="here", columns={**ROWS, **columns}), Columns(text=("text",)))


def test_rows_keep_their_order_and_one_without_a_text_stays_empty():
    found = with_predictions(read(), class_columns(SHARES, ("no", "yes")))
    assert found == {**ROWS, "label": ["yes", None, "no"], "probability": [0.75, None, 0.9]}
    assert read().without == [2]


def test_columns_that_are_there_are_kept_and_every_class_may_have_one():
    found = with_predictions(
        read(label=["x", "y", "z"], probability=[1, 2, 3]), class_columns(SHARES, ("no", "yes"), every=True)
    )
    assert list(found) == [
        "id", "text", "label", "probability", "predicted", "predicted_probability", "probability_no", "probability_yes",
    ]  # fmt: skip
    assert found["label"] == ["x", "y", "z"] and found["predicted"] == ["yes", None, "no"]
    assert found["probability_no"] == [0.25, None, 0.9]


@pytest.mark.parametrize("ending", WRITERS)
def test_what_is_written_is_read_again(tmp_path, ending):
    plain = {"text": ["a b", "", "c"]} if ending == ".tsv" else {}  # between tabs, quotation marks are text
    columns = with_predictions(read(**plain), class_columns(SHARES, ("no", "yes")))
    write_table(columns, tmp_path / f"out{ending}")
    again = read_table(tmp_path / f"out{ending}", Columns(text=("text",)))
    assert list(again.columns) == list(columns)
    assert [text or "" for text in again.column("text")] == columns["text"]
    assert [label or None for label in again.column("label")] == columns["label"]
    assert [float(value) if value else None for value in again.column("probability")] == columns[
        "probability"
    ]


def test_a_cell_of_csv_that_holds_a_list_is_json_and_a_mixed_column_of_parquet_is_text(tmp_path):
    columns = {"text": ["a", "b"], "words": [["a"], {"b": 1}], "mixed": [1, "one"]}
    assert to_csv(columns).splitlines()[1] == 'a,"[""a""]",1'
    write_table(columns, tmp_path / "out.parquet")
    assert read_table(tmp_path / "out.parquet").column("mixed") == ["1", "one"]


def test_a_file_that_could_not_be_written_is_refused_first(tmp_path):
    (tmp_path / "in.csv").write_text("text\n")
    for target, says in (
        ("out.xlsx", "end in .csv, .tsv, .jsonl, .json, .parquet"),
        ("no/out.csv", "there is no folder"),
        ("in.csv", "is the file that is read"),
    ):
        with pytest.raises(DataError, match=says):
            check_target(tmp_path / target, tmp_path / "in.csv")
