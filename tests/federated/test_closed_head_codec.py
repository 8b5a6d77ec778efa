"""The messages of a closed form: what comes back is what was sent, and lies are refused at once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from tests.federated.test_closed_head import CLASSES, FEATURES, examples, sums_of
from tests.wire.test_hostile import cost

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.federated.closed_head.codec import (
    Question,
    decode_head,
    decode_question,
    decode_sums,
    encode_head,
    encode_question,
    encode_sums,
)

START = b"SPRY\x02\x06"
HALF = FEATURES * (FEATURES + 1) // 2
GIGABYTES = b"\xff\xff\xff\xff"


def read(data, client=3):
    return decode_sums(data, client, classes=CLASSES, features=FEATURES)


def half(**at):
    """A scatter of ones on the diagonal, and what is given, as its lower half."""
    values = np.eye(FEATURES)[np.tril_indices(FEATURES)]
    values[[int(place[1:]) for place in at]] = list(at.values())
    return values.astype("<f4").tobytes()


def message(client=3, counts=(1, 0, 2), means=None, scatter=None, more=()):
    means = bytes(2 * FEATURES * 8) if means is None else means
    return START + msgspec.msgpack.encode((
        client,
        counts,
        means,
        half() if scatter is None else scatter,
        *more,
    ))


def test_sums_come_back_in_float32_and_cost_half_a_matrix():
    features, labels = examples(50)
    features, labels = features[labels != 1], labels[labels != 1]
    sums = sums_of(features, labels)
    data = encode_sums(3, sums)
    got = read(data)
    assert torch.equal(got.counts, sums.counts) and torch.equal(got.means, sums.means)
    assert torch.equal(got.scatter, sums.scatter.float().double())
    assert torch.equal(got.scatter, got.scatter.T)
    assert len(data) - 4 * HALF - 8 * 2 * FEATURES < 24
    assert encode_sums(3, got) == data


def test_questions_and_heads_come_back():
    question = Question(client=7, key=Key(5).fold("head features", 2), features=256)
    assert decode_question(encode_question(question)) == question
    assert len(encode_question(question)) < 48
    head = {"w": torch.randn(3, 4), "b": torch.randn(3)}
    got = decode_head(encode_head(head), head)
    assert all(torch.equal(got[n], head[n]) for n in head)
    with pytest.raises(WireError, match="head lacks 1 of its 2 weights"):
        decode_head(encode_head({"w": head["w"]}), {"w": head["w"], "b": head["b"]})


def numbers(*values):
    return np.array(values, dtype="<f8").tobytes()


LIES = {
    "cut short": (message()[:-1], "truncated or malformed"),
    "another kind": (b"SPRY\x02\x01" + message()[6:], r"kind 1 \(WEIGHTS\), not 6 \(HEAD_SUMS\)"),
    "one field more": (message(more=(1,)), "malformed"),
    "another client": (message(client=4), "client 4; expected client 3"),
    "no example": (message(counts=(0, 0, 0), means=b""), "count 0 examples of 3 classes"),
    "a class more": (message(counts=(1, 0, 2, 0)), "of 4 classes"),
    "a negative count": (message(counts=(1, 0, -2)), "malformed"),
    "a count beyond all": (message(counts=(1, 0, 2**33)), "malformed"),
    "means of another size": (message(means=bytes(8)), "means take 128 bytes; 8 came"),
    "means that are NaN": (message(means=numbers(*[np.nan] * 16)), "NaN, infinite or beyond"),
    "means that are huge": (message(means=numbers(*[1e16] * 16)), "NaN, infinite or beyond"),
    "a whole scatter": (message(scatter=bytes(4 * FEATURES**2)), "scatter take 144 bytes; 256 came"),
    "scatter that is infinite": (message(scatter=half(_1=np.inf)), "NaN, infinite or beyond"),
    "a negative square": (message(scatter=half(_0=-1.0)), "negative sum of squares"),
    "products without squares": (message(scatter=half(_1=1.1)), "products that no examples"),
    "2^32 counts": (START + b"\x94\x03\xdd" + GIGABYTES, "malformed"),
    "means of 4 GiB": (START + b"\x94\x03\x90\xc6" + GIGABYTES, "malformed"),
    "many counts": (message(counts=[0] * 70_000), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused_with_the_reason_and_cost_nothing(name):
    data, told = LIES[name]
    with pytest.raises(WireError, match=told):
        read(data)
    seconds, peak = cost(read, data)
    assert seconds < 0.1
    assert peak < 30 * len(data) + (1 << 16)


def test_no_damaged_byte_does_more_than_change_a_number():
    draw, data = np.random.default_rng(0), bytearray(encode_sums(3, sums_of(*examples(40))))
    for _ in range(300):
        damaged = bytearray(data)
        damaged[draw.integers(len(data))] ^= 1 << draw.integers(8)
        try:
            got = read(bytes(damaged))
        except WireError:
            continue
        assert torch.isfinite(got.means).all() and torch.isfinite(got.scatter).all() and got.examples >= 1


@pytest.mark.parametrize("size", [0, 2**21])
def test_questions_for_no_feature_or_a_million_are_refused(size):
    data = b"SPRY\x02\x05" + msgspec.msgpack.encode((1, 0, [], size))
    with pytest.raises(WireError, match="features"):
        decode_question(data)
