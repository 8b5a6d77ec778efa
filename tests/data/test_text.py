"""An encoding that is not UTF-8 is guessed, and one setting away."""

from __future__ import annotations

import pytest

from spry.core.errors import DataError
from spry.data import datasets
from spry.data.text import decoded

EXCEL = "text;label\r\nDer Film – großartig;gut\r\nÖde;schlecht\r\n"


def refusal(content: bytes, encoding: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        decoded(content, encoding, "a.csv")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_excels_csv_is_one_setting_away(tmp_path):
    file = tmp_path / "a.csv"
    for content in (EXCEL, "sep=;\r\n" + EXCEL):
        file.write_bytes(content.encode("cp1252"))
        with pytest.raises(
            DataError, match=r"'Der Film – großarti.*set data.encoding=cp1252 .*encoding=\"cp1252\""
        ):
            datasets.load_splits(str(file))
        train = datasets.load_splits(str(file), encoding="cp1252").train
        assert train.texts == ["Der Film – großartig", "Öde"]
        assert train.label_names == ("gut", "schlecht")


def test_lines_keep_their_numbers_below_excels_separator(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("sep=;\ntext;label\na;0\nb;1;2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2 \(line 4\)"):
        datasets.load_splits(str(file))


def test_the_guess_is_shown_with_its_line():
    told = refusal("a,b\nhello,naïve façade\nx,y\n".encode("cp1252"))
    assert "is not utf-8 text (line 2, byte 12)" in told
    assert "it reads 'hello,naïve façade' there" in told


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("words", ["text,label\nhi,0\n", "text,label\nwörd,0\n"])
def test_utf16_without_a_mark_is_recognised(encoding, words):
    content = words.encode(encoding)
    assert f"set data.encoding={encoding} (" in refusal(content)
    assert decoded(content, encoding, "a.csv") == (words, [])


@pytest.mark.parametrize(
    ("content", "encoding", "says"),
    [
        (b"caf\x81\xe9", None, "Say how it is encoded, such as in cp1251 or gb18030: data.encoding=NAME"),
        (b"\x89PNG\r\n\x00\x00\x00", None, "is not text"),
        ("é".encode("cp1252"), "ascii", "is not ascii text"),
        (b"a", "klingon", "'klingon' is no encoding"),
        (b"a", "rot13", "'rot13' is no encoding"),
        (b"abc", "utf-16", "is not utf-16 text"),
    ],
)
def test_what_cannot_be_decoded_is_one_line(content, encoding, says):
    assert says in refusal(content, encoding)


def test_utf8_that_is_read_as_something_else_is_told():
    text, notes = decoded("café".encode(), "cp1252", "a.csv")
    assert text == "cafÃ©"
    assert notes == ["a.csv: was read as cp1252, as asked, though it is valid UTF-8."]
    assert decoded("café".encode(), "utf8", "a.csv") == ("café", [])
    assert decoded(b"cafe", "cp1252", "a.csv") == ("cafe", [])
