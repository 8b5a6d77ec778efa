from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.core.errors import DataError
from spry.data.delimited import parse_delimited
from spry.data.table import Columns

LABELS = ["pos", "neg"]


def split(text: str, separator: str = ","):
    return parse_delimited(text, source="t.csv", columns=Columns(), separator=separator)


def table(opens: int | None, closes: int | None, order: str, separator: str = ",") -> str:
    """Twenty rows; a stray mark before the text of one row, and after the text of another."""
    lines = [separator.join(order.split())]
    for row in range(20):
        text = '"' * (row == opens) + f"the film {row}" + '"' * (row == closes)
        cells = {"text": text, "label": LABELS[row % 2], "id": str(row)}
        lines.append(separator.join(cells[name] for name in order.split()))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("order", ["text label", "label text", "id text label", "label id text"])
@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize(
    ("opens", "closes"), [(3, 9), (0, 19), (4, 5), (0, 1), (18, 19), (12, None), (19, None)]
)
def test_a_stray_quotation_mark_is_refused_with_its_row_and_line(order, separator, opens, closes):
    says = rf"t.csv: row {opens + 1}: the quotation mark that opens a cell in line {opens + 2} "
    says += "is never closed" if closes is None else rf"closes only in line {closes + 2}, and would swallow "
    with pytest.raises(DataError, match=says):
        split(table(opens, closes, order, separator), separator)


def test_a_mark_that_closes_inside_a_cell_is_refused_with_both_lines():
    text = table(3, None, "label text").replace("film 15", 'film "15')
    with pytest.raises(DataError, match=r"row 4: .* in line 5 closes inside a cell in line 17"):
        split(text)
    with pytest.raises(DataError, match=r"first line: .* in line 1 is never closed"):
        split('"text,label\ngood,pos\n')
    with pytest.raises(DataError, match=r"row 1: .* in line 2 closes inside a cell in line 2"):
        split('text,label\n"Great" film,pos\n')


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("order", [["text", "label"], ["label", "text"], ["id", "text", "label"]])
def test_cells_over_several_lines_are_read_as_written(order, end):
    texts = ["one\ntwo, three\n\nfour", 'she said "no", twice', "pos, he said\nno", "a,pos", "\nneg\n"]
    frame = pd.DataFrame({"text": texts * 3, "label": (LABELS * 8)[:15], "id": range(15)})[order]
    text = frame.to_csv(index=False).replace("\n", end)
    names, rows = split(text)
    assert names == order
    assert rows == [[str(cell).replace("\n", end) for cell in row] for row in frame.to_numpy().tolist()]


@settings(max_examples=50, deadline=None)
@given(
    texts=st.lists(st.text('ab ",\n\r', min_size=1), min_size=1, max_size=8),
    order=st.permutations(["text", "label"]),
)
def test_whatever_a_writer_quotes_is_read_back(texts, order):
    frame = pd.DataFrame({"text": texts, "label": (LABELS * 4)[: len(texts)]})[order]
    names, rows = split(frame.to_csv(index=False, lineterminator="\r\n"))
    assert names == order
    assert rows == frame.to_numpy().tolist()


def test_marks_inside_a_cell_are_text():
    _, rows = split("text,label\na 5\" screen,pos\nit's 'fine',neg\n")
    assert rows == [['a 5" screen', "pos"], ["it's 'fine'", "neg"]]


def test_between_tabs_marks_are_text_unless_the_file_was_written_with_quoting():
    assert split(table(3, 9, "label text", "\t"), "\t")[1][3] == ["neg", '"the film 3']
    assert split('text\tlabel\n"all of it"\tpos\n', "\t")[1] == [['"all of it"', "pos"]]
    texts = ['he said "no"', "plain", "two\nlines", "a\ttab"]
    frame = pd.DataFrame({"text": texts, "label": LABELS * 2})
    assert split(frame.to_csv(index=False, sep="\t"), "\t")[1] == frame.to_numpy().tolist()


def test_rows_of_other_lengths():
    assert split("text,label,\na,pos,\nb,neg,\n")[1] == [["a", "pos", ""], ["b", "neg", ""]]
    assert split("text,label\na\n\nb,neg\n")[1] == [["a", None], ["b", "neg"]]
    with pytest.raises(DataError, match=r"row 2 \(line 3\) has 3 fields, more fields than the first line"):
        split("text,label\na,pos\nb,c,neg\n")
    with pytest.raises(DataError, match="more fields"):
        split("text,label\nfirst,second,1\nfirst,second,0\n")


def test_spaces_after_separators_belong_to_no_cell():
    assert split('text, label\n"a, b", pos\n') == (["text", "label"], [["a, b", "pos"]])


def test_a_cell_may_be_long():
    assert len(split(f'text,label\n"{"word " * 60_000}",pos\n')[1][0][0]) == 300_000


def test_a_row_without_a_label_makes_no_line_of_a_cell_look_like_a_row():
    names, rows = split('id,text,label,p\n7,"a, ""b""\nc",yes,1\n8,,,\n')
    assert (names, rows) == (
        ["id", "text", "label", "p"],
        [["7", 'a, "b"\nc', "yes", "1"], ["8", "", "", ""]],
    )
