from __future__ import annotations

import gzip

import pandas as pd
import pytest

from spry.core.errors import DataError
from spry.data.files import READERS, read

TABLE = pd.DataFrame({
    "text": ['he said "no"', "NA", "naïve, façade", "007", "null"],
    "label": ["1", "0", "1", "0", "1"],
})


def write(table: pd.DataFrame, path) -> None:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        content = table.to_csv(index=False).encode()
    elif kind == "tsv":
        lines = ["\t".join(table.columns), *("\t".join(row) for row in table.itertuples(index=False))]
        content = "\n".join(lines).encode()
    elif kind == "parquet":
        content = table.to_parquet(index=False)
    else:
        content = table.to_json(orient="records", lines=kind == "jsonl", force_ascii=False).encode()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)


@pytest.mark.parametrize("suffix", ["", ".gz", ".GZ"])
@pytest.mark.parametrize("kind", READERS)
def test_every_format_gives_back_what_was_written(tmp_path, kind, suffix):
    path = tmp_path / f"a{kind}"
    write(TABLE, path)
    if suffix:
        packed = path.with_name(path.name + suffix)
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    found = read(path)
    assert found.columns.tolist() == ["text", "label"]
    assert found["text"].tolist() == TABLE["text"].tolist()
    assert [str(label) for label in found["label"]] == TABLE["label"].tolist()


def test_reading_leaves_nothing_behind(tmp_path):
    write(TABLE, tmp_path / "a.csv.gz")
    read(tmp_path / "a.csv.gz")
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv.gz"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\nhi,1\n".encode("utf-8-sig"))
    assert read(tmp_path / "a.csv").columns.tolist() == ["text", "label"]


def test_another_encoding_can_be_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\ncafé,1\n".encode("latin-1"))
    assert read(tmp_path / "a.csv", encoding="latin-1")["text"].tolist() == ["café"]
    with pytest.raises(DataError, match=r"not utf-8-sig text.*Convert"):
        read(tmp_path / "a.csv")
    with pytest.raises(DataError, match="no-such"):
        read(tmp_path / "a.csv", encoding="no-such")


def test_a_tsv_file_has_no_quoting(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"open quote\t1\nplain\t0\n')
    assert read(tmp_path / "a.tsv")["text"].tolist() == ['"open quote', "plain"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv.gz", b"text,label\nnot packed,1\n", "cannot be read"),
        ("a.csv.gz", gzip.compress(b"text,label\n" + b"x,1\n" * 999, mtime=0)[:-20], "cannot be read"),
        ("a.csv.gz", b"", "not a readable .csv table"),
        ("a.csv", b"", "not a readable .csv table"),
        ("a.csv", b'text,label\n"never closed,1\n', "not a readable .csv table"),
        ("a.csv", b"text,label\nfirst,second,1\nfirst,second,0\n", "more fields"),
        ("a.csv", b"text,label\nfirst,1\nfirst,second,0\n", "not a readable .csv table"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": ', "not a readable .jsonl table"),
        ("a.json", b"[1, 2", "not a readable .json table"),
        ("a.parquet", b"PAR1 and nothing else", "not a readable .parquet table"),
        ("a.txt", b"text", "unknown file ending"),
        ("a", b"text", "unknown file ending"),
    ],
)
def test_an_unreadable_file_says_what_is_wrong(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


def test_a_missing_file_or_a_folder_in_its_place(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "folder.csv"):
        with pytest.raises(DataError, match="no such file"):
            read(tmp_path / name)
