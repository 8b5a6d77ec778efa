"""Past rounds survive the wire, and damaged ones are refused, each with its own reason."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.test_codec import NAMES, VALUES, order, rewrap, same, tree

from spry.core.errors import SpryError, WireError
from spry.core.keys import Key
from spry.federated.replay.codec import (
    CatchUp,
    CatchUpFields,
    Recorded,
    decode_answers,
    decode_catch_up,
    decode_round,
    encode_catch_up,
    encode_round,
)

ASKED = (9, 300, 2)


def recorded(place, shape=(13, 1), dtype=torch.float32):
    return Recorded(place, 380, Key(place).normal("slopes", shape).to(dtype))


def a_round(replies=None, asked=ASKED):
    replies = [recorded(2), recorded(0), recorded(1, (0, 0))] if replies is None else replies
    return encode_round(asked, replies)


def orders(count=1, max_steps=None):
    changes = {"num_directions": count, "max_steps": max_steps}
    return [replace(order(), client=client, **changes) for client in ASKED]


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
    return CatchUp(**{**made, **changes})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 5])
def test_a_round_survives(count, dtype):
    sent = [recorded(2, (13, count), dtype), recorded(0, (1, count), dtype), recorded(1, (0, 0), dtype)]
    fields = decode_round(a_round(sent))
    assert fields.asked == ASKED
    for left, (asked, right) in zip(sent, decode_answers(fields, orders(count)), strict=True):
        assert asked.client == right.client == ASKED[left.place]
        assert (right.round, right.examples, right.steps) == (12, 380, len(left.slopes))
        assert same(right.payload.slopes, left.slopes.reshape(-1, count))


def test_slopes_of_two_precisions_keep_their_values():
    sent = [recorded(2, dtype=torch.float64), recorded(0)]
    for left, (_, right) in zip(sent, decode_answers(decode_round(a_round(sent)), orders()), strict=True):
        assert torch.equal(left.slopes.double(), right.payload.slopes)


def test_steps_without_slopes_are_not_replayed():
    _, reply = decode_answers(decode_round(a_round([recorded(1, (10**6, 0))])), orders())[0]
    assert reply.steps == 0 and reply.examples == 380


@pytest.mark.parametrize("changes", [{}, {"rounds": ()}, {"exact": {}}, {"key": Key(0)}])
def test_a_message_survives(changes):
    sent = message(**changes)
    assert same(decode_catch_up(encode_catch_up(sent, NAMES), tree()), sent)


def test_a_reply_of_one_slope_takes_nine_bytes():
    many, one = a_round([recorded(0, (1, 1))] * 5), a_round([recorded(0, (1, 1))])
    assert len(many) - len(one) == 4 * (4 + 5)


GOOD = encode_catch_up(message(), NAMES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"since": -1}, "since"),
        ({"seed": "seed"}, "seed"),
        ({"path": [1.5]}, "path"),
        ({"digest": b"1234567"}, "length >= 8 - at `digest"),
        ({"asked": [1.0]}, "asked"),
        ({"asked": [0] * (2**16 + 1)}, "length <= 65536 - at `asked"),
        ({"rounds": [None] * (2**16 + 1)}, "length <= 65536 - at `rounds"),
        ({"exact": [[2, "float64", [3], bytes(24)]]}, "must be"),
        ({"exact": [[3, "float32", [3], bytes(12)]]}, "not asked for"),
        ({"exact": [[2, "float32", [3], bytes(12)]] * 2}, "came twice"),
    ],
)
def test_bad_messages_are_refused(changes, says):
    with pytest.raises(WireError, match=says):
        decode_catch_up(rewrap(GOOD, CatchUpFields, **changes), tree())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD[:12], "truncated"),
        (GOOD[:-2], "truncated"),
        (GOOD + b"\0", "trailing"),
        (b"SPRY\x02\x00" + GOOD[6:], "ORDER. is not for catching up"),
        (GOOD[:6] + msgspec.msgpack.encode([300, 7, [], 4])[:-1] + b"\x04\xdd\xff\xff\xff\xff", "malformed"),
        (GOOD[:6] + b"\x98\x00\x00\x90\x00\x91" + b"\x91" * 200_000, "malformed"),
    ],
)
def test_damaged_messages_are_refused(data, says):
    with pytest.raises(WireError, match=says):
        decode_catch_up(data, tree())


def one(*counts, asked=(9,), slopes=b""):
    return msgspec.msgpack.encode([asked, counts, slopes])


NAN = torch.tensor([float("nan")]).numpy().tobytes()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (one(asked=()), "asks 0 clients"),
        (one(asked=(9, 9)), "all different"),
        (one(1, 380, 0), "replies at place 1; places are 0 to 0"),
        (one(0, 380, 0, 0, 380, 0), "come twice"),
        (one(0, 380), "2 counts; each reply has 3"),
        (one(0, 2**32 + 1, 0), "4294967297 examples"),
        (one(0, 380, 1), "1 slopes take 4 or 8 bytes; 0 came"),
        (one(0, 380, 1, slopes=b"12345"), "5 came"),
        (one(0, 380, 0, slopes=b"1234"), "0 slopes take 0"),
        (one(0, 380, 14, slopes=bytes(56)), "14 local steps; ordered were at most 13"),
        (one(0, 380, 2**62), "ordered were at most 13"),
        (one(0, 380, 1, slopes=NAN), "NaN, infinite"),
    ],
)
def test_bad_rounds_are_refused(data, says):
    with pytest.raises(WireError, match=says):
        decode_answers(decode_round(data), orders(max_steps=13))


def test_steps_that_no_order_tells_of_are_bounded():
    with pytest.raises(WireError, match="65537 local steps"):
        decode_answers(decode_round(one(0, 380, 2**16 + 1, slopes=bytes(4 * (2**16 + 1)))), orders())


def damaged(good, data):
    """A message with some bytes changed, whole and cut short."""
    message = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    return bytes(message), bytes(message[: data.draw(st.integers(0, len(message)))])


def replayed(data):
    with contextlib.suppress(SpryError):
        for part in decode_catch_up(data, tree()).rounds:
            fields = decode_round(part)
            decode_answers(fields, (orders() * len(fields.asked))[: len(fields.asked)])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_fuzzed_bytes_are_read_or_refused_and_nothing_else(data):
    for sent in damaged(GOOD, data):
        replayed(sent)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, max_size=9), VALUES)
def test_fuzzed_fields_are_read_or_refused_and_nothing_else(values, part):
    replayed(GOOD[:6] + msgspec.msgpack.encode(values))
    replayed(rewrap(GOOD, CatchUpFields, rounds=[part]))
