"""The server's log of the last rounds, as the bytes in which clients are told of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.federated.algorithm import Algorithm
from spry.federated.replay.codec import MAX_ASKED, MAX_ROUNDS, Recorded, encode_round
from spry.wire.codec import MAX_DIRECTIONS, MAX_STEPS, encode_order
from spry.wire.messages import Answer, Order, Slopes

KNOWN = "known"
"""The name in the log's slot of who knows which round; the others are rounds."""
KEY_BYTES = 256
"""Room for the run's key in a message."""


def max_order_bytes(algorithm: Algorithm, weights: Params) -> int:
    """Bound what an order with all weights takes, whatever the round and client: a longer message is never sent."""
    largest = Order(
        round=2**62,
        client=2**62,
        weights=weights,
        trained=tuple(weights),
        key=Key(0),
        num_directions=MAX_DIRECTIONS,
        max_steps=MAX_STEPS,
        guess=weights if algorithm.guesses else None,
        group=MAX_DIRECTIONS,
    )
    return len(encode_order(largest)) + KEY_BYTES


class Recorder:
    """Writes a round down as it is absorbed, reply by reply, while it takes no more than ``max_bytes``.

    ``asked`` has the clients of the round, in the order in which they were asked.
    """

    def __init__(self, asked: tuple[int, ...], max_bytes: int) -> None:
        self.answered: list[int] = []
        self._asked, self._max_bytes, self._slope_bytes = asked, max_bytes, 0
        self._replies: list[Recorded] = []

    def watch(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Write down what passes: orders and replies of slopes."""
        places = {client: place for place, client in enumerate(self._asked)}
        for order, reply in answers:
            assert isinstance(reply.payload, Slopes)  # only methods whose replies are slopes are logged
            self.answered.append(order.client)
            self._slope_bytes += reply.payload.slopes.nbytes
            if self._slope_bytes <= self._max_bytes:
                self._replies.append(Recorded(places[order.client], reply.examples, reply.payload.slopes))
            else:
                self._replies.clear()
            yield Answer(order, reply)

    def round(self) -> bytes | None:
        """Read the round; None if its bytes are too many to be of use."""
        if self._slope_bytes > self._max_bytes or len(self._asked) > MAX_ASKED:
            return None
        data = encode_round(self._asked, self._replies)
        return data if len(data) <= self._max_bytes else None


@dataclass(frozen=True, kw_only=True)
class Log:
    """The last rounds as bytes, without a gap, and the last round that each client is known to know."""

    known: Mapping[int, int]
    rounds: Mapping[int, bytes]

    @classmethod
    def read(cls, slot: Mapping[str, Tensor]) -> Log:
        """Read what ``write`` returned, or the empty slot of the beginning."""
        rounds = {int(n): data.cpu().numpy().tobytes() for n, data in slot.items() if n != KNOWN}
        return cls(known=dict(slot[KNOWN].tolist() if KNOWN in slot else []), rounds=rounds)

    def write(self) -> dict[str, Tensor]:
        """Write the log as a slot of the server's memory."""
        known = torch.tensor(list(self.known.items()), dtype=torch.int64).reshape(-1, 2)
        rounds = {
            str(n): torch.frombuffer(bytearray(data), dtype=torch.uint8) for n, data in self.rounds.items()
        }
        return {KNOWN: known, **rounds}

    def since(self, round: int, now: int) -> tuple[bytes, ...] | None:
        """List the rounds from ``round`` until the one that begins now; None if they are not all there, or too many."""
        wanted = range(round, now)
        there = len(wanted) <= MAX_ROUNDS and self.rounds.keys() >= set(wanted)
        return tuple(self.rounds[n] for n in wanted) if there else None

    def after(self, number: int, data: bytes | None, knowing: Iterable[int], max_bytes: int) -> Log:
        """Add a round, and drop the oldest rounds beyond ``max_bytes``.

        ``data`` is None if its bytes are too many to be of use. The clients in ``knowing`` have shown that they know
        its start.
        """
        known = {**self.known, **dict.fromkeys(knowing, number)}
        if data is None:
            return Log(known=known, rounds={})
        rounds = {**self.rounds, number: data}
        while sum(map(len, rounds.values())) > max_bytes:
            del rounds[min(rounds)]
        return Log(known=known, rounds=rounds)
