"""Damaged messages of every kind: refused with a WireError, or read as something that a whole message could say."""

from __future__ import annotations

import contextlib
from itertools import islice

import msgspec
import pytest
from benchmarks.fuzz import ENVELOPE, check, decoders, inputs
from benchmarks.soak_model import Layers
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.core.errors import WireError
from spry.federated.methods import METHODS
from spry.federated.secure.masks import SEED_BYTES
from spry.federated.secure.party import SecureClient
from spry.federated.secure.party_state import decode_party, encode_party
from spry.runtime.known import decode_known, encode_known
from spry.runtime.node_memory import NodeMemory

DECODERS = decoders()
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.binary(max_size=80),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4), max_leaves=6)


@pytest.mark.parametrize("name", DECODERS)
def test_whole_messages_are_read(name):
    assert not any(check(DECODERS[name], data) for data in DECODERS[name].whole)


def test_no_damage_is_more_than_a_refusal():
    refused = [check(DECODERS[name], data) for name, data in islice(inputs(1, DECODERS), 6000)]
    assert 0.5 < sum(refused) / len(refused) < 0.95


@given(name=st.sampled_from(list(DECODERS)), data=st.data())
@settings(max_examples=800, deadline=None)
def test_no_value_of_a_field_is_more_than_a_refusal(name, data):
    whole = data.draw(st.sampled_from(DECODERS[name].whole))
    fields = msgspec.msgpack.decode(whole[ENVELOPE:])
    place = data.draw(st.integers(0, len(fields) - 1))
    inner = fields[place]
    if isinstance(inner, list) and inner and data.draw(st.booleans()):
        inner[data.draw(st.integers(0, len(inner) - 1))] = data.draw(VALUES)
    else:
        fields[place] = data.draw(VALUES)
    check(DECODERS[name], whole[:ENVELOPE] + msgspec.msgpack.encode(fields))


@given(name=st.sampled_from(list(DECODERS)), data=st.data())
@settings(max_examples=800, deadline=None)
def test_no_bytes_are_more_than_a_refusal(name, data):
    whole = data.draw(st.sampled_from(DECODERS[name].whole))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 16, len(whole))))
    check(DECODERS[name], whole[:start] + data.draw(st.binary(max_size=16)) + whole[end:])


def memories():
    """What a client keeps between two messages, and how it is read."""
    state = METHODS.fedyogi(Layers.units).init(Layers().init())
    party = SecureClient(3, bytes(8), seed=bytes(SEED_BYTES))
    return {
        "the state that it was told": (encode_known(state), lambda data: decode_known(data, state)),
        "its part in a session": (encode_party(party), decode_party),
        "its memory": (NodeMemory(state=b"state", party=b"party", secret=bytes(40)).write(), NodeMemory.read),
    }


@pytest.mark.parametrize("name", memories())
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_memory_is_no_more_than_a_refusal(name, data):
    whole, read = memories()[name]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 16, len(whole))))
    damaged = whole[:start] + data.draw(st.binary(max_size=16)) + whole[end:]
    with contextlib.suppress(WireError):
        read(damaged)


def test_reading_a_message_opens_no_file(monkeypatch):
    """Whatever a client calls things, nothing that it says is the name of a file."""

    def refuse(*given, **more):
        raise AssertionError(f"opened {given}")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("os.open", refuse)
    for name, data in islice(inputs(2, DECODERS), 1000):
        check(DECODERS[name], data)
