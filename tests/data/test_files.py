from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from decimal import Decimal

import pandas as pd
import pytest

from spry.core.errors import DataError
from spry.data.files import ENDINGS, PACKED, read_table
from spry.data.table import Columns

TABLE = pd.DataFrame({
    "text": ['he said "no"', "NA", "naïve, façade", "007", "null"],
    "label": ["1", "0", "1", "0", "1"],
})
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def content(kind: str) -> bytes:
    if kind == ".csv":
        return TABLE.to_csv(index=False).encode()
    if kind == ".tsv":
        return TABLE.to_csv(index=False, sep="\t").encode()
    if kind == ".parquet":
        return TABLE.to_parquet(index=False)
    return TABLE.to_json(orient="records", lines=kind == ".jsonl", force_ascii=False).encode()


def write(tmp_path, name: str, data: bytes | str):
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cells(table) -> dict[str, list]:
    return {name: [str(cell) for cell in column] for name, column in table.columns.items()}


@pytest.mark.parametrize("told", [*ENDINGS, ".txt", ""])
@pytest.mark.parametrize("kind", ENDINGS)
def test_content_counts_and_not_the_name(tmp_path, kind, told):
    assert cells(read_table(write(tmp_path, f"a{told}", content(kind)))) == TABLE.to_dict("list")


@pytest.mark.parametrize("packed", PACKED)
def test_packed_files_are_unpacked_whatever_they_are_called(tmp_path, packed):
    for name in (f"a.csv{packed.upper()}", "a.csv"):
        found = read_table(write(tmp_path, name, PACK[packed](content(".csv"))))
        assert cells(found) == TABLE.to_dict("list")
    assert cells(read_table(write(tmp_path, f"plain.csv{packed}", content(".csv")))) == TABLE.to_dict("list")


def test_reading_leaves_nothing_behind_and_knows_the_size(tmp_path):
    path = write(tmp_path, "a.csv.gz", gzip.compress(content(".csv")))
    assert read_table(path).size == path.stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv.gz"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding, kind):
    marked = content(kind).decode().encode(encoding)
    assert cells(read_table(write(tmp_path, f"a{kind}", marked))) == TABLE.to_dict("list")


def test_another_encoding_is_named_and_can_be_given(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\nhi,0\ncafé,1\n".encode("cp1252"))
    assert list(read_table(path, encoding="cp1252").column("text")) == ["hi", "café"]
    with pytest.raises(DataError, match=r"not utf-8 text \(line 3.*'café,1'.*set data.encoding=cp1252"):
        read_table(path)
    with pytest.raises(DataError, match="'no-such' is no encoding"):
        read_table(path, encoding="no-such")
    with pytest.raises(DataError, match=r"looks like utf-16-le: set data.encoding=utf-16-le"):
        read_table(write(tmp_path, "b.csv", "text,label\nhi,0\n".encode("utf-16-le")))


def test_parquet_gives_the_values_that_were_written(tmp_path):
    frame = pd.DataFrame({
        "category": pd.Categorical(["x", "y", "x"]),
        "list": [["a", "b"], [], None],
        "struct": [{"a": 1}, {"a": 2}, {"a": 3}],
        "bytes": [b"a", b"b", None],
        "number": pd.array([1, None, 3], dtype="Int64"),
        "single": pd.Series([0.1, 0.2, 0.3], dtype="float32"),
        "decimal": [Decimal("1.5"), Decimal("2.0"), None],
    })
    found = read_table(write(tmp_path, "a.parquet", frame.to_parquet()))
    assert {name: list(column) for name, column in found.columns.items()} == {
        "category": ["x", "y", "x"],
        "list": [["a", "b"], [], None],
        "struct": [{"a": 1}, {"a": 2}, {"a": 3}],
        "bytes": [b"a", b"b", None],
        "number": [1, None, 3],
        "single": [0.1, 0.2, 0.3],
        "decimal": [Decimal("1.5"), Decimal("2.0"), None],
    }


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.csv.gz", gzip.compress(b"text,label\n" + b"x,1\n" * 999, mtime=0)[:-20], "cannot be read"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n \n", "is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.parquet", b"PAR1 and nothing else", "not a whole Parquet file"),
        ("a.parquet", b"what is this", "not a Parquet file"),
        ("a.json", b"what is this", "is not JSON; it begins with 'what is this'"),
        ("a.xlsx", b"PK\x03\x04 xl/workbook.xml", "Excel workbook.*Save the sheet as CSV"),
        ("a.csv", b"\xd0\xcf\x11\xe0", "Excel workbook.*CSV"),
        ("a.arrow", b"\xff\xff\xff\xff\x78", "Give the folder that holds it"),
        ("a.png", b"\x89PNG\r\n\0\0", "is not text"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, name, data, says):
    with pytest.raises(DataError, match=says) as caught:
        read_table(write(tmp_path, name, data))
    assert name in str(caught.value)


