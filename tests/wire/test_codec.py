"""Messages survive the wire to the bit, and damaged ones are refused, each with its own reason."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.core.errors import SpryError, WireError
from spry.core.keys import Key
from spry.wire import codec, frame
from spry.wire.messages import Gradient, Order, Reply, Slopes, Weights

NAMES = ("base_model.layer.0.lora_A.default.weight", "base_model.layer.0.lora_B.default.weight", "head.bias")


def tree(dtype=torch.float32, seed=0):
    shapes = dict(zip(NAMES, [(1, 6), (4, 1), (3,)], strict=True))
    return {name: Key(seed).normal(name, shape).to(dtype) for name, shape in shapes.items()}


def order(dtype=torch.float32, guess=False, count=1):
    return Order(
        round=12,
        client=345,
        weights=tree(dtype),
        trained=(NAMES[0], NAMES[2]),
        key=Key(7).fold("round", 12, "client", 345),
        guess={NAMES[0]: tree(dtype, 1)[NAMES[0]]} if guess else None,
        num_directions=count,
        max_steps=13 if guess else None,
        group=int(guess),
    )


def reply(kind="weights", dtype=torch.float32, shape=(13, 1)):
    values = {name: tree(dtype, 2)[name] for name in order().trained}
    slopes = torch.randn(shape, dtype=torch.float64).to(
        torch.float64 if dtype == torch.float64 else torch.float32
    )
    payload = {
        "weights": Weights(values),
        "gradient": Gradient(values),
        "slopes": Slopes(slopes, {NAMES[2]: values[NAMES[2]]}),
        "bare slopes": Slopes(slopes),
    }[kind]
    return Reply(round=12, client=345, examples=380, payload=payload, steps=shape[0], loss=0.1)


def same(left, right):
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[n], right[n]) for n in left)
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if hasattr(left, "__dataclass_fields__"):
        return type(left) is type(right) and all(
            same(getattr(left, f), getattr(right, f)) for f in left.__dataclass_fields__
        )
    return left == right


KINDS = ["weights", "gradient", "slopes", "bare slopes"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_survives(kind, dtype):
    sent = reply(kind, dtype)
    assert same(codec.decode_reply(codec.encode_reply(sent, order(dtype)), order(dtype)), sent)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("guess", [False, True])
def test_an_order_survives(guess, dtype):
    sent = order(dtype, guess)
    assert same(codec.decode_order(codec.encode_order(sent), tree() | tree(dtype)), sent)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 8), (100, 3)])
def test_slopes_of_any_shape(shape):
    sent, asked = reply("slopes", shape=shape), order(count=shape[1])
    assert same(codec.decode_reply(codec.encode_reply(sent, asked), asked), sent)


def test_small_replies_are_small():
    assert len(codec.encode_reply(reply("bare slopes", shape=(13, 1)), order())) < 200
    assert len(codec.encode_reply(reply("bare slopes", shape=(1, 1)), order())) < 64


def rewrap(data, **changes):
    parts = frame.unpack(data)
    return frame.pack(parts.kind, {**parts.header, **changes}, bytes(parts.body))


def nan_slopes(value):
    sent = reply("bare slopes")
    sent.payload.slopes[3, 0] = value
    return codec.encode_reply(sent, order())


def wrong(values):
    return codec.encode_reply(
        Reply(round=12, client=345, examples=1, payload=Weights(values), steps=1, loss=0.0),
        Order(round=12, client=345, weights=tree(), trained=NAMES, key=Key(0)),
    )


GOOD = {kind: codec.encode_reply(reply(kind), order()) for kind in KINDS}
BAD = {
    "empty": (b"", "truncated"),
    "not ours": (b"HTTP" + GOOD["weights"][4:], "not one of Spry's"),
    "other version": (b"SPRY\x02" + GOOD["weights"][5:], "version 2"),
    "other kind": (b"SPRY\x01\x63" + GOOD["weights"][6:], "not a reply"),
    "an order": (codec.encode_order(order()), "not a reply"),
    "gigabyte header": (b"SPRY\x01\x01\xff\xff\xff\x7f" + b"{}", "asks for"),
    "header is no JSON": (frame.PREFIX.pack(b"SPRY", 1, 1, 3) + b"{]}", "not JSON"),
    "deep header": (frame.PREFIX.pack(b"SPRY", 1, 1, 200_000) + b"[" * 200_000, "not JSON"),
    "header is a list": (frame.PREFIX.pack(b"SPRY", 1, 1, 2) + b"[]", "not an object"),
    "other round": (rewrap(GOOD["weights"], r=13), "round 13"),
    "other client": (rewrap(GOOD["weights"], c=1), "client 1"),
    "negative count": (rewrap(GOOD["weights"], n=-1), "n = -1"),
    "boolean count": (rewrap(GOOD["weights"], n=True), "n = True"),
    "absurd examples": (rewrap(GOOD["weights"], n=1 << 62), "n = 4611686018427387904"),
    "absurd steps": (rewrap(GOOD["weights"], t=1 << 24), "t = 16777216"),
    "absurd steps without slopes": (rewrap(GOOD["bare slopes"], s=[1 << 24, 0]), "1048576 steps"),
    "absurd slopes": (rewrap(GOOD["bare slopes"], s=[10**9, 10**9]), "claims"),
    "absurd empty slopes": (rewrap(GOOD["bare slopes"], s=[10**12, 0]), "claims"),
    "slopes of no shape": (rewrap(GOOD["bare slopes"], s="many"), "steps, K"),
    "too few slopes": (rewrap(GOOD["bare slopes"], s=[14, 1]), "truncated"),
    "NaN slope": (nan_slopes(float("nan")), "NaN or infinite slopes"),
    "infinite slope": (nan_slopes(float("inf")), "NaN or infinite slopes"),
    "truncated weights": (GOOD["weights"][:-3], "damaged"),
    "not asked for": (wrong(tree()), "not asked for"),
    "missing weights": (wrong({NAMES[0]: tree()[NAMES[0]]}), "lacks 1"),
    "wrong shape": (wrong({NAMES[0]: torch.zeros(2, 3)}), "must be"),
    "wrong dtype": (wrong({NAMES[0]: torch.zeros(1, 6, dtype=torch.float64)}), "must be"),
    "NaN weights": (wrong({NAMES[0]: torch.full((1, 6), float("nan"))}), "NaN or infinite values"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_replies_are_refused(name):
    data, says = BAD[name]
    asked = (
        order()
        if name not in {"missing weights"}
        else Order(round=12, client=345, weights=tree(), trained=NAMES[:2], key=Key(0))
    )
    with pytest.raises(WireError, match=says):
        codec.decode_reply(data, asked)


def test_orders_are_checked_too():
    good = codec.encode_order(order())
    for data, says in (
        (rewrap(good, w=[0, 9]), "place from 0 to 2"),
        (rewrap(good, k=["seed"]), "seed"),
        (rewrap(good, k=None), "key"),
        (rewrap(good, d=10**9), "d = 1000000000"),
        (rewrap(good, m="many"), "m = 'many'"),
        (rewrap(good, g=-1), "g = -1"),
        (good[:-5], "truncated|damaged"),
        (GOOD["weights"], "not an order"),
    ):
        with pytest.raises(WireError, match=says):
            codec.decode_order(data, tree())
    with pytest.raises(WireError, match="lacks"):
        codec.decode_order(good, {**tree(), "more": torch.zeros(1)})


def damaged(good, data):
    """A message with some bytes changed, whole and cut short."""
    message = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    return bytes(message), bytes(message[: data.draw(st.integers(0, len(message)))])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_fuzzed_bytes_are_read_or_refused_and_nothing_else(kind, data):
    for sent in damaged(GOOD[kind], data):
        with contextlib.suppress(SpryError):
            codec.decode_reply(sent, order())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_fuzzed_orders_are_read_or_refused_and_nothing_else(data):
    for sent in damaged(codec.encode_order(order(guess=True)), data):
        with contextlib.suppress(SpryError):
            codec.decode_order(sent, tree())


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("rcnst"), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()))
    )
)
def test_fuzzed_headers_are_read_or_refused_and_nothing_else(header):
    text = json.dumps(header).encode()
    for kind in range(6):
        with contextlib.suppress(SpryError):
            codec.decode_reply(frame.PREFIX.pack(b"SPRY", 1, kind, len(text)) + text + b"\0" * 40, order())


@pytest.mark.parametrize(
    ("shape", "limits"),
    [((1, 1000), {"count": 1}), ((1, 1), {"count": 2}), ((10**6, 1), {}), ((14, 1), {"max_steps": 13})],
)
def test_slopes_that_nobody_ordered_are_refused_before_they_are_read(shape, limits):
    """Replaying them would cost the server their directions: 2^20 steps of 2^4 are hours."""
    asked = replace(order(count=limits.get("count", 1)), max_steps=limits.get("max_steps", 13))
    data = rewrap(codec.encode_reply(reply("bare slopes", shape=(1, 1)), asked), s=list(shape))
    tracemalloc.start()
    with pytest.raises(WireError, match="ordered were at most"):
        codec.decode_reply(data, asked)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_more_local_steps_than_ordered_are_refused_for_weights_too():
    asked = replace(order(), max_steps=12)
    with pytest.raises(WireError, match="t = 13"):
        codec.decode_reply(codec.encode_reply(reply("weights"), asked), asked)
