"""The messages of heads for numbers and labels: what comes back is what was sent, and lies are refused at once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.federated.test_closed_head_moments import FEATURES, LABELS, examples, moments
from tests.wire.test_hostile import cost

from spry.core.errors import WireError
from spry.federated.closed_head.moments_codec import decode_moments, encode_moments
from spry.federated.closed_head.solve_labels import solve_labels
from spry.federated.closed_head.solve_numbers import solve_numbers

START = b"SPRY\x02\x09"
HALF = FEATURES * (FEATURES + 1) // 2
GIGABYTES = b"\xff\xff\xff\xff"


def read(data, labels=True):
    return decode_moments(data, 3, targets=LABELS, features=FEATURES, labels=labels)


def wide(*values):
    return np.array(values, dtype="<f8").tobytes()


def message(more=(), **given):
    """Four examples, each with the first label or none of them; the second is with two."""
    fields = {
        "client": 3, "examples": 4, "targets": LABELS, "mean": bytes(8 * FEATURES), "target": wide(0, 0.5, 1),
        "deviations": wide(0, 0.5, 0), "scatter": np.eye(FEATURES)[np.tril_indices(FEATURES)].astype("<f4").tobytes(),
        "cross": bytes(4 * FEATURES * LABELS), **given,
    }  # fmt: skip
    return START + msgspec.msgpack.encode((*fields.values(), *more))


def cross(**at):
    values = np.zeros(FEATURES * LABELS, dtype="<f4")
    values[[int(place[1:]) for place in at]] = list(at.values())
    return values.tobytes()


def half(*scatter):
    return np.array(scatter)[np.tril_indices(FEATURES)].astype("<f4").tobytes()


NEGATIVE = np.eye(FEATURES)
NEGATIVE[0, 1] = NEGATIVE[1, 0] = NEGATIVE[0, 2] = NEGATIVE[2, 0] = 0.9
"""Each product by itself is possible; the determinant of the first three rows is negative."""


@pytest.mark.parametrize("what", ["labels", "numbers"])
def test_moments_come_back_and_cost_half_a_matrix(what):
    features, targets = examples(what, 50)
    sums = moments(features, targets)
    data = encode_moments(3, sums)
    count = targets.shape[1]
    got = decode_moments(data, 3, targets=count, features=FEATURES, labels=what == "labels")
    assert torch.equal(got.mean, sums.mean) and torch.equal(got.target, sums.target)
    assert torch.equal(got.scatter, sums.scatter.float().double()) and torch.equal(got.scatter, got.scatter.T)
    assert torch.equal(got.cross, sums.cross.float().double())
    torch.testing.assert_close(got.squares, sums.squares, rtol=1e-14, atol=0)
    assert len(data) - 4 * HALF - 8 * (FEATURES + 2 * count) - 4 * count * FEATURES < 24


def test_great_numbers_come_back():
    features, numbers = examples()
    sums = moments(features, 1e9 * numbers)
    got = decode_moments(encode_moments(3, sums), 3, targets=1, features=FEATURES)
    torch.testing.assert_close(got.squares, sums.squares)


LIES = {
    "cut short": (message()[:-1], "truncated or malformed"),
    "another kind": (b"SPRY\x02\x06" + message()[6:], r"kind 6 \(HEAD_SUMS\), not 9 \(HEAD_MOMENTS\)"),
    "one field more": (message(more=(1,)), "malformed"),
    "another client": (message(client=4), "client 4; expected client 3"),
    "no example": (message(examples=0), "0 examples with 3 targets"),
    "a target more": (message(targets=4), "4 targets; expected at least one example, with 3"),
    "a negative count": (message(examples=-1), "malformed"),
    "a mean of another size": (message(mean=bytes(8)), "mean take 48 bytes; 8 came"),
    "a mean that is NaN": (message(mean=wide(*[np.nan] * FEATURES)), "NaN, infinite or beyond"),
    "targets that are huge": (message(target=wide(0, 0, 1e16)), "NaN, infinite or beyond"),
    "a negative deviation": (message(deviations=wide(0, -0.5, 0)), "deviations are negative"),
    "a whole scatter": (message(scatter=bytes(4 * FEATURES**2)), "scatter take 84 bytes; 144 came"),
    "a negative square": (message(scatter=b"\0\0\x80\xbf" * HALF), "negative sum of squares"),
    "products without squares": (message(cross=cross(_6=1.1)), "cross has products that no examples"),
    "products of what never varies": (message(cross=cross(_0=1e-6)), "cross has products that no examples"),
    "a scatter with a negative direction": (message(scatter=half(*NEGATIVE)), "not positive semidefinite"),
    "features that explain more than there is": (message(cross=cross(_6=0.9, _7=0.9)), "explains more"),
    "half an example": (message(target=wide(0, 0.6, 1)), "target has shares that no examples"),
    "more labels than examples": (message(target=wide(0, 0.5, 1.25)), "target has shares that no examples"),
    "labels that vary too much": (message(deviations=wide(0, 0.6, 0)), "deviations are not those of labels"),
    "a mean of 4 GiB": (START + b"\x98\x03\x04\x03\xc6" + GIGABYTES, "malformed"),
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
    draw, data = np.random.default_rng(0), bytearray(encode_moments(3, moments(*examples("labels", 40))))
    read(bytes(data))
    read(message())
    for _ in range(300):
        damaged = bytearray(data)
        damaged[draw.integers(len(data))] ^= 1 << draw.integers(8)
        try:
            got = read(bytes(damaged))
        except WireError:
            continue
        assert possible(got)


def possible(sums):
    """By numpy's eigenvalues, of features and targets together where there is one of these."""
    parts = (sums.mean, sums.target, sums.scatter, sums.cross, sums.squares)
    assert all(np.isfinite(part.numpy()).all() for part in parts) and sums.examples >= 1
    least = np.linalg.eigvalsh(sums.scatter.numpy()).min()
    return least >= -2e-6 * float(sums.scatter.trace()) - 1e-30


