"""How orders reach clients: with the weights in full, or with what a client needs to replay the rounds it missed.

The server's step is a pure function of its state and the replies, so a client that holds the state of an earlier round
and is told the replies since then arrives at the same state; ``catch_up.receive`` is its side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import digest
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.replay.codec import MAX_ASKED, CatchUp, encode_catch_up
from spry.federated.replay.holding import Holding
from spry.federated.replay.log import Log, Recorder, max_order_bytes
from spry.wire.codec import DIGEST_BYTES, encode_order
from spry.wire.messages import Answer, Order

Orders = Mapping[int, Order]
SLOT = "downlink"
"""The slot of the server's memory that holds the log, or who holds what is not sent again."""


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
    """Send every client all weights in every round, but those that no client trains only until it has answered once,
    and again when it did not answer: it may have lost them.

    Who holds them is part of the server's memory. Should they change all the same, everybody is sent them again.
    """

    def send(state: ServerState, orders: Orders, key: Key) -> Callable[[int], bytes]:
        still = algorithm.untrained(state.weights)
        holding = Holding.read(state.memory.get(SLOT, {}), still)
        return lambda client: encode_order(orders[client], still if client in holding.clients else ())

    def absorb(state: ServerState, orders: Orders, key: Key, answers: Iterable[Answer]) -> ServerState:
        still = algorithm.untrained(state.weights)
        if not still:
            return algorithm.absorb(state, answers)
        holding = Holding.read(state.memory.get(SLOT, {}), still)
        after = algorithm.absorb(state, holding.watch(orders, answers))
        return replace(after, memory={**after.memory, SLOT: holding.write(still)})

    return Downlink(send=send, absorb=absorb)


def by_slopes(algorithm: Algorithm, *, drawable: bool = True) -> Downlink:
    """Send each client the slopes of all clients since the last round it answered, or all weights if that is smaller.

    A client's round is the last one whose reply was absorbed, so a message that was lost costs nothing but bytes. A
    client that was sent all weights knows that round only if the server remembers nothing else (plain averaging); under
    an adaptive server it keeps the state it had, for the moments are not sent.

    The log is part of the server's memory, and checkpointed with it. A round is dropped from it once a message with
    that round in it would be larger than all weights, so it never holds more bytes than these.

    If the initial weights are ``drawable``, clients know round 0 before they are asked. An algorithm whose replies are
    not slopes is a ConfigError.
    """
    if algorithm.slopes_exact is None:
        raise ConfigError(
            f"server.send = 'slopes' needs replies of slopes, and those of {algorithm.name} are none as it is set. "
            "Set method.send = 'slopes' with spry, fedfgd or fedmezo, use spry_per_iteration, baffle or fwdllm, or set "
            "server.send = 'weights'"
        )

    def absorb(state: ServerState, orders: Orders, key: Key, answers: Iterable[Answer]) -> ServerState:
        max_bytes = max_order_bytes(algorithm, state.weights)
        offer, recorder = _Offer(algorithm, drawable, state, orders, key), Recorder(tuple(orders), max_bytes)
        after = algorithm.absorb(state, recorder.watch(answers))
        knowing = [c for c in recorder.answered if not algorithm.remembers or offer.catches_up(c)]
        log = offer.log.after(state.round, recorder.round(), knowing, max_bytes)
        return replace(after, memory={**after.memory, SLOT: log.write()})

    return Downlink(
        send=lambda state, orders, key: _Offer(algorithm, drawable, state, orders, key).message, absorb=absorb
    )


class _Offer:
    """What the clients of one round are sent: the shorter of two messages."""

    def __init__(
        self, algorithm: Algorithm, drawable: bool, state: ServerState, orders: Orders, key: Key
    ) -> None:
        assert algorithm.slopes_exact is not None  # or it has no log
        self.log = Log.read(state.memory.get(SLOT, {}))
        self._round, self._orders, self._key = state.round, orders, key
        self._at_first = 0 if drawable else None
        self._names, self._digest = list(state.weights), digest(state.weights, DIGEST_BYTES)
        self._exact = {n: w for n, w in state.weights.items() if n in algorithm.slopes_exact}

    def message(self, client: int) -> bytes:
        whole, short = encode_order(self._orders[client]), self._short(client)
        return whole if short is None or len(whole) < len(short) else short

    def catches_up(self, client: int) -> bool:
        short = self._short(client)
        return short is not None and len(short) <= len(encode_order(self._orders[client]))

    def _short(self, client: int) -> bytes | None:
        since = self.log.known.get(client, self._at_first)
        rounds = None if since is None else self.log.since(since, self._round)
        if since is None or rounds is None or len(self._orders) > MAX_ASKED:
            return None
        message = CatchUp(
            client=client,
            key=self._key,
            since=since,
            rounds=rounds,
            asked=tuple(self._orders),
            exact=self._exact if rounds else {},
            digest=self._digest,
        )
        return encode_catch_up(message, self._names)
