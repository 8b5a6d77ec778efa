"""What a message claims costs nothing: lies are refused in milliseconds, in memory of the size of the message."""

from __future__ import annotations

import time
import tracemalloc

import msgspec
import pytest
import torch
from tests.laws import problem
from tests.wire.test_codec import BAD, GOOD, PACKED, bare, order, tree, weights

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.federated.methods import METHODS
from spry.federated.replay.catch_up import receive
from spry.federated.replay.codec import (
    CatchUp,
    decode_answers,
    decode_catch_up,
    decode_round,
    encode_catch_up,
)
from spry.wire.codec import decode_order, decode_reply

GIGABYTES = b"\xff\xff\xff\xff"
ARRAY, BYTES, TEXT = b"\xdd" + GIGABYTES, b"\xc6" + GIGABYTES, b"\xdb" + GIGABYTES
REPLY, SLOPES, ORDER, CATCH_UP = (b"SPRY\x02" + bytes([kind]) for kind in (1, 3, 0, 4))
START = b"\x0c\xcd\x01\x59\x01\xca\0\0\0\0\x01"
"""Round 12, client 345, one example, loss 0, one step."""
MANY = [[place, "float32", [1], b"1234"] for place in range(2, 20_000)]
ALGORITHM = METHODS["spry_per_iteration"](problem.UNITS, max_steps=13)
KNOWN = ALGORITHM.init({n: w.float() for n, w in problem.weights().items()})


def packed(*values):
    return msgspec.msgpack.encode(values)


def rounds(*data):
    """A catch-up of these rounds, for client 0."""
    message = CatchUp(client=0, key=Key(0), since=0, rounds=data, asked=(0, 1), exact={}, digest=b"12345678")
    return encode_catch_up(message, [])


def read_reply(data):
    decode_reply(data, order(), frozenset() if data.startswith(SLOPES) else None)


def read_order(data):
    decode_order(data, tree())


def read_catch_up(data):
    decode_catch_up(data, tree())


def read_round(data):
    decode_answers(decode_round(data), [order()] * 2)


def catch_up(data):
    receive(data, ALGORITHM, KNOWN)


LIES = {
    "a reply of 2^32 fields": (read_reply, REPLY + ARRAY),
    "2^32 tensors": (read_reply, REPLY + b"\x96" + START + ARRAY),
    "a tensor of 4 GiB": (read_reply, REPLY + b"\x96" + START + b"\x91\x94\x00\xa7float32\x92\x01\x06" + BYTES),
    "a dtype of 4 GiB": (read_reply, REPLY + b"\x96" + START + b"\x91\x94\x00" + TEXT),
    "slopes of 4 GiB": (read_reply, SLOPES + b"\x98" + START + b"\x90\x01" + BYTES),
    "2^62 slopes": (read_reply, bare(steps=2**20, num_directions=2**16)),
    "directions for hours": (read_reply, bare(steps=1, num_directions=2**16, slopes=bytes(4 << 16))),
    "steps for hours": (read_reply, bare(steps=2**20, num_directions=0, slopes=b"")),
    "steps with slopes": (read_reply, bare(steps=2**20, slopes=bytes(4 << 20))),
    "steps of a reply of weights": (read_reply, weights(steps=2**20)),
    "many unknown tensors": (read_reply, weights(tensors=MANY)),
    "one tensor many times": (read_reply, weights(tensors=PACKED[:1] * 20_000)),
    "a shape of exabytes": (read_reply, weights(tensors=[[0, "float32", [2**62, 2**62], b""]])),
    "an order of 2^32 trained weights": (read_order, ORDER + b"\x9a\x00\x00\x00\x90" + ARRAY),
    "an order of 2^32 tensors": (read_order, ORDER + b"\x9a\x00\x00\x00\x90\x90\x01\x01\x00" + ARRAY),
    "2^32 rounds": (read_catch_up, CATCH_UP + b"\x98\x00\x00\x90\x00" + ARRAY),
    "many rounds": (read_catch_up, rounds(*[packed([0], [], b"")] * (2**16 + 1))),
    "nested rounds": (read_catch_up, CATCH_UP + b"\x98\x00\x00\x90\x00\x91" + b"\x91" * 1_000_000),
    "2^32 clients": (read_round, b"\x93" + ARRAY),
    "many clients": (read_round, packed(list(range(2**16 + 1)), [], b"")),
    "2^32 replies": (read_round, b"\x93\x91\x00" + ARRAY),
    "many replies": (read_round, packed([0, 1], [0, 1, 0] * 10_000, b"")),
    "steps of a past reply": (read_round, packed([0, 1], [0, 1, 2**62], b"")),
    "more steps than an epoch": (read_round, packed([0, 1], [0, 1, 2**17], bytes(4 << 17))),
    "more examples than an epoch": (read_round, packed([0, 1], [0, 2**62, 0], b"")),
    "more steps than ordered": (catch_up, rounds(packed([0, 1], [0, 1, 14], bytes(56)))),
    "more to replay than all weights take": (catch_up, rounds(*[packed([0], [], b"")] * 20_000)),
}  # fmt: skip


def refusal(read, data):
    """Seconds and bytes of refusing once."""
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(WireError):
        read(data)
    spent = time.process_time() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return spent, peak


def cost(read, data):
    """The least of three refusals: a collection of all that other tests left behind may fall into one."""
    tries = [refusal(read, data) for _ in range(3)]
    return min(seconds for seconds, _ in tries), min(peak for _, peak in tries)


@pytest.mark.parametrize("name", LIES)
def test_a_lie_costs_no_more_than_its_bytes(name):
    """Up to 30 bytes of Python's for each byte of a small field; a length or a number alone costs nothing."""
    read, data = LIES[name]
    seconds, peak = cost(read, data)
    assert seconds < 0.5
    assert peak < 30 * len(data) + (1 << 16)


@pytest.mark.parametrize("name", BAD)
def test_no_bad_reply_is_expensive(name):
    seconds, peak = cost(read_reply, BAD[name][0])
    assert seconds < 0.1
    assert peak < 2 * len(BAD[name][0]) + (1 << 16)


def test_large_tensors_are_refused_before_they_are_read():
    """Of the wrong shape, or one too many: nothing but the message and one copy of its bytes."""
    data = weights(tensors=[*PACKED, [1, "float32", [1 << 20], bytes(4 << 20)]])
    _, peak = cost(read_reply, data)
    assert peak < 1.5 * len(data)


def test_what_is_replayed_follows_from_what_was_ordered():
    """The dearest reply that is read: its slopes are as many as ordered, and each of them was sent."""
    got = decode_reply(bare(), order(), frozenset())
    assert got.payload.slopes.numel() == got.steps * order().num_directions == 13
    assert len(GOOD["bare slopes"]) > 4 * 13
    _, reply = decode_answers(decode_round(packed([0, 1], [0, 1, 13], bytes(52))), [order()] * 2)[0]
    assert torch.equal(reply.payload.slopes, torch.zeros(13, 1))