def test_a_missing_file_or_a_folder_in_its_place(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, says in {
        "missing.csv": "there is no such file",
        "folder.csv": "is a folder or a device",
    }.items():
        with pytest.raises(DataError, match=f"{name}: {says}"):
            read_table(tmp_path / name)


def test_a_missing_or_repeated_column_says_so(tmp_path):
    headless = read_table(write(tmp_path, "a.csv", "good film,1\nbad film,0\n"))
    with pytest.raises(DataError, match=r"no column 'text'.*first line must name the columns"):
        headless.column("text")
    twice = read_table(write(tmp_path, "b.csv", "text,label,text\na,1,b\n"))
    assert list(twice.column("label")) == ["1"]
    with pytest.raises(DataError, match="'text' stands above more than one column"):
        twice.column("text")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_wanted_columns_tell_the_separator(tmp_path, separator):
    lines = [("label", "body", "x"), ("1", "yes, and no", ""), ("0", "a, b, c", "")]
    path = write(tmp_path, "a.csv", "\n".join(separator.join(line) for line in lines))
    assert list(read_table(path, Columns(text=("body",))).column("body")) == ["yes, and no", "a, b, c"]


def test_a_separator_can_be_given(tmp_path):
    path = write(tmp_path, "a.csv", "text~label\na~1\n")
    assert cells(read_table(path, separator="~")) == {"text": ["a"], "label": ["1"]}
    with pytest.raises(DataError, match=r"separator is '~~'. Allowed: one character.*comma, tab, semicolon"):
        read_table(path, separator="~~")


@pytest.mark.parametrize("spelled", ["tab", "\\t", "\t"])
def test_a_separator_that_a_shell_would_lose_has_a_name(tmp_path, spelled):
    path = write(tmp_path, "a.csv", "text\tlabel,x\na\t1\n")
    assert cells(read_table(path, separator=spelled)) == {"text": ["a"], "label,x": ["1"]}


ROWS = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]
FRAME = pd.DataFrame(ROWS)


@pytest.mark.parametrize(
    "document",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\r\n\r\n".join(map(json.dumps, ROWS)) + "\r\n",
        json.dumps(ROWS, indent=2),
        json.dumps({"version": "1", "data": ROWS}),
        json.dumps({"license": [{"id": 1}], "items": ROWS}),
        json.dumps(FRAME.to_dict("list")),
        *(FRAME.to_json(orient=orient) for orient in ("columns", "index", "split", "table", "records")),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_every_way_to_write_rows_as_json(tmp_path, document, name):
    found = read_table(write(tmp_path, name, document))
    assert {n: list(found.column(n)) for n in ("text", "label")} == {"text": ["good", "bad"], "label": [1, 0]}


def test_json_cells_keep_their_types_and_missing_ones_are_none(tmp_path):
    found = read_table(
        write(tmp_path, "a.jsonl", '{"text": ["a"], "label": 1.0}\n{"label": "1", "more": true}\n')
    )
    assert found.columns == {"text": [["a"], None], "label": [1.0, "1"], "more": [None, True]}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ('{"text": "a", "label": 1}\n{"text": ', "line 2 is not JSON.*cut short"),
        ('{\n"text": "a"}\n{\n"text": "b"}', "line 1 is not JSON.*one whole object a line"),
        ("[1, 2", "is not JSON.*cut short"),
        ("[1, 2]", "item 1 is a int. Allowed: an object"),
        ('{"text": "a"}\n["b"]', "line 2 is a list. Allowed: an object"),
        (
            '{"train": [{"text": "a", "label": 1}], "test": [{"text": "a", "label": 1}]}',
            r"tables \(train, test\)",
        ),
        ('{"text": ["a", "b"], "label": [1]}', r"not the same number of cells \(text 2, label 1\)"),
        ('{"name": "x"}', "holds no table"),
    ],
)
def test_json_that_is_no_table_is_named(tmp_path, document, says):
    with pytest.raises(DataError, match=says):
        read_table(write(tmp_path, "a.json", document))


def test_parquet_of_a_data_set_keeps_its_text(tmp_path):
    import datasets

    out = io.BytesIO()
    datasets.Dataset.from_list(ROWS).to_parquet(out)
    assert list(read_table(write(tmp_path, "a", out.getvalue())).column("text")) == ["good", "bad"]


def test_parquet_of_a_data_set_keeps_the_names_of_its_classes(tmp_path):
    import datasets

    features = datasets.Features({
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["bad", "good"]),
    })
    out = io.BytesIO()
    datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features).to_parquet(
        out
    )
    assert list(read_table(write(tmp_path, "a", out.getvalue())).column("label")) == ["good", "bad", -1]


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_pickled_frame_is_told_what_it_is(protocol, tmp_path):
    path = tmp_path / "frame.pkl"
    pd.DataFrame({"text": ["a"], "label": ["b"]}).to_pickle(path, protocol=protocol)
    with pytest.raises(DataError, match=r"is a pickle\. Write the table to Parquet or CSV"):
        read_table(path)
