"""The server's log of the last rounds, as the bytes in which clients are told of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spry.federated.replay.codec import encode_reply, encode_round
from spry.wire.messages import Answer

KNOWN = "known"
"""The name in the log's slot of who knows which round; the others are rounds."""


class Recorder:
    """Writes a round down as it is absorbed, reply by reply, while it is worth keeping.

    Args:
        asked: The clients of the round, in the order in which they were asked.
        most: Bytes beyond which it is not.
    """

    def __init__(self, asked: tuple[int, ...], most: int) -> None:
        self.answered: list[int] = []
        self._asked, self._most, self._size = asked, most, 0
        self._replies: list[bytes] = []

    def watch(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Write down what passes.

        Args:
            answers: Orders and replies of slopes.

        Yields:
            The same.
        """
        places = {client: place for place, client in enumerate(self._asked)}
        for answer in answers:
            client = answer.order.client
            self.answered.append(client)
            if self._size <= self._most:
                self._replies.append(encode_reply(answer.reply, places[client]))
                self._size += len(self._replies[-1])
            else:
                self._replies.clear()
            yield answer

    def round(self) -> bytes | None:
        """Read the round.

        Returns:
            Its bytes; None if they are too many to be of use.
        """
        if self._size > self._most:
            return None
        data = encode_round(self._asked, self._replies)
        return data if len(data) <= self._most else None


@dataclass(frozen=True, kw_only=True)
class Log:
    """The last rounds, without a gap, and the last round that each client is known to know.

    Args:
        known: Client -> round.
        rounds: Round -> bytes.
    """

    known: Mapping[int, int]
    rounds: Mapping[int, bytes]

    @classmethod
    def read(cls, slot: Mapping[str, Tensor]) -> Log:
        """Read the log from the server's memory.

        Args:
            slot: What ``write`` returned; empty at first.

        Returns:
            The log.
        """
        rounds = {int(n): data.cpu().numpy().tobytes() for n, data in slot.items() if n != KNOWN}
        return cls(known=dict(slot[KNOWN].tolist() if KNOWN in slot else []), rounds=rounds)

    def write(self) -> dict[str, Tensor]:
        """Write the log for the server's memory.

        Returns:
            Names of one slot, and tensors.
        """
        known = torch.tensor(list(self.known.items()), dtype=torch.int64).reshape(-1, 2)
        rounds = {
            str(n): torch.frombuffer(bytearray(data), dtype=torch.uint8) for n, data in self.rounds.items()
        }
        return {KNOWN: known, **rounds}

    def since(self, round: int, now: int) -> tuple[bytes, ...] | None:
        """List the rounds since one.

        Args:
            round: The first.
            now: The round that begins.

        Returns:
            Their bytes; None if one of them was dropped.
        """
        wanted = range(round, now)
        return tuple(self.rounds[n] for n in wanted) if self.rounds.keys() >= set(wanted) else None

    def after(self, number: int, data: bytes | None, knowing: Iterable[int], most: int) -> Log:
        """Add a round.

        Args:
            number: Which one.
            data: Its bytes; None if they are too many to be of use.
            knowing: Clients that have shown that they know its start.
            most: Bytes that the log may hold; the oldest rounds beyond them are dropped.

        Returns:
            The new log.
        """
        known = {**self.known, **dict.fromkeys(knowing, number)}
        if data is None:
            return Log(known=known, rounds={})
        rounds = {**self.rounds, number: data}
        while sum(map(len, rounds.values())) > most:
            del rounds[min(rounds)]
        return Log(known=known, rounds=rounds)
