"""Messages survive the wire to the bit, and damaged ones are refused, each with its own reason."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.core.errors import SpryError, WireError
from spry.core.keys import Key
from spry.wire import codec
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


EXACT = {"slopes": frozenset({NAMES[2]}), "bare slopes": frozenset()}
"""What the algorithms of such replies send exactly beside them."""
KINDS = ["weights", "gradient", "slopes", "bare slopes"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_survives(kind, dtype):
    sent = reply(kind, dtype)
    assert same(
        codec.decode_reply(codec.encode_reply(sent, order(dtype)), order(dtype), EXACT.get(kind)), sent
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("guess", [False, True])
def test_an_order_survives(guess, dtype):
    sent = order(dtype, guess)
    assert same(codec.decode_order(codec.encode_order(sent), tree() | tree(dtype)), sent)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 8), (100, 3)])
def test_slopes_of_any_shape(shape):
    sent, asked = reply("slopes", shape=shape), order(count=shape[1])
    assert same(codec.decode_reply(codec.encode_reply(sent, asked), asked, EXACT["slopes"]), sent)


def test_small_replies_are_small():
    """Envelope, loss and counts take 28 bytes and a slope 4; a tensor's name and shape at most 17."""
    assert len(codec.encode_reply(reply("bare slopes", shape=(1, 1)), order())) == 28 + 4
    assert len(codec.encode_reply(reply("bare slopes", shape=(13, 1)), order())) == 28 + 4 * 13
    weights = sum(4 * tree()[name].numel() for name in order().trained)
    assert len(codec.encode_reply(reply(), order())) <= 28 + weights + 17 * len(order().trained)


def rewrap(data, fields, **changes):
    """The message with other values in some fields, which the types of these may not allow."""
    values = msgspec.msgpack.decode(data[6:])
    for name, value in changes.items():
        values[fields.__struct_fields__.index(name)] = value
    return data[:6] + msgspec.msgpack.encode(values)


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
HEAD = GOOD["weights"][:6]
PACKED = [[0, "float32", [1, 6], bytes(24)], [1, "float32", [3], bytes(12)]]
"""The tensors of a reply as they travel."""


def weights(**changes):
    return rewrap(GOOD["weights"], codec.ReplyFields, **changes)


def bare(**changes):
    return rewrap(GOOD["bare slopes"], codec.SlopesFields, **changes)


def first(place, value):
    """Two tensors, of which the first has another value at a place."""
    return weights(tensors=[[value if i == place else old for i, old in enumerate(PACKED[0])], PACKED[1]])


