import pytest

from spry.data.plain_text import is_plain, split_documents


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


def test_endings():
    assert is_plain("A.TXT") and not is_plain("a.csv") and not is_plain("txt")
