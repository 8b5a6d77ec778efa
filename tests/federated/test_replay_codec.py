"""Past rounds survive the wire, and damaged ones are refused, each with its own reason."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.test_codec import NAMES, same, tree

from spry.core.errors import SpryError, WireError
from spry.core.keys import Key
from spry.federated.replay import codec as history
from spry.wire import frame, varint
from spry.wire.messages import Reply, Slopes


def reply(client, shape=(13, 1), dtype=torch.float32):
    slopes = Key(client).normal("slopes", shape).to(dtype)
    return Reply(round=4, client=client, examples=380, payload=Slopes(slopes), steps=shape[0], loss=0.5)


def a_round(replies=None, asked=(9, 300, 2)):
    replies = [reply(2), reply(9, (1, 1)), reply(300, (0, 0))] if replies is None else replies
    return history.encode_round(asked, [history.encode_reply(r, asked.index(r.client)) for r in replies])


def message(**changes):
    made = {
        "client": 300,
        "key": Key(7, ("run",)),
        "since": 4,
        "rounds": (a_round(), a_round([])),
        "asked": (300, 1),
        "exact": {NAMES[2]: tree()[NAMES[2]]},
        "digest": b"12345678",
    }
    return history.CatchUp(**{**made, **changes})


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_counts_survive(counts):
    data = varint.pack([len(counts), *counts])
    assert varint.Reader(data).counts() == counts
    assert len(varint.pack([127])) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_round_survives(dtype):
    sent = [reply(2, dtype=dtype), reply(9, (1, 5), dtype), reply(300, (0, 0), dtype)]
    asked, got = history.decode_round(a_round(sent), 4)
    assert asked == [9, 300, 2]
    for left, right in zip(sent, got, strict=True):
        assert (left.round, left.client, left.examples, left.steps) == (
            right.round, right.client, right.examples, right.steps,
        )  # fmt: skip
        assert same(left.payload, right.payload)


@pytest.mark.parametrize("changes", [{}, {"rounds": ()}, {"exact": {}}, {"key": Key(0)}])
def test_a_message_survives(changes):
    sent = message(**changes)
    assert same(history.decode_catch_up(history.encode_catch_up(sent, NAMES), tree()), sent)


def test_a_reply_of_one_slope_takes_a_dozen_bytes():
    many = a_round([reply(9, (1, 1))] * 11)
    one = a_round([reply(9, (1, 1))])
    assert len(many) - len(one) == 10 * (4 + 6)


GOOD = history.encode_catch_up(message(), NAMES)


def rewrap(**changes):
    parts = frame.unpack(GOOD)
    return frame.pack(parts.kind, {**parts.header, **changes}, bytes(parts.body))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD[:12], "truncated"),
        (GOOD[:60], "truncated|announced"),
        (GOOD[:-2], "damaged"),
        (b"SPRY\x01\x00" + GOOD[6:], "not for catching up"),
        (rewrap(s=-1), "s = -1"),
        (rewrap(k="seed"), "key"),
        (history.encode_catch_up(message(exact={"x": torch.zeros(2)}), ["x", *NAMES]), "must be"),
        (frame.pack(5, {"c": 0, "k": [0], "s": 0}, b"12345678" + b"\xff" * 9), "beyond 63 bits"),
        (frame.pack(5, {"c": 0, "k": [0], "s": 0}, b"12345678" + varint.pack([10**12])), "at most"),
    ],
)
def test_bad_messages_are_refused(data, says):
    with pytest.raises(WireError, match=says):
        history.decode_catch_up(data, tree())


def one(*counts, slopes=b""):
    return varint.pack([1, 9, *counts]) + slopes


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (varint.pack([3, 9]), "at most"),
        (one(1), "at most 0"),
        (one(0, 380, 4, 13), "truncated"),
        (one(0, 380, 5, 1, 1, slopes=b"12345"), "4 or 8"),
        (one(0, 380, 4, 13, 1, slopes=b"1234"), "announced"),
        (one(0, 380, 4, 10**9, 10**9), "claims"),
        (one(0, 380, 4, 1, 1, slopes=torch.tensor([float("nan")]).numpy().tobytes()), "NaN or infinite"),
    ],
)
def test_bad_rounds_are_refused(data, says):
    with pytest.raises(WireError, match=says):
        history.decode_round(data, 4)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_fuzzed_bytes_are_read_or_refused_and_nothing_else(data):
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SpryError):
        got = history.decode_catch_up(bytes(changed[: data.draw(st.integers(0, len(changed)))]), tree())
        for part in got.rounds:
            history.decode_round(part, 4)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from("cks"), st.one_of(st.none(), st.integers(), st.text())))
def test_fuzzed_headers_are_read_or_refused_and_nothing_else(header):
    text = json.dumps(header).encode()
    with contextlib.suppress(SpryError):
        history.decode_catch_up(frame.PREFIX.pack(b"SPRY", 1, 5, len(text)) + text + b"\0" * 40, tree())
