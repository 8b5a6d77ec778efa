from __future__ import annotations

import pytest

from spry.core.errors import DataError
from spry.data.table import Columns
from spry.inference.inputs import columns_for, read_labelled, read_texts
from spry.tasks.adapter_info import AdapterInfo


def info(**told):
    base = {"name": "minilm", "place": "hub"}
    return AdapterInfo(
        spry="1", kind="lora", labels=("no", "yes"), dtype="float32", pad_token="", base=base, **told
    )


@pytest.mark.parametrize(
    ("told", "asked", "columns"),
    [
        ({}, (), ("text",)),
        ({"pair": True}, (), ("text", "text_pair")),
        ({"text": ("body",), "pair": False}, (), ("body",)),
        ({"text": ("body",), "pair": False}, ("review",), ("review",)),
        ({"text": ("a", "b"), "pair": True}, ("c", "d"), ("c", "d")),
    ],
)
def test_columns_are_those_of_training_unless_others_are_named(told, asked, columns):
    assert columns_for(info(**told), asked).text == columns


@pytest.mark.parametrize(
    ("pair", "asked", "says"),
    [
        (False, ("a", "b"), "single texts: name one column, not 2"),
        (True, ("a",), "pairs of texts: name two columns"),
    ],
)
def test_a_pair_is_not_a_text(pair, asked, says):
    with pytest.raises(DataError, match=says):
        columns_for(info(pair=pair), asked)


def test_pairs_are_read_and_one_with_a_side_missing_is_none(tmp_path):
    (tmp_path / "pairs.tsv").write_text("a\tb\nx\ty\nz\t\n")
    found = read_texts(tmp_path / "pairs.tsv", columns_for(info(text=("a", "b"), pair=True)))
    assert (found.texts, found.rows, found.without) == ([("x", "y")], [0], [2])


def test_a_file_without_texts_is_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("text,id\n,1\n ,2\n")
    with pytest.raises(DataError, match="no row has a text in 'text'"):
        read_texts(tmp_path / "empty.csv", columns_for(info()))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "text,lable\na,yes\n",
            r"no column 'label'.*Did you mean 'lable'.*without labels, use spry predict",
        ),
        ("text,label\na,yes\nb,yess\n", r"row 2 has the label 'yess'.*Did you mean 'yes'"),
        ("text,label\na,\nb,\n", "none of the 2 rows is left"),
    ],
)
def test_labels_that_cannot_be_compared_with_are_refused(tmp_path, content, says):
    (tmp_path / "data.csv").write_text(content)
    with pytest.raises(DataError, match=says):
        read_labelled(tmp_path / "data.csv", columns_for(info()), ("no", "yes"))


def test_classes_are_numbered_as_the_adapter_does_even_if_one_is_missing(tmp_path):
    (tmp_path / "data.csv").write_text("text,label\na,b\nc,b\nd,\n")
    found = read_labelled(tmp_path / "data.csv", columns_for(info()), ("z", "b", "a"))
    assert (found.labels, found.label_names) == ([1, 1], ("z", "b", "a"))


def test_files_are_read_in_the_encoding_that_is_named(tmp_path):
    file = tmp_path / "data.csv"
    file.write_bytes("text~label\ncafé~yes\n".encode("cp1252"))
    form = {"encoding": "cp1252", "separator": "~"}
    assert read_texts(file, columns_for(info()), **form).texts == ["café"]
    assert read_labelled(file, columns_for(info()), ("no", "yes"), **form).labels == [1]
    with pytest.raises(DataError, match=r"predict and evaluate: --encoding cp1252"):
        read_texts(file, columns_for(info()))


def test_a_file_without_rows_says_so(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match=r"a.json: has no rows"):
        read_texts(tmp_path / "a.json", Columns())
