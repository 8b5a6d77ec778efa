"""Past rounds as bytes, and the message that lets a client catch up on them.

A round holds who was asked, then each reply that counted: the place of its client among those asked, its examples, its
steps; then the slopes of all. Who trained what, and along which and how many directions, follows from the algorithm and
the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import Params
from spry.wire.codec import DIGEST_BYTES, MAX_EXAMPLES, Path, check_steps, distinct
from spry.wire.frame import Count, Fields, Kind, decode_fields, decode_frame, encode_frame, read_kind
from spry.wire.messages import Answer, Order, Reply, Slopes
from spry.wire.slopes import decode_slopes, encode_slopes
from spry.wire.tensors import TensorFields, decode_tensors, encode_tensors

MAX_ASKED = 1 << 16
MAX_ROUNDS = 1 << 16
"""Each costs the client a plan and a step of the server, even if nobody replied."""

Asked = Annotated[tuple[Count, ...], Meta(max_length=MAX_ASKED)]


class Recorded(NamedTuple):
    """What it takes to replay a reply: its client's place among those asked, its examples, and slopes (steps, K)."""

    place: int
    examples: int
    slopes: Tensor


class RoundFields(Fields):
    """A past round; ``counts`` has place, examples and steps of each reply, as they were absorbed."""

    asked: Asked
    counts: tuple[Count, ...]
    slopes: bytes


class CatchUpFields(Fields):
    """A catch-up; each of its rounds is read when it is replayed."""

    client: Count
    seed: int
    path: Path
    since: Count
    rounds: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MAX_ROUNDS)]
    asked: Asked
    exact: tuple[TensorFields, ...]
    digest: Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


@dataclass(frozen=True, kw_only=True)
class CatchUp:
    """What a client is sent in place of an order's weights if it knows an earlier round: all that happened since.

    Args:
        client: Whom it is for.
        key: The run's key, from which those of all orders follow.
        since: The round at whose start the client knows the server's state.
        rounds: What each round since then was, as ``encode_round`` wrote it.
        asked: The clients of the round that begins now, in the order in which they were asked.
        exact: The weights that no slopes determine, as they are now.
        digest: Of all weights as they are now, for the client to compare with.
    """

    client: int
    key: Key
    since: int
    rounds: tuple[bytes, ...]
    asked: tuple[int, ...]
    exact: Params
    digest: bytes

    @property
    def round(self) -> int:
        """The round that begins now."""
        return self.since + len(self.rounds)


def encode_round(asked: Sequence[int], replies: Sequence[Recorded]) -> bytes:
    """Write a round: its clients in the order in which they were asked, its replies as they were absorbed."""
    counts: list[int] = []
    for place, examples, slopes in replies:
        steps = len(slopes) if slopes.numel() else 0  # without slopes there is nothing to replay
        counts += (place, examples, steps)
    every = torch.cat([reply.slopes.flatten() for reply in replies]) if replies else torch.zeros(0)
    fields = RoundFields(asked=tuple(asked), counts=tuple(counts), slopes=encode_slopes(every))
    return msgspec.msgpack.encode(fields)


def decode_round(data: bytes) -> RoundFields:
    """Read a round; one that is malformed, asks nobody, or has a client twice is a WireError."""
    fields = decode_fields(data, RoundFields)
    if not fields.asked or len(set(fields.asked)) != len(fields.asked):
        raise WireError(
            f"message has a round that asks {len(fields.asked)} clients; they must be some, all different"
        )
    if len(fields.counts) % 3:
        raise WireError(f"message has a round with {len(fields.counts)} counts; each reply has 3")
    distinct(fields.counts[::3], len(fields.asked), "replies")
    return fields


def decode_answers(fields: RoundFields, orders: Sequence[Order]) -> list[Answer]:
    """Read the replies of a round that counted; their losses were not sent.

    ``orders`` are those of the clients that were asked, in the same order. Other slopes than were ordered, or some that
    are not finite, are a WireError.
    """
    counts = fields.counts
    replies = [
        (orders[place], examples, steps)
        for place, examples, steps in zip(counts[::3], counts[1::3], counts[2::3], strict=True)
    ]
    for order, examples, steps in replies:
        check_steps(steps, order)
        if examples > MAX_EXAMPLES:
            raise WireError(f"reply has {examples} examples; at most {MAX_EXAMPLES} are allowed")
    sizes = [steps * order.num_directions for order, _, steps in replies]
    parts = decode_slopes(fields.slopes, sum(sizes)).split(sizes)
    return [
        Answer(order, _reply(order, examples, part.reshape(steps, order.num_directions)))
        for (order, examples, steps), part in zip(replies, parts, strict=True)
    ]


def _reply(order: Order, examples: int, slopes: Tensor) -> Reply:
    return Reply(
        round=order.round,
        client=order.client,
        examples=examples,
        payload=Slopes(slopes),
        steps=len(slopes),
        loss=float("nan"),
    )


def encode_catch_up(message: CatchUp, names: Sequence[str]) -> bytes:
    """Write what a client needs to catch up; ``names`` are the model's trainable weights, which both sides know."""
    fields = CatchUpFields(
        client=message.client,
        seed=message.key.seed,
        path=message.key.path,
        since=message.since,
        rounds=tuple(msgspec.Raw(data) for data in message.rounds),
        asked=message.asked,
        exact=encode_tensors(message.exact, names),
        digest=message.digest,
    )
    return encode_frame(Kind.CATCH_UP, fields)


def decode_catch_up(data: bytes, like: Params) -> CatchUp:
    """Read what a client needs to catch up; the rounds are read when they are replayed.

    ``like`` has the names, shapes, dtypes and devices of the model's trainable weights. A message that does not fit
    them, or is malformed, is a WireError.
    """
    kind = read_kind(data)
    if kind is not Kind.CATCH_UP:
        raise WireError(f"message of kind {kind} ({kind.name}) is not for catching up")
    fields = decode_frame(data, CatchUpFields)
    return CatchUp(
        client=fields.client,
        key=Key(fields.seed, fields.path),
        since=fields.since,
        rounds=tuple(bytes(one) for one in fields.rounds),
        asked=fields.asked,
        exact=decode_tensors(fields.exact, like, list(like)),
        digest=fields.digest,
    )
