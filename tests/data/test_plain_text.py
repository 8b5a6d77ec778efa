import pytest

from spry.core.errors import DataError
from spry.data.files import read_table
from spry.data.plain_text import split_documents
from spry.data.table import Columns


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\nb", ["a", "b"]),
        ("a\n\n\n b\nc\n", ["a", "b\nc"]),
        ("a\r\n \r\nb", ["a", "b"]),
        ("\n\n", []),
        ("one", ["one"]),
    ],
)
def test_documents(text, found):
    assert split_documents(text)[0] == found


def test_a_file_of_text_is_documents_where_no_label_is_read(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("Once, upon a time,\nthere was.\n\nThe end.", encoding="utf-8")
    columns = Columns(label="")
    found = read_table(file, columns)
    assert found.columns == {"text": ["Once, upon a time,\nthere was.", "The end."]}
    assert found.format == "plain text, blank lines between documents"
    with pytest.raises(DataError, match="is no table"):
        read_table(file, Columns())
    file.write_text("text\none\ntwo\n", encoding="utf-8")
    assert read_table(file, columns).columns == {"text": ["one", "two"]}
