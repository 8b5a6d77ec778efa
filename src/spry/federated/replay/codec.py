"""Past rounds as bytes, and the message that lets a client catch up on them.

A round holds who was asked, then each reply that counted: the place of its client among those asked, its examples, how
wide its slopes are, its steps and K, then the slopes. Who trained what, and along which directions, follows from the
algorithm and the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import Params
from spry.wire import frame, tensors, varint
from spry.wire import slopes as slopes_wire
from spry.wire.codec import read_key
from spry.wire.messages import Reply, Slopes


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


CATCH_UP = 5
"""The kind of message, after the order and the four kinds of reply."""
DIGEST_BYTES = 8


def encode_reply(reply: Reply, place: int) -> bytes:
    """Write what it takes to replay a reply.

    Args:
        reply: A reply of slopes; what it found exactly is left out.
        place: Its client's place among those asked.

    Returns:
        Its part of the round.
    """
    assert isinstance(reply.payload, Slopes)  # only methods whose replies are slopes are logged
    slopes = reply.payload.slopes
    counts = (place, reply.examples, slopes_wire.width(slopes), *slopes.shape)
    return varint.pack(counts) + slopes_wire.pack(slopes)


def encode_round(asked: Sequence[int], replies: Iterable[bytes]) -> bytes:
    """Write a round.

    Args:
        asked: Its clients, in the order in which they were asked.
        replies: What ``encode_reply`` wrote, in the order in which the server absorbed them.

    Returns:
        The bytes.
    """
    return varint.pack([len(asked), *asked]) + b"".join(replies)


def decode_round(data: bytes, round: int) -> tuple[list[int], list[Reply]]:
    """Read a round.

    Args:
        data: What ``encode_round`` wrote.
        round: Which round it is.

    Returns:
        Its clients in the order in which they were asked, and the replies that counted; their losses were not sent.

    Raises:
        WireError: If it is truncated or malformed, or has slopes that are absurdly many or not finite.
    """
    reader, replies = varint.Reader(data), list[Reply]()
    asked = reader.counts()
    while reader:
        client = asked[reader.count(most=len(asked) - 1)]
        examples, width, *shape = (reader.count() for _ in range(4))
        if width not in slopes_wire.WIDTHS:
            raise WireError(f"round {round} has slopes of {width} bytes; they have 4 or 8")
        slopes = slopes_wire.unpack(reader.take(slopes_wire.nbytes(shape, width)), shape, width)
        replies.append(
            Reply(
                round=round,
                client=client,
                examples=examples,
                payload=Slopes(slopes),
                steps=shape[0],
                loss=float("nan"),
            )
        )
    return asked, replies


def encode_catch_up(message: CatchUp, names: Sequence[str]) -> bytes:
    """Write what a client needs to catch up.

    Args:
        message: The message.
        names: The model's trainable weights, which both sides know.

    Returns:
        The bytes.
    """
    header = {
        "c": message.client,
        "k": [message.key.seed, *message.key.path],
        "s": message.since,
    }
    asked = varint.pack([len(message.asked), *message.asked])
    rounds = b"".join(varint.pack([len(data)]) + data for data in message.rounds)
    body = message.digest + asked + varint.pack([len(message.rounds)]) + rounds
    return frame.pack(CATCH_UP, header, body + tensors.pack(message.exact, names))


def decode_catch_up(data: bytes, like: Params) -> CatchUp:
    """Read what a client needs to catch up; the rounds are read when they are replayed.

    Args:
        data: The message.
        like: The model's trainable weights, for names, shapes, dtypes and devices.

    Returns:
        The message.

    Raises:
        WireError: If it is truncated or malformed, or does not fit the model.
    """
    kind, header, body = frame.unpack(data)
    if kind != CATCH_UP:
        raise WireError(f"message of kind {kind} is not for catching up")
    reader = varint.Reader(body)
    digest, asked = reader.take(DIGEST_BYTES), tuple(reader.counts())
    number = reader.count(most=len(body))
    return CatchUp(
        client=frame.count(header, "c"),
        key=read_key(header),
        since=frame.count(header, "s"),
        rounds=tuple(reader.take(reader.count()) for _ in range(number)),
        asked=asked,
        exact=tensors.unpack(reader.rest(), like, list(like)),
        digest=digest,
    )
