"""Feeds every decoder damaged messages: each is refused with a WireError, or says what a whole message could say.

    python -m benchmarks.fuzz [--first 0] [--last 99] [--out benchmarks/results/fuzz.json]

A batch is a seed's 100,000 inputs; batches that the results have are not run again, and processes with other seeds may
share the results. An input is a whole message, some of whose bits, bytes, runs of bytes or fields are replaced, or two
messages in one. What is read has to be finite, and to be the same after it is written and read again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from benchmarks.results_file import locked
from benchmarks.soak_model import Crowd, Layers
from torch import Tensor

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.closed_head.codec import (
    Question,
    decode_head,
    decode_question,
    decode_sums,
    encode_head,
    encode_question,
    encode_sums,
)
from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.moments_codec import decode_moments, encode_moments
from spry.federated.closed_head.sums import HeadSums
from spry.federated.methods import METHODS
from spry.federated.replay.catch_up import receive
from spry.federated.replay.downlink import by_slopes
from spry.federated.secure.masks import SEED_BYTES
from spry.federated.secure.messages import (
    SEALED_BYTES,
    DeliveryFields,
    KeysFields,
    MaskedFields,
    RosterFields,
    SecretsFields,
    SharesFields,
    SurvivorsFields,
    decode_secure,
    encode_secure,
)
from spry.federated.secure.shamir import SHARE_BYTES
from spry.runtime.report import (
    Assignment,
    HeadReport,
    Present,
    Refusal,
    SecureAssignment,
    SecureInvitation,
    TrainingReport,
    decode_message,
    encode_message,
)
from spry.wire.codec import decode_order, decode_reply, encode_order, encode_reply
from spry.wire.messages import Answer

OUT = Path("benchmarks/results/fuzz.json")
KEY = Key(0)
BATCH = 100_000
ENVELOPE = 6
WILD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**16, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, -(2**63), 0.0, float("nan"), float("inf"),
    1e300,
    "", "float32", "../../etc/passwd", b"", bytes(64), b"\xff" * 64, (), (0,), (2**62,) * 3, ((),), {}, {"a": 1},
)  # fmt: skip
"""What a field may be replaced by."""


@dataclass(frozen=True)
class Decoder:
    """A kind of message: whole ones, and how it is read; what is written again of what was read, if it is written."""

    whole: tuple[bytes, ...]
    read: Callable[[bytes], Any]
    written: Callable[[Any], bytes] | None = None


def decoders() -> Mapping[str, Decoder]:
    """Make messages as a run has them, of eight layers and a head."""
    return {**_replies(), **_orders(), **_heads(), **_secure(), **_reports()}


def _replies() -> Mapping[str, Decoder]:
    found: dict[str, Decoder] = {}
    for name, method in (("weights", "fedavg"), ("gradient", "fedsgd"), ("slopes", "spry_per_iteration")):
        algorithm, task = METHODS[method](Layers.units, max_steps=3), Layers()
        order = algorithm.plan(algorithm.init(task.init()), [3], KEY)[3]
        reply = algorithm.train(task.loss, order, Crowd().batches(3, 0, KEY), 8).reply
        found[f"reply of {name}"] = Decoder(
            (encode_reply(reply, order),),
            lambda data, order=order, exact=algorithm.slopes_exact: decode_reply(data, order, exact),
            lambda reply, order=order: encode_reply(reply, order),
        )
    return found


def _orders() -> Mapping[str, Decoder]:
    """Orders with all weights, a guess, or a part; and what lets a client catch up on two rounds."""
    algorithm, task = METHODS.spry_per_iteration(Layers.units, num_directions=2, max_steps=3), Layers()
    state = algorithm.init(task.init())
    sent, asked, known = by_slopes(algorithm), [3, 1], state
    for _ in range(2):
        orders = algorithm.plan(state, asked, KEY)
        answers = [
            Answer(order, algorithm.train(task.loss, order, Crowd().batches(client, 0, KEY), 8).reply)
            for client, order in orders.items()
        ]
        known, state = state, sent.absorb(state, orders, KEY, answers)
    orders = algorithm.plan(state, asked, KEY)
    send, order = sent.send(state, orders, KEY), orders[3]
    whole = (
        encode_order(order),
        encode_order(replace(order, guess=order.weights)),
        encode_order(order, ["head"]),
    )
    return {
        "order": Decoder(whole, lambda data: decode_order(data, order.weights), encode_order),
        "catch-up": Decoder((send(3), send(1)), lambda data: receive(data, algorithm, known)[0]),
    }


def _heads() -> Mapping[str, Decoder]:
    x, classes = KEY.normal("x", (40, 6)).double(), torch.arange(40) % 3
    sums = HeadSums.of(x, classes, 3)
    moments = HeadMoments.of(x, torch.stack([classes > 0, classes > 1], 1), 2)
    head = {"w": torch.ones(3, 6), "b": torch.zeros(3)}
    question = Question(client=7, key=KEY.fold("head", 2), features=6)
    return {
        "question": Decoder((encode_question(question),), decode_question, encode_question),
        "sums of classes": Decoder(
            (encode_sums(3, sums),),
            lambda data: decode_sums(data, 3, classes=3, features=6),
            lambda found: encode_sums(3, found),
        ),
        "sums of labels": Decoder(
            (encode_moments(3, moments),),
            lambda data: decode_moments(data, 3, targets=2, features=6, labels=True),
            lambda found: encode_moments(3, found),
        ),
        "head": Decoder((encode_head(head),), lambda data: decode_head(data, head), encode_head),
    }


def _secure() -> Mapping[str, Decoder]:
    """The seven messages of secure aggregation between three clients."""
    session, public, share, sealed = bytes(8), bytes(SEED_BYTES), bytes(SHARE_BYTES), bytes(SEALED_BYTES)
    whole = (
        KeysFields(session, 3, public, public),
        RosterFields(session, tuple((client, public, public) for client in range(3))),
        SharesFields(session, 3, ((1, sealed), (2, sealed))),
        DeliveryFields(session, ((1, sealed), (2, sealed))),
        MaskedFields(session, 3, bytes(80)),
        SurvivorsFields(session, (1, 3)),
        SecretsFields(session, 3, ((1, share),), ((2, share), (3, share))),
    )
    return {
        f"secure {type(one).__name__.removesuffix('Fields').lower()}": Decoder(
            (encode_secure(one),),
            partial(decode_secure, fields=type(one), session=session),
            encode_secure,
        )
        for one in whole
    }


def _reports() -> Mapping[str, Decoder]:
    """What server and clients elsewhere tell each other around order and reply; a roll call has no fields."""
    told = {"seconds": 1.0, "cpu_seconds": 1.0, "operations": 7}
    measured = {"slowed": False, "peak_bytes": None, "generalized": b"", "personalized": None, "own": False}
    whole = (
        Assignment(order=bytes(9), start=b"", evaluates=True, personalized=False, measures=True),
        TrainingReport(reply=bytes(9), examples=8, steps=2, loss=0.5, **told, **measured),
        HeadReport(sums=bytes(9), **told),
        Present(client=3, examples=8),
        SecureInvitation(session=bytes(8)),
        SecureAssignment(assignment=bytes(9), delivery=bytes(9), clients=3),
        Refusal(reason="no", lost=True),
    )
    return {"report": Decoder(tuple(map(encode_message, whole)), decode_message, encode_message)}


def damaged(draw: np.random.Generator, whole: bytes, other: bytes) -> bytes:
    """Damage a message; ``other`` is one to splice with."""
    kind, data = draw.integers(6), bytearray(whole)
    place = int(draw.integers(len(data)))
    if kind == 0:
        for at in draw.integers(len(data), size=draw.integers(1, 4)):
            data[at] ^= 1 << draw.integers(8)
    elif kind == 1:
        data[place] = draw.integers(256)
    elif kind == 2:
        data[place : place + draw.integers(9)] = draw.bytes(int(draw.integers(9)))
    elif kind == 3:
        del data[place:]
    elif kind == 4:
        data[place:] = other[min(place, len(other)) :]
    else:
        return _with_wild_field(draw, whole)
    return bytes(data)


def _with_wild_field(draw: np.random.Generator, whole: bytes) -> bytes:
    """Replace a field, or one within a field, by what it cannot be, or hardly ever is."""
    fields = msgspec.msgpack.decode(whole[ENVELOPE:])
    node = fields
    while isinstance(node, list) and node:
        at = int(draw.integers(len(node)))
        if not isinstance(node[at], list) or draw.integers(2):
            node[at] = WILD[draw.integers(len(WILD))]
            break
        node = node[at]
    return whole[:ENVELOPE] + msgspec.msgpack.encode(fields)


def inputs(seed: int, made: Mapping[str, Decoder]) -> Iterator[tuple[str, bytes]]:
    """Draw damaged messages without end, each with the name of its decoder."""
    draw, names = KEY.fold("fuzz", seed).generator(), list(made)
    every = [data for decoder in made.values() for data in decoder.whole]
    while True:
        name = names[draw.integers(len(names))]
        own = made[name].whole
        yield name, damaged(draw, own[draw.integers(len(own))], every[draw.integers(len(every))])


def check(decoder: Decoder, data: bytes) -> bool:
    """Read a message; whether it was refused. Any other error than WireError, and what is not finite, is raised."""
    try:
        got = decoder.read(data)
    except WireError:
        return True
    assert all(bool(torch.isfinite(value).all()) for value in _tensors(got)), (
        "a value that is not finite was read"
    )
    if decoder.written is not None:
        again = decoder.written(got)
        assert decoder.written(decoder.read(again)) == again, "what was read is not what is written of it"
    return False


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _tensors(getattr(value, name))


def fuzz(number: int, seed: int) -> dict[str, Any]:
    """Try so many inputs."""
    made, begun, slowest = decoders(), time.monotonic(), 0.0
    tried, refused = Counter[str](), Counter[str]()
    for name, data in islice(inputs(seed, made), number):
        before = time.process_time()
        refused[name] += check(made[name], data)
        tried[name] += 1
        slowest = max(slowest, time.process_time() - before)
    return {
        "seeds": [seed],
        "inputs": number,
        "tried": dict(tried),
        "refused": dict(refused),
        "slowest_seconds": slowest,
        "seconds": time.monotonic() - begun,
    }


def added(before: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
    """Add a batch to what earlier ones gave."""
    if not before:
        return dict(batch)
    return {
        "seeds": sorted([*before["seeds"], *batch["seeds"]]),
        "inputs": before["inputs"] + batch["inputs"],
        "tried": dict(Counter(before["tried"]) + Counter(batch["tried"])),
        "refused": dict(Counter(before["refused"]) + Counter(batch["refused"])),
        "slowest_seconds": max(before["slowest_seconds"], batch["slowest_seconds"]),
        "seconds": before["seconds"] + batch["seconds"],
    }


def main() -> None:
    """Fuzz batch by batch; what a batch gave is written before the next begins."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="seed of the first batch")
    parser.add_argument("--last", type=int, default=99, help="seed of the last batch")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    for seed in range(asked.first, asked.last + 1):
        if seed not in _found(asked.out).get("seeds", []):
            batch = fuzz(BATCH, seed)
            with locked(asked.out):
                found = _found(asked.out)
                write_json(asked.out, {"provenance": provenance(), **added(found, batch)})


def _found(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


if __name__ == "__main__":
    main()