FIELDS = ["client", "examples", "targets", "mean", "target", "deviations", "scatter", "cross"]
WILD = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(data=st.data(), field=st.sampled_from(FIELDS), labels=st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_a_field_says_is_refused_or_possible(data, field, labels):
    count = {
        "mean": FEATURES,
        "target": LABELS,
        "deviations": LABELS,
        "scatter": HALF,
        "cross": FEATURES * LABELS,
    }
    if field in count:
        drawn = data.draw(st.lists(WILD, min_size=count[field], max_size=count[field]))
        value = np.array(drawn, dtype="<f4" if field in {"scatter", "cross"} else "<f8").tobytes()
        value = value[: data.draw(st.sampled_from([len(value), len(value), len(value) - 1]))]
    else:
        value = data.draw(
            st.one_of(st.integers(-5, 2**64 - 1), st.none(), st.binary(max_size=9), st.just(1.5))
        )
    try:
        got = decode_moments(message(**{field: value}), 3, targets=LABELS, features=FEATURES, labels=labels)
    except WireError:
        return
    assert possible(got)
    head = solve_labels(got) if labels else solve_numbers(got)
    assert torch.isfinite(head.weight).all() and torch.isfinite(head.bias).all()


@given(
    features=arrays("f8", st.tuples(st.integers(1, 12), st.just(FEATURES)), elements=st.floats(-1e5, 1e5)),
    scale=st.sampled_from([1e-30, 1e-9, 1.0]),
    offset=st.sampled_from([0.0, 1e4]),
    chosen=st.integers(0, 2**12 - 1),
)
@settings(max_examples=150, deadline=None)
def test_what_examples_have_is_never_refused(features, scale, offset, chosen):
    x = torch.from_numpy(features * scale + offset)
    labels = torch.tensor([[chosen >> place & 1, 1, 0] for place in range(len(x))])
    sums = moments(x, labels)
    assert decode_moments(
        encode_moments(3, sums), 3, targets=LABELS, features=FEATURES, labels=True
    ).examples == len(x)
    pairs = moments(x, x[:, :LABELS])  # targets that features say all of
    assert decode_moments(encode_moments(3, pairs), 3, targets=LABELS, features=FEATURES).examples == len(x)