BAD = {
    "empty": (b"", "truncated"),
    "not ours": (b"HTTP" + GOOD["weights"][4:], "not one of Spry's"),
    "older version": (b"SPRY\x01" + GOOD["weights"][5:], "version 1; this Spry speaks version 2. Update"),
    "other kind": (b"SPRY\x02\x63" + GOOD["weights"][6:], "kind 99; known are 0"),
    "an order": (codec.encode_order(order()), "ORDER. is not a reply"),
    "no fields": (HEAD, "truncated"),
    "fields of another kind": (b"SPRY\x02\x03" + GOOD["weights"][6:], "at least length 8"),
    "fields with names": (HEAD + msgspec.msgpack.encode({"round": 12}), "Expected `array`"),
    "one field more": (HEAD + msgspec.msgpack.encode([12, 345, 1, 0.0, 1, [], 7]), "at most length 6"),
    "one field less": (HEAD + msgspec.msgpack.encode([12, 345, 1, 0.0, 1]), "at least length 6"),
    "bytes after the fields": (GOOD["weights"] + b"\0", "trailing"),
    "deep fields": (HEAD + b"\x91" * 200_000, "malformed"),
    "other round": (weights(round=13), "round 13"),
    "other client": (weights(client=1), "client 1"),
    "negative count": (weights(examples=-1), "examples"),
    "boolean count": (weights(examples=True), "`int`, got `bool` - at `examples"),
    "real count": (weights(examples=380.0), "`int`, got `float` - at `examples"),
    "NaN loss": (weights(loss=float("nan")), "loss is nan"),
    "a loss beyond float32": (weights(loss=1e300), "loss is 1e.300"),
    "infinite loss": (bare(loss=float("inf")), "loss is inf"),
    "NaN count": (weights(steps=float("nan")), "`int`, got `float` - at `steps"),
    "absurd count": (weights(round=2**64 - 1), "round"),
    "absurd examples": (weights(examples=2**32 + 1), "<= 4294967296 - at `examples"),
    "absurd steps": (weights(steps=2**20 + 1), "<= 1048576 - at `steps"),
    "steps that nobody told of": (weights(steps=2**16 + 1), "65537 local steps; ordered were at most 65536"),
    "absurd directions": (bare(num_directions=2**62), "num_directions"),
    "no directions though weights are measured": (
        bare(num_directions=0, slopes=b""),
        "0 directions; ordered were 1",
    ),
    "a slope whose square is infinite": (nan_slopes(1e16), "beyond 1e.15"),
    "a weight whose square is infinite": (wrong({NAMES[0]: torch.full((1, 6), -1e16)}), "beyond 1e.15"),
    "too few slopes": (bare(steps=14), "14 slopes take 56 or 112 bytes; 52 came"),
    "too many slopes": (bare(steps=12), "12 slopes take 48 or 96 bytes; 52 came"),
    "slopes without steps": (bare(steps=0), "0 slopes take 0"),
    "slopes that are text": (bare(slopes="many"), "Expected `bytes`"),
    "NaN slope": (nan_slopes(float("nan")), "NaN, infinite"),
    "infinite slope": (nan_slopes(float("inf")), "NaN, infinite"),
    "truncated weights": (GOOD["weights"][:-3], "truncated"),
    "not asked for": (wrong(tree()), "must be"),
    "unknown place": (first(0, 2**40), "tensor 1099511627776 was not asked for"),
    "twice": (first(0, 1), "must be"),
    "twice alike": (weights(tensors=[PACKED[0], PACKED[0], PACKED[1]]), "lora_A.default.weight came twice"),
    "missing weights": (weights(tensors=PACKED[:1]), "lacks 1"),
    "wrong shape": (wrong({NAMES[0]: torch.zeros(2, 3)}), "must be"),
    "shape of many dimensions": (first(2, [1] * 9), "length <= 8"),
    "wrong dtype": (wrong({NAMES[0]: torch.zeros(1, 6, dtype=torch.float64)}), "must be"),
    "dtype of the same width": (wrong({NAMES[0]: torch.zeros(1, 6, dtype=torch.int32)}), "must be"),
    "unknown dtype": (first(1, "F4"), "must be"),
    "short tensor": (first(3, bytes(23)), "23 bytes are not"),
    "NaN weights": (wrong({NAMES[0]: torch.full((1, 6), float("nan"))}), "NaN, infinite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_replies_are_refused(name):
    data, says = BAD[name]
    with pytest.raises(WireError, match=says):
        codec.decode_reply(data, order(), frozenset() if data[5:6] == b"\x03" else None)


def test_orders_are_checked_too():
    good = codec.encode_order(order())
    for changes, says in (
        ({"trained": [0, 9]}, "trained weights at place 9; places are 0 to 2"),
        ({"trained": [0, 0]}, "come twice"),
        ({"seed": "seed"}, "seed"),
        ({"path": [None]}, "path"),
        ({"path": ["a"] * 65}, "length <= 64 - at `path"),
        ({"num_directions": 2**16 + 1}, "num_directions"),
        ({"max_steps": "many"}, "max_steps"),
        ({"group": -1}, "group"),
        ({"weights": PACKED[:1]}, "lacks 2"),
        ({"guess": PACKED}, "must be"),
    ):
        with pytest.raises(WireError, match=says):
            codec.decode_order(rewrap(good, codec.OrderFields, **changes), tree())
    for data, says in ((good[:-5], "truncated"), (GOOD["weights"], "WEIGHTS. is not an order")):
        with pytest.raises(WireError, match=says):
            codec.decode_order(data, tree())
    with pytest.raises(WireError, match="lacks"):
        codec.decode_order(good, {**tree(), "more": torch.zeros(1)})


@pytest.mark.parametrize(
    ("shape", "limits", "says"),
    [
        ((1, 1000), {}, "1000 directions; ordered were 1"),
        ((1, 1), {"num_directions": 2}, "1 directions; ordered were 2"),
        ((1, 2), {"num_directions": 1}, "2 directions; ordered were 1"),
        ((14, 1), {"max_steps": 13}, "14 local steps; ordered were at most 13"),
        ((14, 0), {"max_steps": 13}, "14 local steps; ordered were at most 13"),
    ],
)
def test_slopes_that_nobody_ordered_are_refused(shape, limits, says):
    data, asked = codec.encode_reply(reply("bare slopes", shape=shape), order()), replace(order(), **limits)
    with pytest.raises(WireError, match=says):
        codec.decode_reply(data, asked, frozenset())


def test_more_local_steps_than_ordered_are_refused_for_weights_too():
    asked = replace(order(), max_steps=12)
    with pytest.raises(WireError, match="13 local steps; ordered were at most 12"):
        codec.decode_reply(codec.encode_reply(reply("weights"), asked), asked)


def test_a_client_with_nothing_to_perturb_sends_no_slopes():
    sent = replace(reply("weights"), payload=Slopes(torch.zeros(13, 0), reply("weights").payload.values))
    assert same(codec.decode_reply(codec.encode_reply(sent, order()), order(), frozenset(NAMES)), sent)


KINDS_ORDERED = [
    ("bare slopes", None, "SLOPES.; ordered were weights"),
    ("weights", frozenset(), "WEIGHTS.; ordered were slopes"),
    ("gradient", frozenset(), "GRADIENT.; ordered were slopes"),
    ("slopes", frozenset(), "not asked for"),  # what others replay has no weights that slopes determine
    ("bare slopes", frozenset({NAMES[2]}), "lacks 1 of the weights"),
]


@pytest.mark.parametrize(("kind", "exact", "says"), KINDS_ORDERED)
def test_what_another_algorithm_would_send_is_refused(kind, exact, says):
    with pytest.raises(WireError, match=says):
        codec.decode_reply(GOOD[kind], order(), exact)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=10), st.integers(0, 5))
def test_fuzzed_fields_are_read_or_refused_and_nothing_else(values, kind):
    data = b"SPRY\x02" + bytes([kind]) + msgspec.msgpack.encode(values)
    for exact in (None, frozenset(), EXACT["slopes"]):
        with contextlib.suppress(SpryError):
            codec.decode_reply(data, order(), exact)
    with contextlib.suppress(SpryError):
        codec.decode_order(data, tree())
