"""What is in memory is read as a file is: same examples, same errors."""

from __future__ import annotations

import datasets as library
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import spry
from spry.core.errors import DataError
from spry.data.datasets import load_splits

ROWS = [{"text": f"text {k}", "label": ("no", "yes")[k % 2], "author": k % 3} for k in range(20)]
FRAME = pd.DataFrame(ROWS)
SOURCES = {
    "frame": FRAME,
    "shuffled index": FRAME.set_index("author", drop=False),
    "rows": ROWS,
    "tuple of rows": tuple(ROWS),
    "columns": FRAME.to_dict("list"),
    "arrays": {name: FRAME[name].to_numpy() for name in FRAME},
    "Dataset": library.Dataset.from_list(ROWS),
    "DatasetDict": library.DatasetDict({"train": library.Dataset.from_list(ROWS)}),
    "Arrow": pa.Table.from_pylist(ROWS),
}


@pytest.fixture
def file(tmp_path):
    FRAME.to_csv(tmp_path / "data", index=False)
    return tmp_path / "data"


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_gives_what_the_file_gives(kind, file):
    found, read = (load_splits(source, group="author", test_fraction=0.2) for source in (SOURCES[kind], file))
    assert found.train.texts == read.train.texts
    assert found.train.groups == read.train.groups
    assert found.fingerprint == read.fingerprint
    assert found.facts.readings[0].rows == 20


def test_loading_by_name_takes_objects_as_well():
    data = spry.load_dataset(FRAME)
    assert data.labels == ("no", "yes")
    assert len(data.splits.train) == 16
    assert data.splits.facts.lines()[0] == (
        "data: DataFrame (in memory, 20 rows): 16 to train on, 4 held out to test on"
    )


def test_parts_are_found_named_or_given():
    test = library.Dataset.from_list(ROWS[:2])
    both = library.DatasetDict({"train": SOURCES["Dataset"], "validation": test, "extra": test.select([1])})
    assert load_splits(both).test.texts == ["text 0", "text 1"]
    assert load_splits(both, test="extra").test.texts == ["text 1"]
    assert load_splits(both, test=FRAME[5:6], group="author").test.texts == ["text 5"]
    for source in (FRAME, SOURCES["Dataset"]):
        held = load_splits(source, test=[{"text": "new", "label": "yes"}], group="author")
        assert (held.official, held.test.texts, held.test.labels) == (True, ["new"], [1])
    with pytest.raises(DataError, match="no part 'train'"):
        load_splits(library.DatasetDict({"dev": test}))


def test_a_file_may_be_the_test_part_of_a_frame(file):
    assert len(load_splits(FRAME, test=file).test) == len(load_splits(file, test=FRAME).test) == 20


def test_classes_keep_their_names_and_numbers_their_spelling():
    features = library.Features({
        "text": library.Value("string"),
        "label": library.ClassLabel(names=["bad", "good"]),
    })
    named = library.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    found = load_splits(named)
    assert found.train.label_names == ("bad", "good")
    assert found.train.labels == [1, 0]
    assert load_splits({"text": ["a", "b"], "label": np.array([1.0, 0.0])}).train.label_names == ("0", "1")


def test_missing_cells_of_a_frame_are_missing():
    frame = pd.DataFrame({"text": ["a", None, "b", pd.NA], "label": pd.Categorical(["x", "y", "y", "x"])})
    with pytest.raises(
        DataError, match=r"DataFrame: column 'text': 2 of 4 rows have an empty text \(row 2, 4\)"
    ):
        load_splits(frame)
    assert load_splits(frame, blank="skip").train.texts == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (3, "data is an int. Allowed: a datasets.Dataset"),
        (None, "data is a NoneType. Allowed"),
        ([("a", 1)], "list: row 1 is a tuple. Allowed: a dict"),
        ({"text": "a", "label": [1]}, "column 'text' is a str"),
        ({"text": ["a"], "label": [1, 2]}, r"not the same number of cells \(text 1, label 2\)"),
        ([], "has no rows"),
        (FRAME.rename(columns={"text": "txt"}), "DataFrame: there is no column 'text'. Did you mean 'txt'"),
        (SOURCES["Dataset"].rename_column("label", "labels"), "Dataset: there is no column 'label'. Did you"),
        (SOURCES["Dataset"].to_iterable_dataset(), r"an IterableDataset, which is read once.*from_list"),
        (pd.concat([FRAME, FRAME], axis=1), "'text' stands above more than one column"),
    ],
)
def test_what_cannot_be_taken_is_named(source, says):
    with pytest.raises(DataError, match=says):
        load_splits(source)


def test_options_of_files_have_no_effect_and_say_so():
    found = load_splits(FRAME, encoding="cp1252", separator=";", subset="x")
    assert found.facts.notes() == [
        f"{what} has no effect on DataFrame (in memory)."
        for what in ("subset = 'x'", "encoding = 'cp1252'", "separator = ';'")
    ]
