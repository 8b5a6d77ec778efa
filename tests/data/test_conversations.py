"""Conversations out of cells, in the spellings that collections use, and what is refused."""

import json

import pytest

from spry.core.errors import DataError
from spry.data.conversations import Turn, conversation, exchange

TURNS = (Turn("user", "Hi"), Turn("assistant", "Hello"))
PLAIN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    "cell",
    [
        PLAIN,
        tuple(PLAIN),
        json.dumps(PLAIN),
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": " Hello\n"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, PLAIN[1]],
        [*PLAIN, {"role": "user", "content": "And now?"}],
    ],
)
def test_spellings(cell):
    assert conversation(cell, "f: column 'messages'", 1) == TURNS


@pytest.mark.parametrize("cell", [None, "", " ", [], float("nan")])
def test_a_missing_cell_has_no_turn(cell):
    assert conversation(cell, "f", 1) == ()


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("hello", "row 7 is no JSON"),
        ({"role": "user"}, "row 7 holds no list of messages"),
        (["hello"], "row 7, message 1 is a str"),
        ([{"text": "hello"}], "row 7, message 1 has the fields text"),
        (
            [{"role": "narrator", "content": "a"}],
            "row 7, message 1 is of the role 'narrator'. Allowed: system, user",
        ),
        ([PLAIN[0]], "row 7 has no message of an assistant"),
        ([PLAIN[0], {"role": "assistant", "content": None}], "row 7 has no message of an assistant"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a part of the type 'image'"),
    ],
)
def test_refusals(cell, told):
    with pytest.raises(DataError, match=told.replace("(", r"\(")):
        conversation(cell, "f: column 'messages'", 7)


def test_an_exchange_needs_both():
    assert exchange("Hi", "Hello") == TURNS
    assert exchange("Hi", "") == exchange("", "Hello") == ()
