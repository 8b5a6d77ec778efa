"""How orders reach clients: with the weights in full, or with what a client needs to replay the rounds it missed.

The server's step is a pure function of its state and the replies, so a client that holds the state of an earlier round
and is told the replies since then arrives at the same state; ``catch_up.receive`` is its side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import digest
from spry.federated.algorithm import Algorithm, ServerState
from spry.wire.codec import encode_order
from spry.wire.history import DIGEST_BYTES, encode_catch_up, encode_reply, encode_round
from spry.wire.messages import Answer, CatchUp, Order

Orders = Mapping[int, Order]
SLOT, KNOWN = "downlink", "known"
"""The slot of the server's memory that holds the log, and the name in it of who knows which round."""


@dataclass(frozen=True, kw_only=True)
class Downlink:
    """The server's side of sending orders.

    Args:
        send: ``(state, orders, key) -> (client -> bytes)``: what each client of the round is sent.
        absorb: ``(state, orders, key, answers) -> state``: absorbs the round's replies, and remembers of them what
            later messages need.
    """

    send: Callable[[ServerState, Orders, Key], Callable[[int], bytes]]
    absorb: Callable[[ServerState, Orders, Key, Iterable[Answer]], ServerState]


def full(algorithm: Algorithm) -> Downlink:
    """Send every client all weights in every round.

    Args:
        algorithm: Any.

    Returns:
        The downlink.
    """
    return Downlink(
        send=lambda state, orders, key: lambda client: encode_order(orders[client]),
        absorb=lambda state, orders, key, answers: algorithm.absorb(state, answers),
    )


def by_slopes(algorithm: Algorithm, *, drawable: bool = True) -> Downlink:
    """Send each client the slopes of all clients since the last round it answered, or all weights if that is smaller.

    A client's round is the last one whose reply was absorbed, so a message that was lost costs nothing but bytes. A
    client that was sent all weights knows that round only if the server remembers nothing else (plain averaging);
    under an adaptive server it keeps the state it had, for the moments are not sent.

    The log is part of the server's memory, and checkpointed with it. A round is dropped from it once a message with
    that round in it would be larger than all weights, so it never holds more bytes than these.

    Args:
        algorithm: One whose replies are slopes.
        drawable: Whether clients can draw the initial weights themselves, and so know round 0 before they are asked.

    Returns:
        The downlink.

    Raises:
        ConfigError: If the algorithm's replies are not slopes.
    """
    if algorithm.measured is None:
        raise ConfigError(
            f"method.downlink = 'slopes' needs replies of slopes, and those of {algorithm.name} are none as it is set. "
            "Set method.slopes_only = true with spry, fedfgd or fedmezo and method.estimator = 'weight', use "
            "spry_per_iteration, baffle or fwdllm, or set method.downlink = 'weights'"
        )
    exact = algorithm.measured.exact

    def choose(state: ServerState, orders: Orders, key: Key) -> Callable[[int], tuple[bytes, bool]]:
        log, hashed = _Log.of(state), digest(state.weights, DIGEST_BYTES)
        moved = {name: weight for name, weight in state.weights.items() if name in exact}

        def chosen(client: int) -> tuple[bytes, bool]:
            whole, since = encode_order(orders[client]), log.known.get(client, 0 if drawable else None)
            if since is None or since < state.round - len(log.rounds):
                return whole, False
            message = CatchUp(
                client=client,
                key=key,
                since=since,
                rounds=tuple(log.rounds[number] for number in range(since, state.round)),
                asked=tuple(orders),
                exact=moved if since < state.round else {},
                digest=hashed,
            )
            short = encode_catch_up(message, list(state.weights))
            return (short, True) if len(short) <= len(whole) else (whole, False)

        return chosen

    def send(state: ServerState, orders: Orders, key: Key) -> Callable[[int], bytes]:
        chosen = choose(state, orders, key)
        return lambda client: chosen(client)[0]

    def absorb(state: ServerState, orders: Orders, key: Key, answers: Iterable[Answer]) -> ServerState:
        log, chosen = _Log.of(state), choose(state, orders, key)
        record = _Record(tuple(orders), ceiling(algorithm, state, orders))
        after = algorithm.absorb(state, record.watch(answers))
        for client in record.answered:
            if not algorithm.remembers or chosen(client)[1]:
                log.known[client] = state.round
        log.append(state.round, record)
        return replace(after, memory={**after.memory, SLOT: log.memory()})

    return Downlink(send=send, absorb=absorb)


def ceiling(algorithm: Algorithm, state: ServerState, orders: Orders) -> int:
    """Bound what an order with all weights takes in bytes, now and later.

    Args:
        algorithm: Whose orders they are.
        state: The server's state.
        orders: The orders of a round.

    Returns:
        The bytes of the largest order there can be; a log beyond them cannot win.
    """
    guessed = algorithm.measured is not None and algorithm.measured.pool > 1
    largest = replace(
        next(iter(orders.values())),
        round=2**62,
        client=2**62,
        trained=tuple(state.weights),
        hint=state.weights if guessed else None,
    )
    return len(encode_order(largest)) + 64


class _Record:
    """A round as it is absorbed, written down reply by reply while it is worth keeping."""

    def __init__(self, asked: tuple[int, ...], most: int) -> None:
        self.answered: list[int] = []
        self._asked, self.most, self._size = asked, most, 0
        self._replies: list[bytes] = []

    def watch(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        places = {client: place for place, client in enumerate(self._asked)}
        for answer in answers:
            client = answer.order.client
            self.answered.append(client)
            if self._size <= self.most:
                self._replies.append(encode_reply(answer.reply, places[client]))
                self._size += len(self._replies[-1])
            else:
                self._replies.clear()
            yield answer

    def data(self) -> bytes | None:
        """The round; None if it was too large to be of use."""
        data = encode_round(self._asked, self._replies) if self._size <= self.most else b""
        return data if 0 < len(data) <= self.most else None


@dataclass
class _Log:
    """The last rounds as bytes, and the last round that each client is known to know."""

    known: dict[int, int]
    rounds: dict[int, bytes]

    @classmethod
    def of(cls, state: ServerState) -> _Log:
        slot = dict(state.memory.get(SLOT, {}))
        known = slot.pop(KNOWN, torch.zeros(0, 2, dtype=torch.int64))
        rounds = {int(number): data.cpu().numpy().tobytes() for number, data in slot.items()}
        return cls({int(c): int(r) for c, r in known.tolist()}, rounds)

    def append(self, number: int, record: _Record) -> None:
        """Add a round, then drop from the oldest on what all weights would undercut."""
        data = record.data()
        if data is None:
            self.rounds.clear()
            return
        self.rounds[number] = data
        while sum(map(len, self.rounds.values())) > record.most:
            del self.rounds[min(self.rounds)]

    def memory(self) -> dict[str, Tensor]:
        rounds = {
            str(number): torch.frombuffer(bytearray(data), dtype=torch.uint8)
            for number, data in sorted(self.rounds.items())
        }
        return {KNOWN: torch.tensor(list(self.known.items()), dtype=torch.int64).reshape(-1, 2), **rounds}
